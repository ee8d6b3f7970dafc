"""What is refused of numbers, scores and masks, at the boundary."""

import contextlib
import math
import numbers
import reprlib

import numpy as np

# What Python, numpy, Keras and TensorFlow raise of values, types and shapes. By
# name, as a network is also pruned where TensorFlow is not installed.
_UNFIT = ("ValueError", "TypeError", "AttributeError", "KeyError", "IndexError")
_UNFIT += ("AxisError", "InvalidArgumentError", "UnimplementedError")


@contextlib.contextmanager
def naming(**arguments):
    """Makes others' errors of values and shapes ValueErrors that name these."""
    names = [f"`{name}`" for name in arguments]
    try:
        yield
    except Exception as error:
        is_ours = any(name in str(error) for name in names)
        if is_ours or type(error).__name__ not in _UNFIT:
            raise
        received = {k: getattr(v, "shape", v) for k, v in arguments.items()}
        raise ValueError(
            f"{', '.join(names)} must be as documented, and fit the model. "
            f"Received (shapes of arrays): {reprlib.repr(received)}: {error}"
        ) from error


def check_one_of(name, value, allowed):
    """Raises a ValueError if a value is not one of those allowed."""
    if not any(np.array_equal(value, one) for one in allowed):
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(str, allowed))}. "
            f"Received: {name}={value!r}"
        )


def check_number(name, value, end=math.inf):
    """Raises a ValueError if a value is no number in [0, end)."""
    is_number = isinstance(value, numbers.Real)
    if not is_number or isinstance(value, bool) or not 0 <= value < end:
        raise ValueError(
            f"`{name}` must be a {'fraction' if end == 1 else 'number'} in "
            f"[0, {end}). Received: {name}={value!r}"
        )


def whole(name, value, least=0):
    """Returns a whole number of at least `least` as an int; 100.0 is one."""
    is_whole = isinstance(value, numbers.Real) and float(value).is_integer()
    if not is_whole or value < least:
        raise ValueError(
            f"`{name}` must be a whole number of at least {least}. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def checked_scores(scores, shapes=None):
    """Returns scores as arrays: of these shapes, if given, and in an order."""
    with naming(scores=scores):
        scores = [np.asarray(score) for score in scores]
        wrong = sum(np.sum(~np.isfinite(s) | (s < 0)) for s in scores)
    found = [score.shape for score in scores]
    if wrong or not any(map(np.any, scores)) or shapes not in (None, found):
        raise ValueError(
            "`scores`, which a `criterion` returns, must have the masks' "
            "shapes, and be finite, not negative and not all zero. Received: "
            f"{wrong} numbers negative or not finite, shapes {found}"
        )
    return scores


def check_left(masks, kappa, sparsity):
    """Raises a ValueError if masks have fewer ones than kappa."""
    left = sum(np.count_nonzero(mask) for mask in masks)
    if kappa > left:
        raise ValueError(
            "`sparsity` must not ask for weights that are removed already. "
            f"Received: sparsity={sparsity}, which keeps {kappa}, of a model "
            f"with {left} left"
        )


def checked_masks(masks, shapes, names=None):
    """Returns masks as float32 arrays of zeros and ones of these shapes.

    Raises:
        ValueError: If they are not; it says which.
    """
    with naming(masks=masks):
        masks = [np.asarray(mask) for mask in masks]
    if len(masks) != len(shapes):
        raise ValueError(
            f"`masks` must hold one array for each of the {len(shapes)} masks. "
            f"Received: {len(masks)} arrays"
        )
    names = names or [f"number {index}" for index in range(len(shapes))]
    for mask, shape, name in zip(masks, shapes, names, strict=True):
        strange = mask[(mask != 0) & (mask != 1)].tolist()
        if strange or mask.shape != tuple(shape):
            raise ValueError(
                f"`masks` must hold zeros and ones; that of {name} must have "
                f"the weight's shape {tuple(shape)}. Received: "
                + (f"{strange[0]!r}" if strange else f"shape={mask.shape}")
            )
    return [mask.astype(np.float32) for mask in masks]
