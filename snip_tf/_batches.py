"""What is scored, checked at the boundary: the one place that refuses."""

import itertools

import keras
import numpy as np

from snip_tf import gradients

_NONE = "`x` must hold at least one batch. Received: none"


def check_can_score(model, loss):
    """Raises a ValueError if there is no loss to take a gradient of."""
    backend = keras.backend.backend()
    if backend not in gradients.BACKENDS:
        raise ValueError(
            "Scoring takes gradients, for which Keras' backend must be one of "
            f"{', '.join(gradients.BACKENDS)}. Received: backend={backend}"
        )
    if loss is None and not model.compiled:
        raise ValueError(
            "`model` must be compiled with a loss, or `loss` be given. "
            "Received: a model that is not compiled and loss=None"
        )
    if type(model).call is keras.Model.call:
        raise ValueError(
            "`model` must have a `call`, from whose outputs the loss is taken: "
            "score a model of those layers, with `loss`. "
            f"Received: model={model.name!r} of {type(model).__name__}"
        )
    if backend != "tensorflow":
        return
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    if tf.distribute.in_cross_replica_context() and not mirrored:
        raise ValueError(
            "In a strategy's scope, `strategy` must be a MirroredStrategy: "
            "several machines prune and `fit` under Keras' JAX backend, "
            "`--distribution=data_parallel` in scripts/train.py. Received: a "
            f"{type(strategy).__name__}"
        )


def checked(model, x, y, loss):
    """Yields the batches of `sensitivity`'s arguments, each (x, y[, weights]).

    Raises:
        ValueError: See `sensitivity`.
    """
    if y is not None:
        yield _checked_batch(model, (x, y), loss)
        return
    try:
        number = len(x)
    except TypeError as error:  # of an iterator, or an endless data set
        raise ValueError(
            "`x` must have a length, or it might never end: a list of some of "
            "its batches has, `list(itertools.islice(x, 10))`. "
            f"Received: a {type(x).__name__} ({error})"
        ) from error
    if not number:
        raise ValueError(_NONE)
    for batch in itertools.islice(x, number):
        yield _checked_batch(model, batch, loss)


def array_of(part):
    """Returns numbers in lists and tuples as an array.

    Lists and tuples of arrays stay: they are several inputs or outputs.
    """
    if not isinstance(part, (list, tuple)):
        return part
    has_arrays = part and len(getattr(part[0], "shape", ()))
    return part if has_arrays else np.asarray(part)


def as_numpy(part):
    """Returns numbers as an array of numpy, from an accelerator too."""
    if keras.ops.is_tensor(part):
        return keras.ops.convert_to_numpy(part)
    return np.asarray(part)


def first_inputs(x, y):
    """Returns the inputs of the one batch, or of the first of a sequence."""
    if y is not None or hasattr(x, "shape"):
        return x
    first = next(iter(x), None)
    if first is None:
        raise ValueError(_NONE)
    return first[0] if isinstance(first, (tuple, list)) else x


def size_of(batch):
    """Returns the number of examples of a batch."""
    return len(keras.tree.flatten(batch)[0])


def _checked_batch(model, batch, loss):
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise ValueError(
            "Without `y`, `x` must be a sequence of batches (inputs, targets) "
            "or (inputs, targets, sample weights). Received: a "
            f"{type(batch).__name__}"
        )
    batch = [array_of(part) for part in batch]
    for name, part in zip("xy", batch, strict=False):
        if part is None:
            raise ValueError(
                f"`{name}` must be given, or each batch of `x` have it, as the "
                f"loss needs it. Received: {name}=None"
            )
    # Once, from an accelerator; and JAX traces no other library's arrays.
    given = [part for part in batch if part is not None]
    batch = keras.tree.map_structure(as_numpy, tuple(given))
    for name, part in zip("xy", batch, strict=False):
        for values in keras.tree.flatten(part):
            is_text = name == "x" and values.dtype.kind in "OSU"
            if not is_text and not np.isfinite(values).all():
                raise ValueError(
                    f"`{name}` must hold finite numbers. Received: "
                    f"{np.count_nonzero(~np.isfinite(values))} of "
                    f"{values.size} values are NaN or infinite"
                )
    shapes = [tuple(np.shape(part)) for part in keras.tree.flatten(batch)]
    sizes = {shape[:1] for shape in shapes}
    if len(sizes) > 1 or sizes & {(), (0,)}:
        raise ValueError(
            "`x` and `y` must have one entry for each example, and one at "
            "least; a data set must be batched, `x.batch(100)`. "
            f"Received: shapes {shapes}"
        )
    _check_labels(model, batch[1], model.loss if loss is None else loss)
    return batch


def is_sparse(loss):
    """Returns whether a loss is the cross entropy of whole-number labels."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    return loss is keras.losses.sparse_categorical_crossentropy or isinstance(
        loss, keras.losses.SparseCategoricalCrossentropy
    )


def _check_labels(model, labels, loss):
    """Refuses integer labels that name no output, as TensorFlow may not."""
    if not is_sparse(loss):
        return
    outputs = getattr(model, "outputs", None) or ()
    if len(outputs) != 1:  # several, or not known
        return
    classes = outputs[0].shape[-1] or np.inf
    labels = as_numpy(keras.tree.flatten(labels)[0])
    if labels.ndim == len(outputs[0].shape) and labels.shape[-1] != 1:
        raise ValueError(
            "`y` must be labels for this loss; for one-hot targets there is "
            f"CategoricalCrossentropy. Received: shape={labels.shape}"
        )
    wrong = (labels < 0) | (labels >= classes) | (labels % 1 != 0)
    wrong &= labels != getattr(loss, "ignore_class", None)
    if wrong.any():
        raise ValueError(
            f"`y` must hold labels from 0 to {classes - 1}, as the model has "
            f"{classes} outputs. Received: a label {labels[wrong][0]}"
        )
