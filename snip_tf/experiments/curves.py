"""Errors over sparsity, a panel a network: curves and points."""

import statistics

import matplotlib.ticker

from snip_tf import scores
from snip_tf.experiments import method_runs, rivals

# Of Okabe and Ito, which colour-blind people tell apart.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
RED, PURPLE, SKY, BLACK = "#D55E00", "#CC79A7", "#56B4E9", "#000000"
TITLES = {
    "lenet_300_100": "LeNet-300-100",
    "lenet_5_caffe": "LeNet-5-Caffe",
    "vgg_like": "VGG-like",
}
WIDTH = 7.0  # inches, a printed page less its margins
LEGEND = {"loc": "outside lower center", "frameon": False}
_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK, "0.45", "0.7")
_MARKERS = "osD^v<>Ph"


def of_longest(groups):
    """Returns the groups of the longest schedule, and that in words.

    Curves are drawn of one schedule; the tables have all.
    """
    ran = [g for g in groups if g.lines]
    longest = max(
        ran, key=lambda g: (g.run.is_on_own_data, g.run.settings.recipe.steps)
    )
    schedule = longest.run.schedule
    return [g for g in ran if g.run.schedule == schedule], schedule


def draw_levels(figure, groups):
    """Draws errors over sparsity, a panel a network (Figure 1)."""
    figure.set_size_inches(WIDTH, 3.6)
    panels = figure.subplots(1, len(rivals.MODELS), sharey=True)
    groups, schedule = of_longest(groups)
    for axes, model in zip(panels, rivals.MODELS, strict=True):
        for name, preset, style in (
            ("", False, {"color": BLUE, "marker": "o"}),
            ("preset, ", True, {"color": RED, "marker": "s"}),
        ):
            own = [
                g
                for g in groups
                if g.run.settings.model == model
                and g.run.row.name.endswith("-preset") == preset
            ]
            sparsities = [100 * g.run.settings.sparsity for g in own]
            if own:
                label = f"SNIP, {name}{schedule}"
                draw_curve(axes, sparsities, own, label, **style)
            for group in own:
                if not group.run.settings.sparsity:
                    axes.axhline(
                        group.mean(),
                        color=style["color"],
                        linestyle=(0, (6, 4)),
                        linewidth=1,
                        label=f"dense reference, {name}{schedule}",
                    )
        axes.set(title=TITLES[model], xlabel="sparsity (% of weights removed)")
        axes.set_xticks(range(0, 100, 10))
        axes.grid(alpha=0.3)
    _finish(figure, panels, columns=1)


def draw_curve(axes, places, groups, name, color=BLUE, marker="o"):
    """Draws a curve of errors with their deviations."""
    counts = sorted({len(group.lines) for group in groups})
    axes.errorbar(
        places,
        [group.mean() for group in groups],
        [group.std() for group in groups],
        color=color,
        marker=marker,
        markersize=4,
        capsize=2,
        label=f"{name}, seeds: {' or '.join(map(str, counts))}",
    )


def draw_criteria(figure, groups):
    """Draws the errors of each score."""
    ran = [g for g in groups if g.lines]
    models = [m for m in TITLES if any(g.run.settings.model == m for g in ran)]
    figure.set_size_inches(WIDTH, 4.2)
    panels = figure.subplots(1, len(models), squeeze=False)[0]
    for axes, model in zip(panels, models, strict=True):
        for criterion, style in _styles(scores.SCORES):
            own = [
                (g.run.settings.sparsity, g.mean())
                for g in ran
                if g.run.settings.model == model
                and g.run.settings.criterion == criterion
            ]
            if own:
                sparsities, errors = zip(*own, strict=True)
                _plot(axes, sparsities, errors, label=criterion, **style)
        _of_weights_left(axes, model)
    _finish(figure, panels)


def draw_rivals(figure, groups):
    """Draws a marker for each method: hollow as the paper quotes it."""
    figure.set_size_inches(WIDTH, 4.6)
    panels = figure.subplots(1, len(rivals.MODELS))
    for place, (axes, model) in enumerate(
        zip(panels, rivals.MODELS, strict=True)
    ):
        own = [g for g in groups if g.run.settings.model == model and g.lines]
        for method, style in _styles(method_runs.METHODS):
            name, _, *quoted = rivals.QUOTED.get(method, ("SNIP", ""))
            style["linestyle"] = "-" if method == "snip" else ""
            for is_published, fill in ((False, "full"), (True, "left")):
                points = [
                    (statistics.fmean(g.values("sparsity_reached")), g.mean())
                    for g in own
                    if g.run.settings.method == method
                    and rivals.is_published(g) == is_published
                ]
                label = None if is_published else name
                if points:
                    points = zip(*points, strict=True)
                    _plot(axes, *points, label, fillstyle=fill, **style)
            for percent, error in quoted[place : place + 1]:
                points = [percent / 100], [error]
                _plot(axes, *points, None, fillstyle="none", **style)
        for fill, label in (("none", "as quoted"), ("left", "own schedule")):
            look = {"color": "0.4", "marker": "o", "linestyle": ""}
            axes.plot([], [], label=label, fillstyle=fill, **look)
        _of_weights_left(axes, model)
    _finish(figure, panels, columns=5)


def _styles(names):
    """Returns the names, each with a colour and a marker of its own."""
    return [
        (name, {"color": color, "marker": marker})
        for name, color, marker in zip(names, _COLORS, _MARKERS, strict=False)
    ]


def _plot(axes, sparsities, errors, label, **style):
    left = [100 * (1 - sparsity) for sparsity in sparsities]
    axes.plot(left, errors, label=label, markersize=5, **style)


def make_logarithmic(axes, which):
    """Makes the axis "x" or "y" logarithmic, its ticks plain numbers."""
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def _of_weights_left(axes, model):
    make_logarithmic(axes, "x")
    make_logarithmic(axes, "y")
    axes.invert_xaxis()
    axes.set(title=TITLES[model], xlabel="weights left (%)")
    axes.grid(alpha=0.3)


def _finish(figure, panels, columns=4):
    """Adds what is one for all panels."""
    panels[0].set_ylabel("test error (%)")
    once = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        once |= dict(zip(names, handles, strict=True))
    figure.legend(once.values(), once, ncols=columns, **LEGEND)
