"""First-layer masks as images (Lee et al. 2019, 5.4 and 5.5).

A pixel is as bright as it has connections left: the mask of 784 x 300, summed
over the 300 units. All panels of a picture have the same scale.
"""

import matplotlib.colors
import numpy as np

_SIDE, _GAP = 28, 2  # pixels
_UNITS = 300
_GARMENTS = (
    "T-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
)


def draw_classes(figure, groups):
    """Draws what one class keeps: sparsity down, classes across (Figure 2)."""
    figure.set_size_inches(11.0, 5.2)
    panels = figure.subplots(1, 2)
    sparsities = groups[0].run.row.sparsities
    sheets = [
        _sheet([[_picture(group, s) for group in own] for s in sparsities])
        for own in (groups[:10], groups[10:])
    ]
    brightest = max(np.nanmax(sheet, initial=1) for sheet in sheets)
    for axes, sheet, title in zip(
        panels, sheets, ("MNIST", "Fashion-MNIST"), strict=True
    ):
        image = _show(axes, sheet, brightest)
        axes.set_title(title)
        axes.set_yticks(
            _centres(len(sparsities)), [f"{100 * s:g}%" for s in sparsities]
        )
        axes.set_xlabel("class of the 100 images scored on")
    panels[0].set_xticks(_centres(10), range(10))
    panels[1].set_xticks(
        _centres(10),
        _GARMENTS.split(","),
        rotation=40,
        ha="right",
        rotation_mode="anchor",
    )
    panels[0].set_ylabel("sparsity")
    figure.colorbar(
        image,
        ax=panels,
        label=f"connections kept, of {_UNITS} a pixel",
        shrink=0.8,
    )


def draw_batch_sizes(figure, groups):
    """Draws what was scored on and what was kept, a column each (Figure 3).

    Returns the axes below them, for the errors.
    """
    figure.set_size_inches(8.0, 4.6)
    grid = figure.add_gridspec(
        3, len(groups), height_ratios=(1, 1, 1.5), hspace=0.02
    )
    kept = [_picture(group, group.run.settings.sparsity) for group in groups]
    brightest = max(np.nanmax(sheet, initial=1) for sheet in kept)
    first = []
    for column, group in enumerate(groups):
        scored, left = (figure.add_subplot(grid[row, column]) for row in (0, 1))
        scored.set_title(f"{group.run.settings.score_batch_size:,}")
        _show(scored, _square(group.lines[0]["mean_image"]), 255)
        image = _show(left, kept[column], brightest)
        first += [scored, left]
    for axes in first:
        axes.set(xticks=[], yticks=[])
    first[0].set_ylabel("mean image\nscored on", fontsize=8)
    first[1].set_ylabel("connections\nkept", fontsize=8)
    figure.colorbar(image, ax=first[1::2], label=f"of {_UNITS}", pad=0.01)
    return figure.add_subplot(grid[2, :])


def _picture(group, sparsity):
    """Returns the connections that each pixel keeps, NaN if it was not run."""
    if not group.lines:
        return np.full((_SIDE, _SIDE), np.nan)
    return _square(group.lines[0]["kept_per_pixel"][f"{sparsity:g}"])


def _square(pixels):
    return np.reshape(pixels, (_SIDE, _SIDE)).astype(float)


def _sheet(rows):
    """Returns images, as rows of them, on one sheet with gaps of NaN."""
    margins = (0, _GAP), (0, _GAP)
    padded = [
        [np.pad(image, margins, constant_values=np.nan) for image in row]
        for row in rows
    ]
    return np.block(padded)[:-_GAP, :-_GAP]


def _centres(count):
    return (_SIDE + _GAP) * np.arange(count) + (_SIDE - 1) / 2


def _show(axes, image, brightest):
    """Shows an image on the common scale; what is NaN stays white."""
    # Lighter in the dark, where the high sparsities are.
    norm = matplotlib.colors.PowerNorm(0.75, vmin=0, vmax=brightest)
    return axes.imshow(image, cmap="gray", norm=norm, interpolation="nearest")
