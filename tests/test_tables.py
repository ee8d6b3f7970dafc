from snip_tf import tables


def test_text_starts_and_numbers_end_below_each_other():
    rows = [("name", "count"), ("a", "1"), ("bcdef", "100,000")]
    assert tables.aligned(rows).splitlines() == [
        "name     count",
        "a            1",
        "bcdef  100,000",
    ]


def test_no_line_ends_in_spaces():
    table = tables.aligned([("a", "long"), ("b", "")], text_columns=2)
    assert table.splitlines() == ["a  long", "b"]
