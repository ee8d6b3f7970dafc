"""First-layer masks as images (Lee et al. 2019, 5.4 and 5.5).

A pixel is as bright as it has connections left: the mask of 784 x 300, summed
over the 300 units. All panels of a picture have the same scale.
"""

import matplotlib.colors
import numpy as np

_SIDE, _GAP = 28, 2  # pixels
_UNITS = 300
_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
}
_TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}


def draw_classes(figure, groups):
    """Draws what one class keeps: sparsity down, classes across (Figure 2)."""
    groups = _first_of_rows(groups)
    rows = [group.run.row for group in groups]
    datasets = dict.fromkeys(row.settings.dataset for row in rows)
    sparsities = rows[0].sparsities
    figure.set_size_inches(11.0, 5.2)
    panels = figure.subplots(1, len(datasets))
    own = {
        dataset: [g for g in groups if g.run.row.settings.dataset == dataset]
        for dataset in datasets
    }
    sheets = {
        dataset: _sheet([[_picture(g, s) for g in alike] for s in sparsities])
        for dataset, alike in own.items()
    }
    brightest = max(np.nanmax(sheet, initial=1) for sheet in sheets.values())
    for axes, dataset in zip(panels, datasets, strict=True):
        image = _show(axes, sheets[dataset], brightest)
        drawn = {g.run.settings.dataset for g in own[dataset] if g.lines}
        other = "".join(f" ({name})" for name in sorted(drawn - {dataset}))
        axes.set_title(_TITLES[dataset] + other)
        axes.set_xticks(_centres(10), _CLASSES[dataset])
        if dataset == "fashion_mnist":
            for text in axes.get_xticklabels():
                text.set(rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(
            _centres(len(sparsities)), [f"{100 * s:g}%" for s in sparsities]
        )
        axes.set_xlabel("class of the 100 images scored on")
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
    groups = _first_of_rows(groups)
    grid = figure.add_gridspec(
        3, len(groups), height_ratios=(1, 1, 1.5), hspace=0.02
    )
    kept = [_picture(group, group.run.settings.sparsity) for group in groups]
    brightest = max(np.nanmax(sheet, initial=1) for sheet in kept)
    first = []
    for column, group in enumerate(groups):
        size = group.run.settings.score_batch_size
        scored, left = (figure.add_subplot(grid[row, column]) for row in (0, 1))
        scored.set_title(f"{size:,}")
        mean = _image(group, lambda line: line["mean_image"])
        _show(scored, mean, 255)
        image = _show(left, kept[column], brightest)
        first += [scored, left]
        for axes in (scored, left):
            axes.set(xticks=[], yticks=[])
    first[0].set_ylabel("mean image\nscored on", fontsize=8)
    first[1].set_ylabel("connections\nkept", fontsize=8)
    figure.colorbar(image, ax=first[1::2], label=f"of {_UNITS}", pad=0.01)
    return figure.add_subplot(grid[2, :])


def _first_of_rows(groups):
    """Returns the first group of each row, in their order."""
    first = {}
    for group in groups:
        first.setdefault(group.run.row, group)
    return list(first.values())


def _picture(group, sparsity):
    """Returns the connections that each pixel keeps, NaN if it was not run."""
    return _image(group, lambda line: line["kept_per_pixel"][f"{sparsity:g}"])


def _image(group, pixels_of):
    """Returns an image of the first line of a group, NaN if it has none."""
    if not group.lines:
        return np.full((_SIDE, _SIDE), np.nan)
    pixels = pixels_of(group.lines[0])
    return np.reshape(pixels, (_SIDE, _SIDE)).astype(float)


def _sheet(rows):
    """Returns images, as rows of them, on one sheet with gaps of NaN."""
    pitch = _SIDE + _GAP
    sheet = np.full(
        (len(rows) * pitch - _GAP, len(rows[0]) * pitch - _GAP), np.nan
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            at = np.s_[
                i * pitch : i * pitch + _SIDE, j * pitch : j * pitch + _SIDE
            ]
            sheet[at] = image
    return sheet


def _centres(count):
    return (_SIDE + _GAP) * np.arange(count) + (_SIDE - 1) / 2


def _show(axes, image, brightest):
    """Shows an image on the common scale; what is NaN stays white."""
    # Lighter in the dark, where the high sparsities are.
    norm = matplotlib.colors.PowerNorm(0.75, vmin=0, vmax=brightest)
    return axes.imshow(image, cmap="gray", norm=norm, interpolation="nearest")
