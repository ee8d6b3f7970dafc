"""What is left of a pruned model: its weights and its multiply-adds."""

import dataclasses
import math

import keras

from snip_tf import _keras, kernel_uses, layers, tables
from snip_tf.layers.dense_weights import (
    NO_KERNELS,
    kernels_left_dense,
    path_in,
)


@dataclasses.dataclass(frozen=True)
class Weight:
    """One weight, as a row of a table.

    Attributes:
        name: Its path in the model, for example "fc1/kernel".
        shape: Its shape.
        kept: How many of its entries are not removed; in `flops`, not zero.
        inputs: How many of its input units (channels) are live, and how many
            it has. None for a bias, and in `flops`.
        outputs: The same for its output units.
        uses: How often one example uses each entry: a kernel of a convolution
            once at each position, that of a recurrent layer once a time step.
            In `flops` only.
    """

    name: str
    shape: tuple[int, ...]
    kept: int
    inputs: tuple[int, int] | None = None
    outputs: tuple[int, int] | None = None
    uses: int | None = None

    @property
    def weights(self):
        """How many entries it has, removed ones included."""
        return math.prod(self.shape)

    @property
    def sparsity(self):
        """The fraction of entries removed."""
        return 1 - self.kept / self.weights

    @property
    def dense(self):
        """The multiply-adds with every entry."""
        return self.weights * self.uses

    @property
    def effective(self):
        """The multiply-adds with the entries that are not zero."""
        return self.kept * self.uses


def _total(name):
    return property(lambda table: sum(getattr(row, name) for row in table.rows))


@dataclasses.dataclass(frozen=True)
class Summary:
    """The masked weights of a model; prints as a table.

    Attributes:
        rows: One `Weight` per mask, in the model's order.
        weights: The number of prunable weights, m in the paper.
        kept: The number of weights that are not removed, kappa in the paper.
        dense: The number of weights in layers without a mask, such as a user's
            own: only those of two or more axes, and no bias or scale.
        dense_layers: The paths of these layers in the model.
    """

    rows: tuple[Weight, ...]
    dense: int = 0
    dense_layers: tuple[str, ...] = ()

    weights = _total("weights")
    kept = _total("kept")

    @property
    def sparsity(self):
        """The fraction removed of the weights that have a mask."""
        return 1 - self.kept / self.weights

    def __str__(self):
        def cells(row):
            part = [f"{row.kept:,}", f"{row.weights:,}", f"{row.sparsity:.2%}"]
            if row is self or row.inputs is None:
                return part
            units = (row.inputs, row.outputs)
            return part + [f"{live}/{total}" for live, total in units]

        header = ("weight", "shape", "kept", "of", "sparsity", "in", "out")
        table = _table(header, self, cells)
        if self.dense:
            where = ", ".join(self.dense_layers)
            table += f"\nnot masked: {self.dense:,} weights in {where}"
        return table


@dataclasses.dataclass(frozen=True)
class Count:
    """The multiply-adds of a model for one example; prints as a table.

    Attributes:
        rows: One `Weight` per kernel, in the order of the first calls.
        dense: The multiply-adds with every entry.
        effective: The multiply-adds with the entries that are not zero.
        uncounted: The paths of other weights of two or more axes: those of
            layers that are not known here, or never called.
    """

    rows: tuple[Weight, ...]
    uncounted: tuple[str, ...] = ()

    dense = _total("dense")
    effective = _total("effective")

    @property
    def ratio(self):
        """The fraction of the multiply-adds left: effective / dense."""
        return self.effective / self.dense if self.dense else 1.0

    def __str__(self):
        def cells(row):
            ratio = f"{row.effective / row.dense:.2%}" if row.dense else ""
            return f"{row.dense:,}", f"{row.effective:,}", ratio

        header = ("weight", "shape", "multiply-adds", "nonzero", "ratio")
        table = _table(header, self, cells)
        if self.uncounted:
            table += f"\nnot counted: {', '.join(self.uncounted)}"
        return table


def _table(header, table, cells):
    rows = [
        (x.name, "x".join(map(str, x.shape)), *cells(x)) for x in table.rows
    ]
    rows = [header, *rows, ("total", "", *cells(table))]
    rows = [(*row, *[""] * (len(header) - len(row))) for row in rows]
    return tables.aligned(rows, text_columns=2)


def summary(model):
    """Returns per masked weight: shape, kept, sparsity and live units.

    An input or output unit (channel) of a kernel is live if at least one of
    its connections in that kernel is kept.

    >>> import keras, numpy as np, snip_tf
    >>> layer = snip_tf.layers.Dense(2, name="fc")
    >>> model = keras.Sequential([keras.Input((4,)), layer])
    >>> snip_tf.set_masks(model, [np.eye(4, 2)])
    >>> print(snip_tf.summary(model))
    weight     shape  kept  of  sparsity   in  out
    fc/kernel  4x2       2   8    75.00%  2/4  2/2
    total                2   8    75.00%

    Args:
        model: A built Keras model with masked layers.

    Raises:
        ValueError: If the model has no masks.
    """
    rows = []
    for layer in layers.masked_layers(model):
        for weight, mask in layer.masked_weights():
            kept = _nonzero(mask)
            axes = layer.unit_axes(weight) or ()
            units = [_live_units(kept, own) for own in axes]
            rows.append(_row(model, weight, kept, *units))
    left = kernels_left_dense(model)
    return Summary(tuple(rows), sum(left.values()), tuple(left))


def model_sparsity(model):
    """Returns the fraction of masked weights that are removed, in [0, 1)."""
    return summary(model).sparsity


def flops(model):
    """Returns the multiply-adds of one example in inference, per kernel.

    One multiply-add (MAC) is two FLOPs. Counted are the kernels of Dense,
    EinsumDense, convolutions of all kinds, SimpleRNN, LSTM and GRU, masked or
    plain, at every call of their layer, wherever it is nested or wrapped; so
    also the projections of MultiHeadAttention. An Embedding is a look-up: 0.
    As usual, each entry of a kernel counts at every position of the output
    (of the input, for a transpose), also where padding="same" has it meet
    zeros. Biases, activations, normalisation, pooling and the products of two
    activations, as in attention, are not counted.

    >>> import keras, snip_tf
    >>> layer = keras.layers.Conv2D(4, 3, name="conv")
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    >>> print(snip_tf.flops(model))  # at 6 x 6 positions
    weight       shape    multiply-adds  nonzero    ratio
    conv/kernel  3x3x3x4          3,888    3,888  100.00%
    total                         3,888    3,888  100.00%

    Args:
        model: A built Keras model, masked or plain, whose inputs have fixed
            shapes; subclassed only with one input. It runs once, on zeros,
            and is left as it is.

    Raises:
        ValueError: If the model is not built, has an input of unknown shape
            or no layer to count.
    """
    masks = {
        id(weight): mask
        for layer in _keras.all_layers(model)
        if isinstance(layer, layers.MaskedLayer)
        for weight, mask in layer.masked_weights()
    }
    rows, known = [], list(masks.values())
    for kernel, uses in kernel_uses.uses_of_kernels(model):
        kept = _nonzero(kernel) & _nonzero(masks.get(id(kernel), 1))
        rows.append(_row(model, kernel, kept, uses=uses))
        known.append(kernel)
    if not rows:
        raise ValueError(
            "`model` must have at least one layer that multiplies, such as a "
            f"Dense layer. Received: model={model.name!r}"
        )
    known = {id(weight) for weight in known}
    uncounted = [
        path_in(model, weight)
        for weight in model.weights
        if len(weight.shape) > 1
        and weight.name not in NO_KERNELS
        and id(weight) not in known
    ]
    return Count(tuple(rows), tuple(uncounted))


def _row(model, weight, kept, *units, **options):
    name = path_in(model, weight)
    return Weight(name, kept.shape, int(kept.sum()), *units, **options)


def _nonzero(array):
    return keras.ops.convert_to_numpy(array) != 0


def _live_units(kept, axes):
    axes = {axis % kept.ndim for axis in axes}
    live = kept.any(axis=tuple(set(range(kept.ndim)) - axes))
    return int(live.sum()), live.size
