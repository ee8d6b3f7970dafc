"""LiteRT (TensorFlow Lite) files of pruned models, and what is in them.

TensorFlow's `Optimize.EXPERIMENTAL_SPARSITY` is not used. Where over 90% of a
fully connected weight's zeros fall into empty blocks (1x4 of float, 1x16 of
int8: 80%) it stores the other blocks. Then a layer whose number of inputs is no
multiple of the block computes wrong numbers, and a float16 one gives NaN
(TensorFlow 2.21). Here the converter writes dense weights, and what follows it
stores them by their non-zero entries: right for every shape, and smaller
unless the zeros come in blocks.
"""

import functools
import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf

from snip_tf import conversion, overriding
from snip_tf.exporting import litert_file
from snip_tf.exporting.litert_file import stored_weights

__all__ = ["QUANTIZATIONS", "check_options", "convert", "stored_weights"]

# What a file can be quantised to.
QUANTIZATIONS = ("float16", "int8")


def convert(model, *, quantization=None, calibration_data=None):
    """Returns a LiteRT file's bytes: zeros left out, the batch size free.

    It needs no more than LiteRT's own ops. Recurrent layers become one loop
    over time, so a weight is in the file once, and for any batch size. What
    computes in 16 bits under mixed precision does so in 32.

    Args:
        model: A built plain model, Sequential or functional, such as `strip`
            returns.
        quantization: None stores and computes float32. "float16" stores half
            of the bytes an entry and computes in float32, at the speed of a
            dense model. "int8" stores and computes integers between float32
            inputs and outputs. Its zeros stay in the file, as LiteRT 2.3 does
            not load it otherwise, and recurrent layers are refused: pruned
            GRUs made LiteRT abort, and states are rounded at every step.
        calibration_data: Example inputs, which "int8" takes the ranges of its
            activations from. An array, or an iterable of batches; a batch is
            an array, or a list of one array for each input of the model.

    Raises:
        ValueError: If `quantization` is unknown or not for this model, or
            `calibration_data` is missing or has no use.
    """
    check_options(model, quantization, calibration_data)
    if any("16" in one.compute_dtype for one in model._flatten_layers()):
        model = conversion.in_float32(model)  # LiteRT multiplies no halves
    # From concrete functions the converter would lose the weights of Keras 3.
    with tempfile.TemporaryDirectory() as directory:
        with _loops_without_tensor_lists(_recurrent_layers(model)):
            model.export(directory, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(directory)
        if quantization is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantization == "int8":
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS_INT8
            ]
            converter.representative_dataset = functools.partial(
                _examples, model, calibration_data
            )
        with warnings.catch_warnings():
            # To calibrate, TensorFlow uses what it wants to remove.
            warnings.filterwarnings(
                "ignore", r"\s*Warning: tf.lite.Interpreter"
            )
            flatbuffer = converter.convert()
    if quantization == "int8":
        return flatbuffer
    return litert_file.with_sparse_weights(flatbuffer)


def check_options(model, quantization, calibration_data):
    """Refuses what `convert` does not do, with its errors."""
    if quantization not in (None, *QUANTIZATIONS):
        raise ValueError(
            f"`quantization` must be None or one of "
            f"{', '.join(map(repr, QUANTIZATIONS))}. "
            f"Received: quantization={quantization!r}"
        )
    if (quantization == "int8") != (calibration_data is not None):
        given = "None" if calibration_data is None else "some"
        raise ValueError(
            "`calibration_data` must be example inputs if, and only if, "
            f"`quantization` is 'int8'. Received: calibration_data={given}, "
            f"quantization={quantization!r}"
        )
    recurrent = _recurrent_layers(model)
    if quantization == "int8" and recurrent:
        raise ValueError(
            "`quantization` must be None or 'float16' for a model with "
            "recurrent layers. Received: quantization='int8', "
            f"model={model.name!r} with layer {recurrent[0].name!r}"
        )


def _recurrent_layers(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.RNN)
    ]


def _examples(model, calibration_data):
    """Yields one example at a time as the converter wants its inputs."""
    is_array = hasattr(calibration_data, "shape")
    for batch in [calibration_data] if is_array else calibration_data:
        arrays = batch if isinstance(batch, (list, tuple)) else [batch]
        inputs = {
            tensor.name: np.asarray(array, tensor.dtype)
            for tensor, array in zip(model.inputs, arrays, strict=True)
        }
        for i in range(len(arrays[0])):
            example = {name: x[i : i + 1] for name, x in inputs.items()}
            # By name, as the file has its inputs in an order of its own.
            yield example if len(inputs) > 1 else list(example.values())


def _loops_without_tensor_lists(recurrent):
    """Replaces the loops of recurrent layers by `_loop` inside the block.

    The converter refuses the tensor lists of Keras' own loop unless the batch
    size is fixed, and unrolled layers make the file of an LSTM 3 times larger.
    """
    # Not those that loop over images.
    recurrent = [one for one in recurrent if hasattr(one.cell, "output_size")]
    return overriding.overridden(
        recurrent,
        "inner_loop",
        lambda layer, _: functools.partial(_loop, layer),
    )


def _loop(layer, sequences, initial_state, mask=None, training=False):
    """Returns what Keras' `RNN.inner_loop` does: last output, all, states."""
    length = sequences.shape[1] or tf.shape(sequences)[1]
    if isinstance(mask, (list, tuple)):
        mask = mask[0]
    output = tf.zeros(
        (tf.shape(sequences)[0], layer.cell.output_size), layer.compute_dtype
    )
    kept = length if layer.return_sequences else 1
    outputs = tf.repeat(output[:, None], kept, axis=1)

    def step(i, output, outputs, *states):
        time = length - 1 - i if layer.go_backwards else i
        new_output, new_states = layer.cell(
            tf.gather(sequences, time, axis=1),
            keras.tree.pack_sequence_as(initial_state, states),
        )
        new_states = keras.tree.flatten(new_states)
        if mask is not None:
            here = tf.gather(mask, time, axis=1)[:, None]
            skipped = output * (not layer.zero_output_for_mask)
            new_output = tf.where(here, new_output, skipped)
            new_states = [
                tf.where(here, new, old)
                for new, old in zip(new_states, states, strict=True)
            ]
        if layer.return_sequences:
            now = (tf.range(length) == i)[None, :, None]
            outputs = tf.where(now, new_output[:, None], outputs)
        return i + 1, new_output, outputs, *new_states

    _, output, outputs, *states = tf.while_loop(
        lambda i, *_: i < length,
        step,
        (0, output, outputs, *keras.tree.flatten(initial_state)),
    )
    return output, outputs, keras.tree.pack_sequence_as(initial_state, states)
