"""Connection sensitivity: one backward pass with respect to the masks.

Lee et al. 2019, eq. 5-6: s_j = |dL/dc_j| / sum_k |dL/dc_k|, taken at c = 1.
"""

import weakref

import keras
import numpy as np
import tensorflow as tf

from snip_tf import layers

# Traced scoring functions, by model and then by (loss, mode). A trace costs
# far more than a pass, and is of no use once its model is gone.
_TRACED = weakref.WeakKeyDictionary()


def sensitivity(model, x, y=None, *, loss=None, training=False):
    """Returns the connection sensitivity of every masked weight.

    The scores say how much the loss would change, to first order, if a
    connection were weakened (Lee et al. 2019, eq. 5-6). The model is left as
    it was, whatever the mode.

    Args:
        model: A built Keras model with masked layers.
        x: One batch of inputs, or, with `y=None`, an iterable of batches
            `(x, y)` such as a finite `tf.data.Dataset`. Over several batches
            the signed gradients are averaged, weighted by batch size, before
            the absolute value is taken: the gradient of the loss over all the
            examples.
        y: The targets of the one batch.
        loss: A Keras loss, its name, or a function of (targets, outputs). By
            default the loss that the model was compiled with. Weight decay
            plays no part: it does not depend on the masks.
        training: Whether layers run in training mode. Off by default, as in
            the authors' code: batch normalisation then uses its moving
            statistics and dropout passes everything.

    Returns:
        A list with one float32 numpy array per mask, of its shape, in the
        order of `get_masks(model)`. All are non-negative; together they sum
        to 1.

    Raises:
        ValueError: If the model has no masks or no loss, if the inputs hold
            NaN or infinity, if a label is not one of the classes, or if the
            gradients are not finite or all zero.
    """
    masks = [mask for _, mask in layers.masked_weights(model)]
    gradient_of = _traced_gradient(model, loss, training)
    # In training mode layers write: moving averages, seeds of dropout.
    ids = {id(mask) for mask in masks}
    state = [
        (variable, variable.numpy())
        for variable in model.non_trainable_variables
        if id(variable) not in ids
    ]
    total, examples = None, 0
    try:
        for x_batch, y_batch in x if y is None else [(x, y)]:
            _check_batch(model, x_batch, y_batch, loss)
            size = len(y_batch)
            gradient = gradient_of(x_batch, y_batch).numpy()
            if y is None:
                # In double precision, so that the order of the batches and
                # where they are cut move no more than a score's last bits.
                gradient = size * gradient.astype(np.float64)
            total = total + gradient if examples else gradient
            examples += size
    finally:
        for variable, value in state:
            variable.assign(value)
    if not examples:
        raise ValueError("`x` must hold at least one batch. Received: none")
    return _normalised(total, [mask.shape for mask in masks])


def _traced_gradient(model, loss, training):
    """Returns the compiled function (x, y) -> dL/dc as one flat tensor."""
    if loss is None and not model.compiled:
        raise ValueError(
            "`model` must be compiled with a loss, or `loss` be given. "
            "Received: a model that is not compiled and loss=None"
        )
    traced = _TRACED.setdefault(model, {})
    # Compiling a model anew gives it a new loss object and so a new trace.
    loss_function = model._compile_loss if loss is None else loss
    key = (id(loss_function), bool(training))
    if key not in traced:
        # The loss is kept beside its trace so that its id stays its own.
        traced[key] = loss_function, _trace_gradient(model, loss, training)
    return traced[key][1]


def _trace_gradient(model, loss, training):
    # A strong reference would keep the model alive in its own cache entry.
    model_reference = weakref.ref(model)
    given_loss = None if loss is None else keras.losses.get(loss)

    @tf.function(autograph=False, reduce_retracing=True)
    def gradient_of(x, y):
        model = model_reference()
        masks = [mask.value for _, mask in layers.masked_weights(model)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(masks)
            outputs = model(x, training=training)
            if given_loss is None:
                value = model.compute_loss(x, y, outputs, training=training)
            else:
                value = tf.reduce_mean(given_loss(y, outputs))
        gradients = tape.gradient(
            value, masks, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)

    return gradient_of


def _check_batch(model, x, y, loss):
    for values in tf.nest.flatten(x):
        values = np.asarray(values)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(
                "`x` must hold finite numbers. Received: "
                f"{np.count_nonzero(~np.isfinite(values))} of {values.size} "
                "values are NaN or infinite"
            )
    classes = _classes(model, model.loss if loss is None else loss)
    if classes is not None:
        labels = np.asarray(y)
        wrong = labels[(labels < 0) | (labels >= classes)]
        if wrong.size:
            raise ValueError(
                f"`y` must hold labels from 0 to {classes - 1}, as the model "
                f"has {classes} outputs. Received: a label {wrong.flat[0]}"
            )


def _classes(model, loss):
    """Returns how many classes integer labels may name, None if none do."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if (
        isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
        or loss is keras.losses.sparse_categorical_crossentropy
    ):
        shape = getattr(model, "output_shape", None)
        return shape[-1] if isinstance(shape, tuple) else None
    return None


def _normalised(gradient, shapes):
    """Returns |g| / sum |g| (eq. 6), cut to the given shapes."""
    magnitudes = np.abs(gradient)
    total = magnitudes.sum(dtype=np.float64)
    if not np.isfinite(total) or total == 0:
        raise ValueError(
            "The gradients of the loss with respect to the masks must be "
            f"finite and not all zero. Received: sum of magnitudes={total}"
        )
    scores = (magnitudes / total).astype(np.float32, copy=False)
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    return [
        part.reshape(shape)
        for part, shape in zip(np.split(scores, ends[:-1]), shapes, strict=True)
    ]
