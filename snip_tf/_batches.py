"""What is scored, checked at the boundary: the one place that refuses."""

import itertools

import keras
import numpy as np
import tensorflow as tf


def check_can_score(model, loss):
    """Raises a ValueError if there is no loss to take a gradient of."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Scoring needs Keras' TensorFlow backend; a network pruned and "
            "saved there trains on any. "
            f"Received: backend={keras.backend.backend()}"
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
    if tf.distribute.in_cross_replica_context():
        raise ValueError(
            "Scoring must be outside of `strategy.scope()`; from there masks "
            "reach every replica. Received: the scope of a "
            f"{type(tf.distribute.get_strategy()).__name__}"
        )


def checked(model, x, y, loss):
    """Yields the batches of `sensitivity`'s arguments, each (x, y[, weights]).

    Raises:
        ValueError: See `sensitivity`.
    """
    if y is not None:
        yield _checked_batch(model, (x, y), loss)
        return
    if hasattr(x, "shape") and hasattr(x, "dtype"):
        raise ValueError(
            "`y` must be given with one batch `x`; without it `x` is a "
            "sequence of batches. Received: one array and y=None"
        )
    number = _number_of(x)
    if not number:
        raise ValueError("`x` must hold at least one batch. Received: none")
    for batch in itertools.islice(x, number):
        yield _checked_batch(model, batch, loss)


def size_of(batch):
    """Returns the number of examples of a batch."""
    return len(keras.tree.flatten(batch)[0])


def _number_of(batches):
    try:
        return len(batches)
    except TypeError as error:  # of an iterator, or an endless data set
        raise ValueError(
            "`x` must have a length, or it might never end: a list of some of "
            "its batches has, `list(itertools.islice(x, 10))`. "
            f"Received: a {type(batches).__name__} ({error})"
        ) from error


def _checked_batch(model, batch, loss):
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise ValueError(
            "`x` must be a sequence of batches (inputs, targets) or (inputs, "
            f"targets, sample weights). Received: a {type(batch).__name__}"
        )
    # Lists of numbers are arrays; those of arrays are inputs or outputs.
    batch = [
        np.asarray(part)
        if isinstance(part, list) and not hasattr(part[0], "shape")
        else part
        for part in batch
    ]
    for name, part in zip("xy", batch, strict=False):
        if part is None:
            raise ValueError(
                f"`{name}` of a batch must be given, as the loss needs it. "
                f"Received: {name}=None"
            )
        for values in map(np.asarray, keras.tree.flatten(part)):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(
                    f"`{name}` must hold finite numbers. Received: "
                    f"{np.count_nonzero(~np.isfinite(values))} of "
                    f"{values.size} values are NaN or infinite"
                )
    batch = tuple(part for part in batch if part is not None)
    sizes = {len(values) for values in keras.tree.flatten(batch)}
    if 0 in sizes:
        raise ValueError("A batch must hold at least one example. Received: 0")
    if len(sizes) > 1:
        raise ValueError(
            "`x` and `y` must have one entry for each example. Received: "
            + " and ".join(str(size) for size in sorted(sizes))
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
    labels = np.asarray(keras.tree.flatten(labels)[0])
    wrong = (labels < 0) | (labels >= classes)
    wrong &= labels != getattr(loss, "ignore_class", None)
    if wrong.any():
        raise ValueError(
            f"`y` must hold labels from 0 to {classes - 1}, as the model has "
            f"{classes} outputs. Received: a label {labels[wrong][0]}"
        )
