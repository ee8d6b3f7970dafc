"""The gradient of a function of tensors, on the backend that Keras has.

A file a backend, named as Keras names it, with the same two functions.
"""

import contextlib
import contextvars
import importlib

import keras

BACKENDS = ("tensorflow", "jax", "torch")

_REUSED = contextvars.ContextVar("_REUSED")


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


def compiled(function, model):
    """Returns a function of tensors, traced where `fit` would trace the model.

    A trace frees what its gradients are done with: for a deep network half of
    the memory.

    Args:
        function: Takes and returns tensors. It may read the variables of the
            model, but nothing else that changes between calls.
        model: A Keras model.
    """
    if getattr(model, "run_eagerly", False):
        return function
    reused = _REUSED.get({})
    if function.__code__ not in reused:

        def of_state(state, *tensors):
            with keras.StatelessScope(zip(model.variables, state, strict=True)):
                return function(*tensors)

        reused[function.__code__] = _backend().compiled(of_state, model)
    traced = reused[function.__code__]

    def call(*tensors):
        # At its end Keras starts the variables that were made within, and not
        # in the trace.
        with keras.StatelessScope():
            return traced(tensors_of(model.variables), *tensors)

    return call


@contextlib.contextmanager
def reusing():
    """Has equal code, compiled again within the block, traced only once.

    All that it does must be for one model, loss and options.
    """
    token = _REUSED.set({})
    try:
        yield
    finally:
        _REUSED.reset(token)


def _backend():
    return importlib.import_module(f"{__name__}.{keras.backend.backend()}")
