"""Gradients on TensorFlow: by a tape. The others are compared with these."""

import functools

import tensorflow as tf


def compiled(function, model):
    """Returns a function that is traced for each kind of arguments."""
    del model
    # TensorFlow counts the traces of one code and warns of the fifth, whatever
    # they are of. A partial has no code.
    function = functools.partial(function)
    return tf.function(function, autograph=False, reduce_retracing=True)


def value_and_gradient(function, values):
    """See `snip_tf.gradients`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        value = function(values)
    return value, tape.gradient(value, values, unconnected_gradients="zero")
