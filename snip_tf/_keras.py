"""What the library uses of Keras beyond its public API, all in one place."""


def all_layers(model):
    """Returns a model or layer and all layers inside of it, in order."""
    return model._flatten_layers()
