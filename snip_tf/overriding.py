"""A method of single layers, replaced for a while."""

import contextlib


@contextlib.contextmanager
def overridden(found, name, wrap):
    """Replaces a method of layers inside of the block.

    Args:
        found: The layers; or a module, of which a function is replaced.
        name: The name of the method.
        wrap: Takes a layer and its method, returns what is called instead.
    """
    before = [(layer, vars(layer).get(name)) for layer in found]
    try:
        for layer, _ in before:
            # In its dict, as Keras would track and lock an attribute.
            vars(layer)[name] = wrap(layer, getattr(layer, name))
        yield
    finally:
        for layer, own in before:
            vars(layer).pop(name, None)
            if own is not None:
                vars(layer)[name] = own
