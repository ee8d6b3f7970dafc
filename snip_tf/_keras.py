"""Every private name of Keras that the library relies on."""

# The attribute in which a layer keeps its dtype policy.
DTYPE_POLICY = "_dtype_policy"


def all_layers(model):
    """Returns a model and the layers in it, nested ones included."""
    return model._flatten_layers()
