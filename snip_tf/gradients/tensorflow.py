"""Gradients on TensorFlow: by a tape. The others are compared with these."""

import functools

import tensorflow as tf


def compiled(function):
    """Returns the function as one that is traced at its first call."""
    # TensorFlow counts the traces of one code and warns of the fifth, whatever
    # they are of. A partial has no code.
    return tf.function(functools.partial(function), autograph=False)


def value_and_gradient(function, values):
    """See `snip_tf.gradients`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        value = function(values)
    return value, tape.gradient(value, values, unconnected_gradients="zero")
