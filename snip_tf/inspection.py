"""What is left of a pruned model, as numbers and as a table."""

import dataclasses
import math

import keras
import numpy as np

from snip_tf import layers, tables
from snip_tf.masks import get_masks


@dataclasses.dataclass(frozen=True)
class WeightSummary:
    """One masked weight.

    Attributes:
        name: Its path in the model, for example "fc1/kernel".
        shape: Its shape.
        kept: How many of its entries are not removed.
        inputs: How many input units (channels) it connects; None for a bias,
            and where an equation says what its axes mean.
        live_inputs: How many of them still have a connection.
        outputs: The same for its output units.
        live_outputs: The same for its output units.
    """

    name: str
    shape: tuple[int, ...]
    kept: int
    inputs: int | None = None
    live_inputs: int | None = None
    outputs: int | None = None
    live_outputs: int | None = None

    @property
    def weights(self):
        """How many entries it has, removed ones included."""
        return int(np.prod(self.shape))

    @property
    def sparsity(self):
        """The fraction of entries removed."""
        return 1 - self.kept / self.weights


@dataclasses.dataclass(frozen=True)
class Summary:
    """The masked weights of a model; prints as a table.

    Attributes:
        rows: One `WeightSummary` per mask, in the model's order.
    """

    rows: tuple[WeightSummary, ...]

    @property
    def weights(self):
        """The number of prunable weights, m in the paper."""
        return sum(row.weights for row in self.rows)

    @property
    def kept(self):
        """The number of weights that are not removed, kappa in the paper."""
        return sum(row.kept for row in self.rows)

    @property
    def sparsity(self):
        """The fraction of weights removed."""
        return 1 - self.kept / self.weights

    def __str__(self):
        header = ("weight", "shape", "kept", "of", "sparsity", "in", "out")
        cells = [header]
        for row in self.rows:
            units = ("", "")
            if row.live_inputs is not None:
                units = (
                    f"{row.live_inputs}/{row.inputs}",
                    f"{row.live_outputs}/{row.outputs}",
                )
            cells.append(
                (
                    row.name,
                    "x".join(map(str, row.shape)),
                    f"{row.kept:,}",
                    f"{row.weights:,}",
                    f"{row.sparsity:.2%}",
                    *units,
                )
            )
        total = (f"{self.kept:,}", f"{self.weights:,}", f"{self.sparsity:.2%}")
        cells.append(("total", "", *total, "", ""))
        return tables.aligned(cells, text_columns=2)


def summary(model):
    """Returns per masked weight: shape, kept, sparsity and live units.

    An input or output unit (channel) of a kernel is live if at least one of
    its connections in that kernel is kept.

    Args:
        model: A built Keras model with masked layers.

    Raises:
        ValueError: If the model has no masks.
    """
    return Summary(
        tuple(
            _summary_of(model, layer, weight, mask)
            for layer in layers.masked_layers(model)
            for weight, mask in layer.masked_weights()
        )
    )


def model_sparsity(model):
    """Returns the fraction of masked weights that are removed, in [0, 1)."""
    masks = get_masks(model)
    kept = sum(np.count_nonzero(mask) for mask in masks)
    return 1 - kept / sum(mask.size for mask in masks)


def _summary_of(model, layer, weight, mask):
    kept = keras.ops.convert_to_numpy(mask) != 0
    units = {}
    axes = layer.unit_axes(weight)
    if axes is not None:
        for name, own in zip(("inputs", "outputs"), axes, strict=True):
            own = tuple(axis % kept.ndim for axis in own)
            others = tuple(set(range(kept.ndim)) - set(own))
            units[name] = math.prod(kept.shape[axis] for axis in own)
            units[f"live_{name}"] = int(kept.any(axis=others).sum())
    return WeightSummary(
        # Keras puts the model first or not, as it was built or loaded.
        name=weight.path.removeprefix(f"{model.name}/"),
        shape=kept.shape,
        kept=int(kept.sum()),
        **units,
    )
