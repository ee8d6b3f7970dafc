"""Every private name of Keras that the library relies on, layers' own aside.

`tests/test_keras.py` says which one is gone when Keras changes.
"""

import collections
import io

import keras
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.saving import saving_lib

# The attribute in which a layer keeps its dtype policy.
DTYPE_POLICY = "_dtype_policy"


def all_layers(model):
    """Returns a model or layer and all that it contains, each once, in order.

    In order means depth first: a layer, what is inside of it, the next one.
    """
    if not isinstance(model, keras.Layer):  # what every model comes through
        raise ValueError(f"`model` must be a Keras model. Received: {model!r}")
    found, stack = [], collections.deque([model])
    seen = set()
    while stack:
        layer = stack.popleft()
        if id(layer) not in seen:
            seen.add(id(layer))
            found.append(layer)
            stack.extendleft(reversed(sublayers(layer)))
    return found


def sublayers(layer):
    """Returns the layers that a layer holds itself, in attributes and lists."""
    return layer._layers


def graph_nodes(model):
    """Returns the calls of a Sequential or functional model, inputs first.

    Each has an `operation`, its `arguments.args` and `arguments.kwargs`, and
    flat lists of `input_tensors` and `outputs`.
    """
    by_depth = keras.Function(model.inputs, model.outputs)._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input
    ]


def read_by_graph(model):
    """Returns the variables that the calls of a functional model are given."""
    by_depth = getattr(model, "_nodes_by_depth", {})
    arguments = [
        (node.arguments.args, node.arguments.kwargs)
        for nodes in by_depth.values()
        for node in nodes
    ]
    return [
        one
        for one in keras.tree.flatten(arguments)
        if isinstance(one, keras.Variable)
    ]


def history(tensor):
    """Returns where a symbolic tensor comes from: its `operation`."""
    return tensor._keras_history


def as_file(model):
    """Returns the bytes of a model's .keras file.

    In memory: on a full disc, h5py can end the whole process.
    """
    file = io.BytesIO()
    saving_lib.save_model(model, file)
    return file.getvalue()


def padding_mask(tensor):
    """Returns the mask of padded time steps of a tensor, None without one."""
    return getattr(tensor, "_keras_mask", None)


def is_training(layer):
    """Returns whether a layer that is being called is in training mode.

    Keras tells those alone whose `call` takes `training`.
    """
    return bool(layer._get_call_context().get_value("training"))


def steps_of(optimizer):
    """Returns the steps that an optimizer has behind it, whatever the scope."""
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def unlocked(layer):
    """Lets a built layer take new variables; returns it."""
    layer._tracker.unlock()
    return layer


def track(layer, variable):
    """Adds a variable to those of a layer, after the others of its kind."""
    unlocked(layer)._track_variable(variable)


def variable_lists(layer):
    """Returns the lists of a layer's own variables, trainable ones first."""
    return layer._trainable_variables, layer._non_trainable_variables


def place_alike(variable, like):
    """Places a variable on the devices as another one of its shape."""
    layout = getattr(like, "_layout", None)
    if layout is not None:  # on JAX, in the scope of a distribution
        variable._layout = layout
        variable.assign(variable)


def untrack(layer, variable):
    """Takes a variable, or a layer, away from a layer."""
    unlocked(layer)._tracker.untrack(variable)


def compute_loss(model, x, y, outputs, sample_weight, training):
    """Returns the compiled loss, whether or not a model's own takes a mode.

    That of the whole batch, also in the scope of a `tf.distribute` strategy,
    where Keras divides it by the number of replicas.
    """
    return unscale_loss_for_distribution(
        model._compute_loss(x, y, outputs, sample_weight, training=training)
    )


def optimizers_of(optimizer, weights):
    """Returns the optimizers that train weights, without what wraps them."""
    # Under mixed precision Keras wraps it.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    chosen_for = getattr(optimizer, "_optimizer_map", None)
    if chosen_for is None:
        return [optimizer]
    return [chosen_for(weight) for weight in weights]


def slots(optimizer):
    """Yields (weight, variable) for all that an optimizer keeps of weights."""
    weights = optimizer._trainable_variables
    for kept in vars(optimizer).values():
        if isinstance(kept, list) and len(kept) == len(weights):
            for weight, slot in zip(weights, kept, strict=True):
                if isinstance(slot, keras.Variable) and slot is not weight:
                    yield weight, slot
    inner = getattr(optimizer, "inner_optimizer", None)
    for each in [inner] if inner else getattr(optimizer, "optimizers", ()):
        yield from slots(each)


def forget_optimizer(model):
    """Makes a model one that is not compiled, as its variables are others."""
    model.optimizer, model.compiled = None, False
