"""Recurrent layers as LiteRT takes them: one loop over time, any batch size."""

import functools

import keras
import tensorflow as tf

from snip_tf import _keras, overriding


def recurrent_layers(model):
    """Returns the recurrent layers of a model, nested ones included."""
    return [
        layer
        for layer in _keras.all_layers(model)
        if isinstance(layer, keras.layers.RNN)
    ]


def without_tensor_lists(model):
    """Replaces the loops of recurrent layers by `_loop` inside the block.

    The converter refuses the tensor lists of Keras' own loop unless the batch
    size is fixed, and unrolled layers make the file of an LSTM 3 times larger.
    """
    layers = recurrent_layers(model)
    return overriding.overridden(
        [
            one for one in layers if hasattr(one.cell, "output_size")
        ],  # no images
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
