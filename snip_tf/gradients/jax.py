"""Gradients on JAX: of a pure function."""

import jax


def compiled(function, model):
    """Returns a function that is traced; as it is if a layer forbids that."""
    return (
        jax.jit(function) if getattr(model, "jit_compile", True) else function
    )


def value_and_gradient(function, values):
    """See `snip_tf.gradients`."""
    return jax.value_and_grad(function)(values)
