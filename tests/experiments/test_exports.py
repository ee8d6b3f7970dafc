"""Networks whose logits are given, as the files of no engine."""

import numpy as np
import pytest

from snip_tf.experiments import exports

_IMAGES = np.zeros((250, 28, 28, 1), np.float32)
_LABELS = np.arange(250) % 10
_DENSE, _MASKED = ("keras", "dense"), ("keras", "masked")
_PRUNED = ("litert", "pruned")


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Compares networks that find the label 0, off by an offset at 3."""

    def load(path, format):
        logits = np.zeros(10, np.float32)
        logits[[0, 3]] = 1, float(path.suffixes[-1][1:]) * 2.0**-15
        return lambda images: lambda: np.tile(logits, (len(images), 1))

    def compare(offsets, **options):
        paths = {}
        for (format, network), offset in offsets.items():
            path = tmp_path / f"{format}-{network}.{offset}"
            path.write_bytes(bytes(1000))
            paths[format, network] = path
        return exports.compare(
            paths, _IMAGES, _LABELS, batch_sizes=(1, 100), rounds=1, **options
        )

    monkeypatch.setattr(exports, "load", load)
    return compare


def offsets(pruned=0):
    """Returns offsets in units of 2^-15; a dense network may have any."""
    dense = {_DENSE: 99_999, ("litert", "dense"): 99_999}
    return dense | {_MASKED: 0, _PRUNED: pruned}


def test_a_network_is_compared_with_the_masked_one(compare):
    rows = compare(offsets(pruned=1))
    found = {(row["format"], row["network"]): row for row in rows}
    assert list(found) == [_DENSE, _MASKED, ("litert", "dense"), _PRUNED]
    assert found[_MASKED]["difference"] == 0
    assert found[_PRUNED]["difference"] == 2**-15
    for key in (_MASKED, _PRUNED):
        assert found[key]["test_error"] == 90
    for row in rows:
        assert row["bytes"] == 1000
    assert found[_DENSE]["ratio_1"] == found[_DENSE]["ratio_100"] == 1


@pytest.mark.parametrize("offset", [7, 99_999, np.nan])
def test_other_logits_are_refused(compare, offset):
    """7 / 2^15 is just above the tolerance."""
    with pytest.raises(ValueError, match="must give the masked network's"):
        compare(offsets(pruned=offset))


def test_a_quantised_network_may_have_other_logits(compare):
    *_, row = compare(offsets(pruned=7), quantized=True)
    assert row["difference"] == 7 * 2**-15


def test_the_table_has_a_line_per_network(compare):
    rows = compare(offsets())
    header, dense, masked, *_ = exports.table(rows, (1, 100)).splitlines()
    milliseconds = f"{rows[0]['milliseconds_1']:.3f}"
    assert dense.split()[:6] == [
        *_DENSE,
        "1,000",
        milliseconds,
        "ms",
        "1.00",
    ]
    assert masked.split()[3:5] == ["0.0e+00", "90.00%"]
