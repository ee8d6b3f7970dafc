"""The gradient of a function of tensors, on the backend that Keras has.

A file a backend, named as Keras names it, with the same two functions.
"""

import importlib

import keras

BACKENDS = ("tensorflow", "jax", "torch")


def value_and_gradient(function, values):
    """Returns f(values), and its gradient with respect to each of the values.

    It nests: the function may itself take gradients with respect to its
    argument.

    Args:
        function: Takes a list of tensors, returns a scalar tensor.
        values: A list of floating point tensors.

    Returns:
        The scalar tensor, and a list of tensors of the values' shapes: zeros
        for those that the function does not depend on.
    """
    return _backend().value_and_gradient(function, values)


def tensors_of(variables):
    """Returns the values of variables, as what gradients can be taken of."""
    return [keras.ops.stop_gradient(variable.value) for variable in variables]


def as_flat_array(tensor):
    """Returns a tensor as a flat numpy array."""
    return keras.ops.convert_to_numpy(tensor).ravel()


def compiled(function):
    """Returns a function of tensors that may be quicker when called often."""
    return _backend().compiled(function)


def _backend():
    return importlib.import_module(f"{__name__}.{keras.backend.backend()}")
