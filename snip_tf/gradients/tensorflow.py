"""Gradients on TensorFlow: by a tape. The others are compared with these."""

import functools

import tensorflow as tf

from snip_tf import overriding


def compiled(function, model):
    """Returns a function that is traced for each kind of arguments."""
    del model
    # TensorFlow counts the traces of one code and warns of the fifth, whatever
    # they are of. A partial has no code.
    function = functools.partial(function)
    return tf.function(function, autograph=False, reduce_retracing=True)


def value_and_gradient(function, values):
    """See `snip_tf.gradients`."""
    # What is recomputed, as in `keras.remat`, has gradients of its arguments
    # and variables alone.
    at_once = overriding.overridden([tf], "recompute_grad", lambda *_: _at_once)
    with at_once, tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        value = function(values)
    return value, tape.gradient(value, values, unconnected_gradients="zero")


def _at_once(function):
    return function
