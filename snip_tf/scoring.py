"""Connection sensitivity: one backward pass with respect to the masks.

Lee et al. 2019, eq. 5-6: s_j = |dL/dc_j| / sum_k |dL/dc_k|, taken at c = 1.
"""

import itertools
import weakref

import keras
import numpy as np
import tensorflow as tf

from snip_tf import layers

# Traced scoring functions, by model and then by (loss, mode). A trace costs
# far more than a pass, and is of no use once its model is gone.
_TRACED = weakref.WeakKeyDictionary()


def sensitivity(
    model,
    x,
    y=None,
    *,
    loss=None,
    training=False,
    ema_decay=None,
    micro_batch_size=None,
):
    """Returns the connection sensitivity of every masked weight.

    The scores say how much the loss would change, to first order, if a
    connection were weakened (Lee et al. 2019, eq. 5-6). The model is left as
    it was, whatever the mode.

    Args:
        model: A built Keras model with masked layers.
        x: One batch of inputs, or, with `y=None`, an iterable of batches
            `(x, y)` such as a finite `tf.data.Dataset`. Over several batches
            the signed gradients are averaged before the absolute value is
            taken: the gradient of the loss over all the examples.
        y: The targets of the one batch.
        loss: A Keras loss, its name, or a function of (targets, outputs). By
            default the loss that the model was compiled with. Weight decay
            plays no part: it does not depend on the masks.
        training: Whether layers run in training mode. Off by default, as in
            the authors' code: batch normalisation then uses its moving
            statistics and dropout passes everything.
        ema_decay: Over several batches, None for the mean over all examples,
            or the decay in [0, 1) of an exponential moving average of the
            batches' signed gradients (Lee et al. 2019, 4.2, names both).
        micro_batch_size: Cuts each batch into pieces of at most so many
            examples, which bounds the memory and changes no score but by
            rounding (unless `training` makes examples depend on each other).

    Returns:
        A list with one float32 numpy array per mask, of its shape, in the
        order of `get_masks(model)`. All are non-negative; together they sum
        to 1.

    Raises:
        ValueError: If the model has no masks or no loss, if the inputs hold
            NaN or infinity, if a label is not one of the classes, if the
            gradients are not finite or all zero, or if an argument is out of
            its range.
    """
    if ema_decay is not None and not 0 <= ema_decay < 1:
        raise ValueError(
            "`ema_decay` must be None or in [0, 1). "
            f"Received: ema_decay={ema_decay}"
        )
    if micro_batch_size is not None and micro_batch_size < 1:
        raise ValueError(
            "`micro_batch_size` must be None or at least 1. "
            f"Received: micro_batch_size={micro_batch_size}"
        )
    masks = [mask for _, mask in layers.masked_weights(model)]
    gradient_of = _traced_gradient(model, loss, training)
    # In training mode layers write: moving averages, seeds of dropout.
    ids = {id(mask) for mask in masks}
    state = [
        (variable, variable.numpy())
        for variable in model.non_trainable_variables
        if id(variable) not in ids
    ]
    batches = (
        _pieces(*_checked(model, batch, loss), micro_batch_size)
        for batch in (x if y is None else [(x, y)])
    )
    try:
        if ema_decay is None:
            pieces = itertools.chain.from_iterable(batches)
            gradient = _mean(gradient_of, pieces)
        else:
            gradient = None
            for pieces in batches:
                latest = _mean(gradient_of, pieces)
                if gradient is None:
                    gradient = latest
                gradient = ema_decay * gradient + (1 - ema_decay) * latest
    finally:
        for variable, value in state:
            variable.assign(value)
    if gradient is None:
        raise ValueError("`x` must hold at least one batch. Received: none")
    return _normalised(gradient, [mask.shape for mask in masks])


def _pieces(x, y, size):
    """Yields a batch cut into batches of at most so many examples."""
    size = size or len(y)
    for at in range(0, len(y), size):
        part = slice(at, at + size)
        yield tf.nest.map_structure(lambda a, part=part: a[part], x), y[part]


def _mean(gradient_of, batches):
    """Returns the mean gradient over all examples, None if there are none.

    In double precision, so that the order of the batches and where they are
    cut move no more than the last bits of a score.
    """
    total, examples = None, 0
    for x, y in batches:
        gradient = gradient_of(x, y).numpy().astype(np.float64)
        gradient *= len(y)
        total = gradient if total is None else total + gradient
        examples += len(y)
    return None if total is None else total / examples


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


def _checked(model, batch, loss):
    """Returns the inputs and targets of a batch that can be scored."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(
            "`x` must be an iterable of batches (inputs, targets), or `y` be "
            f"given. Received: a batch of type {type(batch).__name__}"
        )
    x, y = batch
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
    return x, y


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
