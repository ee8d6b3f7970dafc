"""The picture of an experiment, from its recorded lines alone.

Each colour goes with a marker or a line style of its own, for print in grey.
"""

import io

import matplotlib
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from snip_tf.experiments import curves, effects, pictures, protocol, records
from snip_tf.experiments.curves import (
    BLUE,
    GREEN,
    LEGEND,
    ORANGE,
    PURPLE,
    RED,
    TITLES,
    WIDTH,
)

# The colours of the paper's Figure 4, as near as they come.
_LOSS_STYLES = {
    "dense-true": ("dense, true labels", RED, "s", "-"),
    "sparse-true": ("99% pruned, true labels", BLUE, "o", "--"),
    "dense-random": ("dense, random labels", GREEN, "^", "-"),
    "dense-random-l2": ("dense, random labels, L2", PURPLE, "D", "-."),
    "sparse-random": ("99% pruned, random labels", ORANGE, "v", "--"),
}
_RESOLUTION = 200  # dots an inch


def picture(name, lines):
    """Returns the picture of an experiment's lines, the bytes of a PNG file."""
    groups = records.groups(name, lines)
    # No window, and no state that one picture leaves to the next.
    figure = matplotlib.figure.Figure(layout="constrained")
    with matplotlib.rc_context({"font.size": 9, "axes.titlesize": 10}):
        if any(group.lines for group in groups):
            _DRAWINGS.get(name, _draw_errors)(figure, groups)
        content = io.BytesIO()
        # The same lines give the same bytes.
        figure.savefig(content, dpi=_RESOLUTION, metadata={"Software": None})
    return content.getvalue()


def _draw_batch_sizes(figure, groups):
    """Draws masks and errors of batches of several sizes (Figure 3)."""
    groups, schedule = curves.of_longest(groups)
    axes = pictures.draw_batch_sizes(figure, groups)
    places = range(len(groups))
    curves.draw_curve(axes, places, groups, f"SNIP at 90%, {schedule}")
    sizes = [f"{g.run.settings.score_batch_size:,}" for g in groups]
    axes.set_xticks(places, sizes)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set(xlabel="images scored on", ylabel="test error (%)")
    axes.grid(alpha=0.3)
    axes.legend(loc="best")


def _draw_errors(figure, groups):
    """Draws ours beside the paper's errors, a line each (Tables 1 to 3)."""
    figure.set_size_inches(WIDTH, 1.2 + 0.24 * len(groups))
    axes = figure.subplots()
    schedules = list(dict.fromkeys(g.run.schedule for g in groups if g.lines))
    is_one = len(schedules) == 1
    spread = any(len(group.lines) > 1 for group in groups)
    seeds = "mean ± standard deviation over the seeds" if spread else "one seed"
    numbers = np.array([_errors_of(group) for group in groups])
    # A little above and below each other, as they can be the same.
    for whose, (offset, name, color, marker, fill) in enumerate(
        (
            (-0.12, f"ours, {seeds}", BLUE, "o", BLUE),
            (0.12, "paper", RED, "D", "none"),
            (0.3, "authors' code", GREEN, "^", "none"),
        )
    ):
        errors, deviations = numbers[:, whose].T
        if not np.isnan(errors).all():
            axes.errorbar(
                errors,
                np.arange(len(groups)) + offset,
                xerr=None if np.isnan(deviations).all() else deviations,
                color=color,
                marker=marker,
                markerfacecolor=fill,
                ls="",
                ms=5,
                capsize=2,
                label=name,
            )
    labels = [group.run.row.name for group in groups]
    for place, group in enumerate(groups):
        if not (group.lines and is_one):
            why = group.run.schedule if group.lines else group.nothing
            # "10,000 of 60,000 steps" says it all, and leaves room.
            labels[place] += f", {why.removeprefix('shortened: ')}"
    axes.set_yticks(range(len(groups)), labels)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    unit = f"; {schedules[0]}" if is_one else ""
    axes.set_xlabel(f"test error (%){unit}")
    axes.grid(alpha=0.3)
    _spread_out(axes)
    figure.legend(ncols=3, **LEGEND)


def _errors_of(group):
    """Returns our error, the paper's and its code's, each with a deviation.

    NaN is what was not run or is not printed.
    """
    ours = (group.mean(), group.std()) if group.lines else (np.nan, np.nan)
    if not group.run.is_on_own_data:
        return ours, (np.nan, np.nan), (np.nan, np.nan)
    row = group.run.row
    error, _, std = row.paper.partition("±")
    printed = float(error or "nan"), float(std or "nan")
    return ours, printed, (row.authors or np.nan, np.nan)


def _spread_out(axes):
    """Makes the axis of errors logarithmic where they differ widely."""
    values = [x for line in axes.get_lines() for x in line.get_xdata() if x > 0]
    if values and max(values) > 8 * min(values):
        curves.make_logarithmic(axes, "x")


def _draw_losses(figure, groups):
    """Draws the training loss over the iterations (Figure 4)."""
    figure.set_size_inches(WIDTH, 4.4)
    axes = figure.subplots()
    groups, schedule = curves.of_longest(groups)
    for group in groups:
        name, color, marker, line = _LOSS_STYLES[group.run.row.name]
        losses = [line["train_cross_entropies"] for line in group.lines]
        losses = np.mean(losses, axis=0)
        period = group.run.settings.validate_every
        axes.plot(
            period * np.arange(1, len(losses) + 1),
            losses,
            color=color,
            linestyle=line,
            marker=marker,
            markersize=3.5,
            # A marker here and there tells the curves apart in grey.
            markevery=max(1, len(losses) // 12),
            label=name,
        )
    axes.set_xlabel(f"iteration ({schedule})")
    axes.set_ylabel("training cross-entropy\n(mean over each period)")
    axes.xaxis.set_major_formatter(
        matplotlib.ticker.StrMethodFormatter("{x:,.0f}")
    )
    # Room for the markers of what is zero.
    axes.set_ylim(bottom=-0.04 * axes.get_ylim()[1])
    axes.grid(alpha=0.3)
    figure.legend(ncols=2, **LEGEND)


def _draw_effects(figure, groups):
    """Draws what each factor of the search does to the errors."""
    figure.set_size_inches(WIDTH, 3.0)
    panels = figure.subplots(1, len(protocol.DESIGNS), sharex=True)
    for axes, model in zip(panels, protocol.DESIGNS, strict=True):
        factors, _ = protocol.DESIGNS[model]
        _, *pruned = protocol.TABLE_1[model]
        styles = (BLUE, "o", -0.12), (ORANGE, "s", 0.12)
        for (sparsity, *_), (color, marker, offset) in zip(
            pruned, styles, strict=True
        ):
            found = effects.main_effects(groups, model, sparsity)
            numbers = [found.get(f, (np.nan, np.nan)) for f in factors]
            sizes, deviations = np.transpose(numbers)
            axes.errorbar(
                sizes,
                np.arange(len(factors)) + offset,
                xerr=deviations,
                color=color,
                marker=marker,
                ls="",
                ms=5,
                capsize=2,
                label=f"{100 * sparsity:g}% pruned"
                + ("" if found else ", not run"),
            )
        axes.axvline(0, color="0.5", linewidth=1)
        axes.set_yticks(range(len(factors)), factors)
        axes.set_ylim(len(factors) - 0.5, -0.5)
        steps = protocol.SEARCH_STEPS[model]
        axes.set_title(f"{TITLES[model]}, {steps:,} iterations")
        axes.set_xlabel("effect on the test error (points)")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


_DRAWINGS = {
    "protocol": _draw_effects,
    "figure_1": curves.draw_levels,
    "rivals": curves.draw_rivals,
    "criteria": curves.draw_criteria,
    "figure_2": pictures.draw_classes,
    "figure_3": _draw_batch_sizes,
    "figure_4": _draw_losses,
}
