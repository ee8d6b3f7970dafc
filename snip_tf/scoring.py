"""Connection sensitivity: one backward pass with respect to the masks.

Lee et al. 2019, eq. 5-6: s_j = |dL/dc_j| / sum_k |dL/dc_k|, taken at c = 1.
"""

import functools
import itertools
import weakref

import keras
import numpy as np
import tensorflow as tf

from snip_tf import layers, overriding

_OF_WHOLE_BATCHES = (
    keras.losses.Circle,
    keras.losses.Dice,
    keras.losses.Tversky,
    keras.losses.circle,
    keras.losses.dice,
    keras.losses.tversky,
)
# The latest traced scoring function of each model, with what it was traced for.
# A trace costs far more than a pass, and is of no use once its model is gone.
_TRACED = weakref.WeakKeyDictionary()
# Half precision loses small gradients: the loss is scaled up and the gradient
# down again, by a power of two, which changes no other digit. If that is too
# large for a number of 16 bits, by the next one.
_HALF_PRECISION_SCALES = (2.0**10, 2.0**5, 1.0)


def sensitivity(
    model,
    x,
    y=None,
    *,
    loss=None,
    training=False,
    ema_decay=None,
    micro_batch_size=None,
    warm_up=False,
):
    """Returns the connection sensitivity of every masked weight.

    The scores say how much the loss would change, to first order, if a
    connection were weakened (Lee et al. 2019, eq. 5-6). The model is left as
    it was, whatever the mode.

    Args:
        model: A built Keras model with masked layers.
        x: One batch of inputs, or, with `y=None`, an iterable of batches
            `(x, y)` or `(x, y, sample_weight)` such as a finite
            `tf.data.Dataset`. Over several batches the signed gradients are
            averaged, by their examples, before the absolute value is taken:
            of a loss that is a mean over examples, the gradient over all.
        y: The targets of the one batch.
        loss: A Keras loss, its name, or a function of (targets, outputs). By
            default the loss that the model was compiled with. What layers
            add to it counts too; weight decay does not, as it does not depend
            on the masks.
        training: Whether layers run in training mode. Off by default, as in
            the authors' code: batch normalisation then uses its moving
            statistics and dropout passes everything.
        ema_decay: Over several batches, None for the mean over all examples,
            or the decay in [0, 1) of an exponential moving average of the
            batches' signed gradients (Lee et al. 2019, 4.2, names both).
        micro_batch_size: Cuts each batch into pieces of at most so many
            examples, which bounds the memory and changes no score but by
            rounding (unless `training` makes examples depend on each other).
            The loss must be a mean over the examples.
        warm_up: Whether batch normalisation scores with the statistics of the
            first batch (its first piece) in place of its moving ones, which in
            a new model are those of no data. Other than with `training`, the
            examples stay independent of each other and dropout stays off.

    Returns:
        A list with one float32 numpy array per mask, of its shape, in the
        order of `get_masks(model)`. All are non-negative; together they sum
        to 1.

    Raises:
        ValueError: If the model has no masks or no loss, if the inputs hold
            NaN or infinity, if a label is not one of the classes, if the
            gradients are not finite or all zero, if an argument is out of
            its range, if `micro_batch_size` meets a loss that is no mean over
            examples, or inside of a `tf.distribute` strategy's scope.
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
    if warm_up and training:
        raise ValueError(
            "`warm_up` is for scoring in inference mode. Received: "
            f"warm_up={warm_up}, training={training}"
        )
    masks = [mask for _, mask in layers.masked_weights(model)]
    is_cut = micro_batch_size is not None
    gradient_of = _traced_gradient(model, loss, training, is_cut)
    if is_cut:
        _check_mean(model.loss if loss is None else loss)
    before = {id(v): v.numpy() for v in _written(model, training)}
    if y is None:
        _check_ends(x)
    batches = (
        _pieces(_checked(model, batch, loss), micro_batch_size)
        for batch in (x if y is None else [(x, y)])
    )
    if warm_up:
        batches = _after_warm_up(model, batches)
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
        for variable in _written(model, training):
            # A metric that was not there yet starts at zero.
            variable.assign(before.get(id(variable), tf.zeros(variable.shape)))
    if gradient is None:
        raise ValueError("`x` must hold at least one batch. Received: none")
    return _normalised(gradient, [mask.shape for mask in masks])


def _written(model, training):
    """Returns what a forward pass may write.

    The compiled loss keeps an average of each output's. In training mode
    layers write moving averages, seeds of dropout, and SpectralNormalization
    the weights themselves.
    """
    masks = {id(mask) for _, mask in layers.masked_weights(model)}
    own = model.variables if training else model.non_trainable_variables
    return [
        variable
        for variable in (*own, *model.metrics_variables)
        if id(variable) not in masks
    ]


def _check_mean(losses):
    """Refuses losses of which the pieces of a batch do not add up."""
    for one in tf.nest.flatten(losses):
        if isinstance(one, str):
            one = keras.losses.get(one)
        # One number for the whole batch, or for the pairs in it.
        known = one if one in _OF_WHOLE_BATCHES else type(one)
        if known in _OF_WHOLE_BATCHES and getattr(one, "axis", None) is None:
            _refuse_cut(f"the loss {known.__name__}")
        reduction = getattr(one, "reduction", "mean")
        ignored = getattr(one, "ignore_class", None)
        if reduction not in ("mean", "sum_over_batch_size"):
            _refuse_cut(f"a loss with reduction={reduction!r}")
        if ignored is not None:
            _refuse_cut(f"a loss with ignore_class={ignored}")


def _check_padding(outputs):
    """Refuses outputs of which a part only counts in the loss."""
    for output in tf.nest.flatten(outputs):
        if getattr(output, "_keras_mask", None) is not None:
            _refuse_cut("outputs with a padding mask")


def _refuse_cut(what):
    raise ValueError(
        "`micro_batch_size` needs a loss that is a mean over the examples, as "
        f"of others the pieces do not add up. Received: {what}"
    )


def _check_ends(batches):
    if tf.is_tensor(batches) or isinstance(batches, np.ndarray):
        raise ValueError(
            "`y` must be given with one batch `x`; without it `x` is an "
            "iterable of batches. Received: one array and y=None"
        )
    endless = tf.data.INFINITE_CARDINALITY
    if isinstance(batches, tf.data.Dataset):
        if int(batches.cardinality()) == endless:
            raise ValueError(
                "`x` must end: take some of its batches, as in "
                "`dataset.take(1)`. Received: an endless tf.data.Dataset"
            )


def _size(batch):
    """Returns the number of examples of a batch."""
    return len(tf.nest.flatten(batch)[0])


def _pieces(batch, size):
    """Yields a batch cut into batches of at most so many examples."""
    size = size or _size(batch)
    for at in range(0, _size(batch), size):
        part = slice(at, at + size)
        yield tf.nest.map_structure(lambda a, part=part: a[part], batch)


def _after_warm_up(model, batches):
    """Passes on the batches, the moving statistics those of the first piece."""
    for index, pieces in enumerate(batches):
        if index == 0:
            first = next(pieces)
            _warm_up(model, first[0])
            pieces = itertools.chain([first], pieces)
        yield pieces


def _warm_up(model, x):
    """Replaces the moving statistics of batch normalisation by those of x.

    It alone runs in training mode.
    """
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [norm.momentum for norm in norms]
    try:
        with overriding.overridden(norms, "call", _in_training_mode):
            model(x, training=False)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _in_training_mode(layer, call):
    calls = itertools.count()

    @functools.wraps(call)
    def in_training_mode(*args, **options):
        # The mean over the calls of a layer that is used more than once.
        done = next(calls)
        layer.momentum = done / (done + 1)
        return call(*args, **{**options, "training": True})

    return in_training_mode


def _mean(gradient_of, batches):
    """Returns the mean gradient over all examples, None if there are none.

    In double precision, so that the order of the batches and where they are
    cut move no more than the last bits of a score.
    """
    mean, examples = None, 0
    for batch in batches:
        gradient = gradient_of(*batch)
        size = _size(batch)
        examples += size
        if mean is None:
            mean = gradient
        else:
            difference = gradient.astype(np.float64) - mean
            mean = mean + size / examples * difference
    return mean


def _traced_gradient(model, loss, training, is_cut):
    """Returns the function (x, y, weights) -> flat dL/dc, traced once."""
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
    if tf.distribute.in_cross_replica_context():
        raise ValueError(
            "Scoring must be outside of `strategy.scope()`; from there masks "
            "reach every replica. Received: the scope of a "
            f"{type(tf.distribute.get_strategy()).__name__}"
        )
    # What a trace depends on. Compiling a model anew, which is how Keras is
    # told of a changed layer, makes a new loss object. The losses are kept
    # beside the trace so that they stay the only ones of their ids.
    losses = loss, getattr(model, "_compile_loss", None)
    parts = model._flatten_layers()
    key = (
        *(one if isinstance(one, str) else id(one) for one in losses),
        bool(training),
        is_cut,
        # Other than an id, a reference never equals that of a later layer.
        tuple((weakref.ref(layer), layer.trainable) for layer in parts),
        tuple(id(variable) for variable in model.variables),
        bool(model.run_eagerly),
    )
    latest = _TRACED.get(model)
    if latest is None or latest[0] != key:
        traced = _trace_gradient(model, loss, training, is_cut)
        latest = _TRACED[model] = key, losses, traced
    return latest[2]


def _trace_gradient(model, loss, training, is_cut):
    # A strong reference would keep the model alive in its own cache entry.
    model_reference = weakref.ref(model)
    given_loss = None
    if loss is not None:
        # Keras itself reads names, functions, lists and dicts of losses.
        reader = keras.Sequential()
        reader.output_names = getattr(model, "output_names", None)
        reader.compile(loss=loss)
        given_loss = reader._compile_loss
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()}

    def scaled_gradient(scale, x, y, sample_weight=None):
        model = model_reference()
        masks = [mask.value for _, mask in layers.masked_weights(model)]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(masks)
            outputs = model(x, training=training)
            if is_cut:
                _check_padding(outputs)
            if given_loss is None:
                value = model._compute_loss(
                    x, y, outputs, sample_weight, training=training
                )
            else:
                value = given_loss(y, outputs, sample_weight)
                for added in model.losses:
                    value += model._aggregate_additional_loss(added)
            value *= tf.cast(scale, value.dtype)
        gradients = tape.gradient(
            value, masks, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        flat = [tf.reshape(gradient, [-1]) for gradient in gradients]
        return tf.concat(flat, axis=0) / scale

    if not model.run_eagerly:
        scaled_gradient = tf.function(scaled_gradient, autograph=False)

    def gradient_of(*batch):
        for scale in _HALF_PRECISION_SCALES if "float16" in dtypes else (1.0,):
            gradient = scaled_gradient(tf.constant(scale), *batch).numpy()
            if scale == 1 or np.isfinite(gradient).all():
                return gradient

    return gradient_of


def _checked(model, batch, loss):
    """Returns a batch that can be scored: inputs, targets, perhaps weights."""
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
        raise ValueError(
            "`x` must be an iterable of batches (inputs, targets) or (inputs, "
            f"targets, sample weights). Received: a {type(batch).__name__}"
        )
    for name, part in zip("xy", batch, strict=False):
        for values in map(np.asarray, tf.nest.flatten(part)):
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ValueError(
                    f"`{name}` must hold finite numbers. Received: "
                    f"{np.count_nonzero(~np.isfinite(values))} of "
                    f"{values.size} values are NaN or infinite"
                )
    sizes = {len(values) for values in tf.nest.flatten(batch)}
    if 0 in sizes:
        raise ValueError("A batch must hold at least one example. Received: 0")
    if len(sizes) > 1:
        raise ValueError(
            "`x` and `y` must have one entry for each example. Received: "
            + " and ".join(str(size) for size in sorted(sizes))
        )
    loss = model.loss if loss is None else loss
    classes = _classes(model, loss)
    if classes is not None:
        labels = np.asarray(tf.nest.flatten(batch[1])[0])
        wrong = (labels < 0) | (labels >= classes)
        wrong &= labels != getattr(loss, "ignore_class", None)
        if wrong.any():
            raise ValueError(
                f"`y` must hold labels from 0 to {classes - 1}, as the model "
                f"has {classes} outputs. Received: a label {labels[wrong][0]}"
            )
    return tuple(batch)


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
    total = float(magnitudes.sum(dtype=np.float64))
    if not np.isfinite(total) or total == 0:
        raise ValueError(
            "The gradients of the loss with respect to the masks must be "
            f"finite and not all zero. Received: sum of magnitudes={total}"
        )
    magnitudes /= total
    scores = magnitudes.astype(np.float32, copy=False)
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    return [
        part.reshape(shape)
        for part, shape in zip(np.split(scores, ends[:-1]), shapes, strict=True)
    ]
