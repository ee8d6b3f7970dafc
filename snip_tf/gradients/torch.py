"""Gradients on PyTorch: of tensors that require one."""

import torch


def compiled(function, model):
    """Returns the function as it is: compiling takes longer than it saves."""
    del model
    return function


def value_and_gradient(function, values):
    """See `snip_tf.gradients`."""
    # Then they are those of another gradient, which goes through this one.
    nested = any(value.requires_grad for value in values)
    if not nested:
        values = [value.detach().requires_grad_() for value in values]
    with torch.enable_grad():
        value = function(values)
        if not value.requires_grad:  # it depends on none of them
            return value, [torch.zeros_like(one) for one in values]
        return value, torch.autograd.grad(
            value,
            values,
            create_graph=nested,
            allow_unused=True,
            materialize_grads=True,
        )
