"""The table of what is in a LiteRT file."""

from litert_reader import stored_weights
from test_litert import known

from snip_tf.exporting import litert


def test_it_has_a_line_per_weight_and_a_total():
    file = known()[1]
    lines = litert.stored_weights(file).splitlines()
    assert len(lines) == 5
    rows = {line.split()[1]: line.split()[2:] for line in lines[1:-1]}
    assert rows == {
        "16x3x3x4": "float32 entries dense 395".split(),
        "128x256": "float32 entries sparse 629".split(),
        "10x128": "float32 entries dense 3,022".split(),
    }
    total = sum(row.bytes for row in stored_weights(file))
    assert lines[-1].split() == ["total", f"{total:,}"]


def test_it_says_what_is_stored_whole():
    file = litert.convert(known()[0], dense=True)
    rows = litert.stored_weights(file).splitlines()[1:-1]
    assert [row.split()[2:-1] for row in rows] == [
        ["float32", "all", "dense"]
    ] * 3
