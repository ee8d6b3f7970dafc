"""Networks whose logits are given, as the files of no engine."""

import numpy as np
import pytest

import snip_tf
from snip_tf.experiments import comparison, engines

_IMAGES = np.zeros((250, 28, 28, 1), np.float32)
_LABELS = np.arange(250) % 10
_LOGITS = np.eye(10, dtype=np.float32)


def case(directory, network, offset=0.0, **options):
    """Returns a network that always finds the label 0, by a margin of 1."""
    (directory / "model.keras").write_bytes(bytes(1000))
    loaded = engines.Loaded(
        logits=lambda images: np.tile(
            _LOGITS[0] + np.float32(offset) * _LOGITS[3], (len(images), 1)
        ),
        numbers=7,
    )
    model = snip_tf.models.build("lenet_300_100")
    return comparison.Case(
        "keras", network, directory, model, loaded, **options
    )


def compare(*cases):
    return comparison.compare(
        cases, _IMAGES, _LABELS, batch_sizes=(1, 100), rounds=1
    )


def test_a_network_is_compared_with_the_masked_one(tmp_path):
    names, offsets = ("dense", "masked", "pruned"), (5, 0, 2**-15)
    rows = compare(
        *(
            case(tmp_path, name, offset)
            for name, offset in zip(names, offsets, strict=True)
        )
    )
    assert [row["network"] for row in rows] == list(names)
    assert [row["difference"] for row in rows] == [None, 0, 2**-15]
    assert [row["test_error"] for row in rows] == [None, 90.0, 90.0]
    for row in rows:
        assert (row["bytes"], row["numbers"]) == (1000, 7)
        assert row["gzip_bytes"] < 100
        assert row["multiply_adds"] == row["nonzero_multiply_adds"] == 266_200
    assert rows[0]["ratio_1"] == rows[0]["ratio_100"] == 1


@pytest.mark.parametrize("offset", [2e-4, np.nan])
def test_other_logits_are_refused(tmp_path, offset):
    cases = [case(tmp_path, "dense"), case(tmp_path, "masked")]
    with pytest.raises(ValueError, match="must give the masked network's"):
        compare(*cases, case(tmp_path, "pruned", offset))


def test_a_quantised_network_may_have_other_logits(tmp_path):
    cases = [case(tmp_path, "dense"), case(tmp_path, "masked")]
    *_, row = compare(*cases, case(tmp_path, "pruned", 0.25, quantized=True))
    assert row["difference"] == 0.25


def test_the_tables_have_a_line_per_network(tmp_path):
    rows = compare(case(tmp_path, "dense"), case(tmp_path, "masked"))
    header, dense, masked = comparison.table_of_sizes(rows).splitlines()
    gzip = f"{rows[0]['gzip_bytes']:,}"
    assert dense.split() == ["keras", "dense", "1,000", gzip, "7"] + 2 * [
        "266,200"
    ]
    header, dense, masked = comparison.table_of_times(
        rows, (1, 100)
    ).splitlines()
    assert masked.split()[:4] == ["keras", "masked", "0.0e+00", "90.00%"]
    milliseconds = f"{rows[0]['milliseconds_1']:.3f}"
    assert dense.split()[2:5] == [milliseconds, "ms", "1.00"]
