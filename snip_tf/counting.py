"""How much a model computes: the multiply-adds of its weights."""

import contextlib
import dataclasses
import functools
import math

import keras
import numpy as np

from snip_tf import layers, overriding, tables

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_TRANSPOSES = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
# `Bidirectional` itself, as on some devices it runs both its layers at once.
_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)
_CELLS = (
    keras.layers.SimpleRNNCell,
    keras.layers.LSTMCell,
    keras.layers.GRUCell,
)
_COUNTED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Embedding,
    *_CONVOLUTIONS,
    *_TRANSPOSES,
    *_RECURRENT,
)
_KERNELS = (
    "kernel",
    "recurrent_kernel",
    "depthwise_kernel",
    "pointwise_kernel",
    "embeddings",
)
# Added to or scaling what is there, whatever their rank.
_VECTORS = ("bias", "gamma", "beta")


@dataclasses.dataclass(frozen=True)
class WeightCount:
    """The multiply-adds of one weight.

    Attributes:
        name: Its path in the model, for example "fc1/kernel".
        shape: Its shape.
        nonzero: How many of its entries are not zero.
        uses: How often one example uses each entry: a kernel of a convolution
            once at each position, that of a recurrent layer once a time step.
    """

    name: str
    shape: tuple[int, ...]
    nonzero: int
    uses: int

    @property
    def dense(self):
        """The multiply-adds with every entry."""
        return math.prod(self.shape) * self.uses

    @property
    def effective(self):
        """The multiply-adds with the entries that are not zero."""
        return self.nonzero * self.uses


@dataclasses.dataclass(frozen=True)
class Count:
    """The multiply-adds of a model for one example; prints as a table.

    Attributes:
        rows: One `WeightCount` per kernel, in the order of the first calls.
        uncounted: The paths of other weights of two or more axes: those of
            layers that are not known here, or never called.
    """

    rows: tuple[WeightCount, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def dense(self):
        """The multiply-adds with every entry."""
        return sum(row.dense for row in self.rows)

    @property
    def effective(self):
        """The multiply-adds with the entries that are not zero."""
        return sum(row.effective for row in self.rows)

    @property
    def ratio(self):
        """The fraction of the multiply-adds left: effective / dense."""
        return self.effective / self.dense if self.dense else 1.0

    def __str__(self):
        cells = [("weight", "shape", "multiply-adds", "nonzero", "ratio")]
        for row in self.rows:
            shape = "x".join(map(str, row.shape))
            cells.append((row.name, shape, *_cells_of(row)))
        cells.append(("total", "", *_cells_of(self)))
        table = tables.aligned(cells, text_columns=2)
        if self.uncounted:
            table += f"\nnot counted: {', '.join(self.uncounted)}"
        return table


def flops(model):
    """Returns the multiply-adds of one example in inference, per weight.

    One multiply-add (MAC) is two FLOPs. Counted are the kernels of Dense,
    EinsumDense, convolutions of all kinds, SimpleRNN, LSTM and GRU, masked or
    plain, at every call of their layer, wherever it is nested or wrapped; so
    also the projections of MultiHeadAttention. An Embedding is a look-up: 0.
    As usual, each entry of a kernel counts at every position of the output
    (of the input, for a transpose), also where padding="same" has it meet
    zeros. Biases, activations, normalisation, pooling and the products of two
    activations, as in attention, are not counted.

    The model runs once, on zeros, and is left as it is.

    Args:
        model: A built Keras model, masked or plain, whose inputs have fixed
            shapes; subclassed only with one input.

    Returns:
        A `Count`.

    Raises:
        ValueError: If the model is not built, has an input of unknown shape
            or no layer to count.
    """
    inputs, batch_size = _one_batch(model)
    with _recorded_calls(model) as calls, keras.StatelessScope():
        model(inputs)
    uses = {}
    for layer, input_shape, output_shape in calls:
        for owner, weight in _kernels(layer):
            times = _uses(layer, weight, input_shape, output_shape)
            _, _, before = uses.get(id(weight), (owner, weight, 0))
            uses[id(weight)] = owner, weight, before + times
    if not uses:
        raise ValueError(
            "`model` must have at least one layer that multiplies, such as a "
            f"Dense layer. Received: model={model.name!r}"
        )
    rows = [
        WeightCount(
            name=_path(model, weight),
            shape=tuple(weight.shape),
            # Of a masked layer this reads as weight * mask.
            nonzero=_count_nonzero(getattr(owner, weight.name)),
            uses=times // batch_size,
        )
        for owner, weight, times in uses.values()
    ]
    return Count(tuple(rows), _uncounted(model, uses))


def _one_batch(model):
    """Returns zeros as the model's inputs, and how many examples they are."""
    shape = (model.get_build_config() or {}).get("input_shape")
    if isinstance(model, keras.Sequential) and model.built:
        inputs = model.inputs[0]
    elif getattr(model, "inputs", None):
        inputs = model.input  # as it is called: one tensor, a list, a dict
    elif model.built and shape and isinstance(shape[0], int | None):
        inputs = keras.KerasTensor(shape, name=model.name)
    else:
        raise ValueError(
            "`model` must be built: call it, or give it an Input; a subclassed "
            f"one must take one input. Received: model={model.name!r}"
        )
    flat = keras.tree.flatten(inputs)
    for tensor in flat:
        if None in tensor.shape[1:]:
            raise ValueError(
                "`model` must have inputs of fixed shapes, the batch aside, as "
                "the count depends on them: build it with every size given to "
                "`keras.Input`. Received: input "
                f"{tensor.name!r} of shape {tuple(tensor.shape)}"
            )
    # Stateful layers have a batch size of their own.
    batch_size = flat[0].shape[0] or 1
    zeros = keras.tree.map_structure(
        lambda tensor: keras.ops.zeros(
            (tensor.shape[0] or 1, *tensor.shape[1:]), dtype=tensor.dtype
        ),
        inputs,
    )
    return zeros, batch_size


@contextlib.contextmanager
def _recorded_calls(model):
    """Gives a list that fills with (layer, input shape, output shape)."""
    calls, running = [], []

    def recording(layer, call):
        @functools.wraps(call)
        def call_and_record(*args, **kwargs):
            running.append(layer)
            try:
                outputs = call(*args, **kwargs)
            finally:
                running.pop()
            if not running:  # else a part of what is counted as a whole
                inputs = (*args, *kwargs.values())
                shapes = (
                    tuple(keras.tree.flatten(tensors)[0].shape)
                    for tensors in (inputs, outputs)
                )
                calls.append((layer, *shapes))
            return outputs

        return call_and_record

    found = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, _COUNTED)
    ]
    with overriding.overridden(found, "call", recording):
        yield calls


def _kernels(layer):
    """Returns (layer or cell, kernel) pairs of a layer that is counted."""
    owners = [layer]
    if isinstance(layer, _RECURRENT):
        inner = layer._flatten_layers()
        owners = [cell for cell in inner if isinstance(cell, _CELLS)]
    return [
        (owner, weight)
        for owner in owners
        for weight in owner.weights
        if weight.name in _KERNELS
    ]


def _uses(layer, weight, input_shape, output_shape):
    """Returns how often one call uses each entry of a kernel.

    All sizes count, the batch too: of one example, a model may make many.
    """
    if isinstance(layer, keras.layers.Embedding):
        return 0
    if isinstance(layer, keras.layers.Dense):
        return math.prod(input_shape[:-1])
    if isinstance(layer, keras.layers.EinsumDense):
        terms, _ = layer.equation.replace(" ", "").split("->")
        inputs, kernel = terms.split(",")
        summed = [
            size
            for axis, size in zip(kernel, weight.shape, strict=True)
            if axis in inputs
        ]
        return math.prod(input_shape) // math.prod(summed)
    if isinstance(layer, _RECURRENT):
        return math.prod(input_shape[:2])
    shape = input_shape if isinstance(layer, _TRANSPOSES) else output_shape
    channels = 1 if layer.data_format == "channels_first" else -1
    return math.prod(shape) // shape[channels]


def _uncounted(model, counted):
    """Returns the paths of the weights of two or more axes not counted."""
    known = set(counted)
    for layer in model._flatten_layers():
        if isinstance(layer, layers.MaskedLayer):
            known.update(id(mask) for _, mask in layer.masked_weights())
    return tuple(
        _path(model, weight)
        for weight in model.weights
        if len(weight.shape) > 1
        and weight.name not in _VECTORS
        and id(weight) not in known
    )


def _path(model, weight):
    # Keras puts the model first or not, as it was built or loaded.
    return weight.path.removeprefix(f"{model.name}/")


def _count_nonzero(weight):
    return int(np.count_nonzero(keras.ops.convert_to_numpy(weight)))


def _cells_of(row):
    ratio = f"{row.effective / row.dense:.2%}" if row.dense else ""
    return f"{row.dense:,}", f"{row.effective:,}", ratio
