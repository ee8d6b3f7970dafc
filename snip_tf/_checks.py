"""What is refused of sparsities and masks, at the boundary."""

import numbers

import numpy as np


def check_sparsity(sparsity):
    """Raises a ValueError if a sparsity is not a fraction in [0, 1)."""
    is_number = isinstance(sparsity, numbers.Real)
    if not is_number or isinstance(sparsity, bool) or not 0 <= sparsity < 1:
        raise ValueError(
            "`sparsity` is the fraction of weights removed and must be in "
            f"[0, 1). Received: sparsity={sparsity!r}"
        )


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
    masks = list(masks)
    if len(masks) != len(shapes):
        raise ValueError(
            f"`masks` must hold one array for each of the {len(shapes)} masks. "
            f"Received: {len(masks)} arrays"
        )
    names = names or [f"number {index}" for index in range(len(shapes))]
    checked = []
    for mask, shape, name in zip(masks, shapes, names, strict=True):
        try:
            mask = np.asarray(mask).astype(np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The mask of {name} must hold zeros and ones. Received: "
                f"{error}"
            ) from error
        if mask.shape != tuple(shape):
            raise ValueError(
                f"The mask of {name} must have the weight's shape "
                f"{tuple(shape)}. Received: shape={mask.shape}"
            )
        strange = mask[(mask != 0) & (mask != 1)]
        if strange.size:
            raise ValueError(
                f"The mask of {name} must hold zeros and ones. "
                f"Received: {strange[0]}"
            )
        checked.append(mask)
    return checked
