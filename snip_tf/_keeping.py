"""A model that is run and left as it was."""

import contextlib

import keras

from snip_tf import _keras

# How what was in a container before is put back into it.
_PUT_BACK = {list: "extend", dict: "update", set: "update"}


@contextlib.contextmanager
def left_as_it_was(model):
    """Puts back what layers hold beside their Keras variables.

    Their own attributes, lists, dicts and sets, variables of TensorFlow and
    generators of random numbers. `keras.StatelessScope` keeps Keras variables.
    """
    attributes = [vars(layer) for layer in _keras.all_layers(model)]
    before = [dict(own) for own in attributes]
    values = [value for own in before for value in own.values()]
    containers = [
        (one, kind(one), put_back)
        for one in values
        for kind, put_back in _PUT_BACK.items()
        if isinstance(one, kind)
    ]
    variables = _variables_of_tensorflow(values)
    contents = [variable.numpy() for variable in variables]
    try:
        yield
    finally:
        for own, earlier in zip(attributes, before, strict=True):
            own.clear()
            own.update(earlier)
        for one, earlier, put_back in containers:
            # Keras looks at what is put in: not where nothing has changed.
            if _content(one) != _content(earlier):
                one.clear()
                getattr(one, put_back)(earlier)
        for variable, value in zip(variables, contents, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def without_regularizers(weights):
    """Takes the weights' regularizers away for the length of the block."""
    before = [weight.regularizer for weight in weights]
    try:
        for weight in weights:
            weight.regularizer = None
        yield
    finally:
        for weight, regularizer in zip(weights, before, strict=True):
            weight.regularizer = regularizer


def _content(container):
    """Returns what tells the content of a container from another: its ids."""
    if isinstance(container, dict):
        return [(key, id(value)) for key, value in container.items()]
    ids = [id(value) for value in container]
    return sorted(ids) if isinstance(container, set) else ids


def _variables_of_tensorflow(values):
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow as tf

    return [
        one.state if isinstance(one, tf.random.Generator) else one
        for one in values
        if isinstance(one, (tf.Variable, tf.random.Generator))
    ]
