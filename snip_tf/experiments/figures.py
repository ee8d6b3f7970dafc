"""The picture of an experiment, from its recorded lines alone.

Colours are those of Okabe and Ito, which colour-blind people tell apart; each
goes with a marker or a line style of its own, for print in grey.
"""

import io
import itertools

import matplotlib
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from snip_tf.experiments import grouping, pictures

TITLES = {
    "lenet_300_100": "LeNet-300-100",
    "lenet_5_caffe": "LeNet-5-Caffe",
}
_BLUE, _ORANGE, _GREEN = "#0072B2", "#E69F00", "#009E73"
_RED, _PURPLE = "#D55E00", "#CC79A7"
_STYLES = (
    (_BLUE, "o", "-"),
    (_RED, "s", "--"),
    (_GREEN, "^", "-."),
    (_PURPLE, "D", ":"),
)
_RESOLUTION = 200  # dots an inch
_WIDTH = 7.0  # inches, a printed page less its margins


def picture(name, lines):
    """Returns the picture of an experiment, the bytes of a PNG file.

    Args:
        name: A name of `paper.EXPERIMENTS`.
        lines: What `records.read` returned.
    """
    groups = grouping.groups(name, lines)
    draw = _DRAWINGS.get(name, _draw_errors)
    # No window, and no state that one picture leaves to the next.
    figure = matplotlib.figure.Figure(layout="constrained")
    with matplotlib.rc_context({"font.size": 9, "axes.titlesize": 10}):
        draw(figure, groups)
        content = io.BytesIO()
        # The same lines give the same bytes.
        figure.savefig(content, dpi=_RESOLUTION, metadata={"Software": None})
    return content.getvalue()


def _unfinished(groups):
    """Returns why there is nothing of rows, of which a group is without."""
    return {
        group.run.row: grouping.nothing_of(
            *(other for other in groups if other.run.row == group.run.row)
        )
        for group in groups
        if not group.lines
    }


def _ran(groups):
    return [group for group in groups if group.lines]


def _schedule(group):
    """Returns what groups of one curve have in common, in words."""
    return ", ".join([group.run.schedule, *group.run.departures])


def _schedules(groups):
    """Returns the schedules of what was run, and whether it is only one."""
    schedules = list(dict.fromkeys(map(_schedule, _ran(groups))))
    return schedules, len(schedules) == 1


def _styles(groups):
    """Returns the style of each schedule."""
    return dict(zip(_schedules(groups)[0], itertools.cycle(_STYLES)))


def _draw_levels(figure, groups):
    """Draws errors over sparsity, a panel a network (Figure 1)."""
    models = dict.fromkeys(group.run.settings.model for group in groups)
    figure.set_size_inches(_WIDTH, 3.6)
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    styles = _styles(groups)
    for axes, model in zip(panels, models, strict=True):
        own = [g for g in groups if g.run.settings.model == model]
        sparsities = [100 * g.run.settings.sparsity for g in own]
        _draw_curves(axes, own, sparsities, styles, "SNIP")
        for group in _ran(own):
            if not group.run.settings.sparsity:
                axes.axhline(
                    group.test_error,
                    color=styles[_schedule(group)][0],
                    linestyle=(0, (6, 4)),
                    linewidth=1,
                    label=f"dense reference, {_schedule(group)}",
                )
        axes.set(title=TITLES[model], xlabel="sparsity (% of weights removed)")
        axes.set_xticks(range(0, 100, 10))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("test error (%)")
    _legend(figure, panels, ncols=1)


def _draw_batch_sizes(figure, groups):
    """Draws masks and errors of batches of several sizes (Figure 3)."""
    rows = list(dict.fromkeys(group.run.row for group in groups))
    axes = pictures.draw_batch_sizes(figure, groups)
    places = [rows.index(group.run.row) for group in groups]
    _draw_curves(axes, groups, places, _styles(groups), "SNIP at 90%")
    ran = {group.run.row for group in _ran(groups)}
    unfinished = _unfinished(groups)
    labels = [
        f"{row.settings.score_batch_size:,}"
        + ("" if row in ran else f"\n{unfinished[row]}")
        for row in rows
    ]
    axes.set_xticks(range(len(rows)), labels)
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.set(xlabel="images scored on", ylabel="test error (%)")
    axes.grid(alpha=0.3)
    if ran:
        axes.legend(loc="best")


def _draw_curves(axes, groups, places, styles, name):
    """Draws a curve of errors, with their deviations, for each schedule."""
    for schedule in _schedules(groups)[0]:
        curve = [
            (place, group)
            for place, group in zip(places, groups, strict=True)
            if group.lines and _schedule(group) == schedule
        ]
        color, marker, line = styles[schedule]
        counts = sorted({len(group.lines) for _, group in curve})
        seeds = " or ".join(map(str, counts))
        axes.errorbar(
            [place for place, _ in curve],
            [group.test_error for _, group in curve],
            [np.nan_to_num(group.test_error_std) for _, group in curve],
            color=color,
            marker=marker,
            linestyle=line,
            markersize=4,
            capsize=2,
            label=f"{name}, {schedule}, seeds: {seeds}",
        )


def _legend(figure, panels, **options):
    """Puts one legend of all panels below them."""
    once = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        once |= dict(zip(names, handles, strict=True))
    if once:
        figure.legend(
            once.values(),
            once,
            loc="outside lower center",
            frameon=False,
            **options,
        )


def _draw_errors(figure, groups):
    """Draws ours beside the paper's errors, a line each (Tables 1 to 3)."""
    figure.set_size_inches(_WIDTH, 1.2 + 0.24 * len(groups))
    axes = figure.subplots()
    schedules, is_one = _schedules(groups)
    spread = any(group.test_error_std >= 0 for group in groups)
    seeds = "mean ± standard deviation over the seeds" if spread else "one seed"
    labels = []
    for place, group in enumerate(groups):
        label = grouping.label(group)
        if not group.lines:
            label += f", {grouping.nothing_of(group)}"
        elif not is_one:
            label += f", {group.run.schedule}"
        labels.append(label)
        for offset, error, deviation, whose in _errors_of(group):
            axes.errorbar(
                [error],
                [place + offset],
                # One seed, and most of what the paper prints, has none.
                xerr=[deviation] if deviation and deviation >= 0 else None,
                ls="",
                ms=5,
                capsize=2,
                label=f"ours, {seeds}" if whose == "ours" else whose,
                **_ERROR_STYLES[whose],
            )
    axes.set_yticks(range(len(groups)), labels)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    unit = f"; {schedules[0]}" if is_one else ""
    axes.set_xlabel(f"test error (%){unit}")
    axes.grid(alpha=0.3)
    _spread_out(axes)
    _legend(figure, [axes], ncols=3)


def _errors_of(group):
    """Yields what is drawn of a group: offset, error, deviation and whose."""
    # A little above and below each other, as they can be the same.
    if group.lines:
        yield -0.12, group.test_error, group.test_error_std, "ours"
    row = group.run.row
    if row.paper and group.run.is_on_own_data:
        yield 0.12, row.paper_error, row.paper_std, "paper"
    if row.authors and group.run.is_on_own_data:
        yield 0.3, row.authors, None, "authors' code"


_ERROR_STYLES = {
    "ours": {"color": _BLUE, "marker": "o"},
    "paper": {"color": _RED, "marker": "D", "markerfacecolor": "none"},
    "authors' code": {
        "color": _GREEN,
        "marker": "^",
        "markerfacecolor": "none",
    },
}


def _spread_out(axes):
    """Makes the axis of errors logarithmic where they differ widely."""
    drawn = [line.get_xdata() for line in axes.get_lines()]
    values = np.concatenate([np.zeros(0), *drawn])
    values = values[values > 0]
    if values.size and values.max() > 8 * values.min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(
            matplotlib.ticker.LogLocator(subs=(1, 2, 5))
        )
        axes.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
        axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def _draw_losses(figure, groups):
    """Draws the training loss over the iterations (Figure 4)."""
    figure.set_size_inches(_WIDTH, 4.4)
    axes = figure.subplots()
    schedules, is_one = _schedules(groups)
    for group in _ran(groups):
        name, color, marker, line = _LOSS_STYLES[group.run.row.name]
        losses = np.array(
            [line["train_cross_entropies"] for line in group.lines]
        )
        period = group.run.settings.validate_every
        schedule = "" if is_one else f", {_schedule(group)}"
        axes.plot(
            period * np.arange(1, losses.shape[1] + 1),
            losses.mean(axis=0),
            color=color,
            linestyle=line,
            marker=marker,
            markersize=3.5,
            # A marker here and there tells the curves apart in grey.
            markevery=max(1, losses.shape[1] // 12),
            label=f"{name}{schedule}",
        )
    unit = f" ({schedules[0]})" if is_one else ""
    axes.set_xlabel(f"iteration{unit}")
    axes.set_ylabel("training cross-entropy\n(mean over each period)")
    axes.xaxis.set_major_formatter(
        matplotlib.ticker.StrMethodFormatter("{x:,.0f}")
    )
    # Room for the markers of what is zero.
    axes.set_ylim(bottom=-0.04 * axes.get_ylim()[1])
    axes.grid(alpha=0.3)
    unfinished = _unfinished(groups).items()
    if unfinished:
        axes.set_title(
            ", ".join(f"{row.name} {why}" for row, why in unfinished)
        )
    _legend(figure, [axes], ncols=2 if is_one else 1)


# The colours of the paper's curves, as near as they come.
_LOSS_STYLES = {
    "dense-true": ("dense, true labels", _RED, "s", "-"),
    "sparse-true": ("99% pruned, true labels", _BLUE, "o", "--"),
    "dense-random": ("dense, random labels", _GREEN, "^", "-"),
    "dense-random-l2": ("dense, random labels, L2", _PURPLE, "D", "-."),
    "sparse-random": ("99% pruned, random labels", _ORANGE, "v", "--"),
}

_DRAWINGS = {
    "figure_1": _draw_levels,
    "figure_2": pictures.draw_classes,
    "figure_3": _draw_batch_sizes,
    "figure_4": _draw_losses,
}
