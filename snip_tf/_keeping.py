"""A model that is run without a trace."""

import contextlib

import tensorflow as tf

from snip_tf import _keras


@contextlib.contextmanager
def left_as_it_was(model):
    """Puts back what layers hold beside their Keras variables.

    Their own attributes and lists, variables of TensorFlow and generators of
    random numbers. Keras variables are `keras.StatelessScope`'s business.
    """
    attributes = [vars(layer) for layer in _keras.all_layers(model)]
    before = [dict(own) for own in attributes]
    values = [value for own in before for value in own.values()]
    lists = [(one, list(one)) for one in values if isinstance(one, list)]
    variables = [
        one.state if isinstance(one, tf.random.Generator) else one
        for one in values
        if isinstance(one, (tf.Variable, tf.random.Generator))
    ]
    contents = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for own, earlier in zip(attributes, before, strict=True):
            own.clear()
            own.update(earlier)
        for one, earlier in lists:
            if len(one) != len(earlier):
                list.__setitem__(one, slice(None), earlier)
        for variable, value in zip(variables, contents, strict=True):
            variable.assign(value)
