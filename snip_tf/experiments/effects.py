"""What the search tells: the factors' effects, and the nearest protocol."""

import dataclasses
import itertools

import numpy as np

from snip_tf.experiments import protocol, rows, tables

# The paper prints tenths of a percent.
_ROUNDING = 0.05


def main_effects(groups, model, sparsity):
    """Returns what each factor does to the test error of a network.

    It is the least squares fit of the errors of the design: in points, the
    error with the factor less that without, the others averaged. The standard
    errors are those of the residuals, in which interactions count as noise.

    Args:
        groups: The `records.groups` of the search.
        model: The network.
        sparsity: Of the pruned network.

    Returns:
        {factor: (effect, standard error)}; empty if too little was run.
    """
    factors, _ = protocol.DESIGNS[model]
    cells = _cells_of(groups, model)
    searched = [
        (chosen, cells[key].mean())
        for chosen in protocol.fraction(model)
        for key in [(frozenset(chosen), protocol.SEARCH_STEPS[model], sparsity)]
        if key in cells
    ]
    freedom = len(searched) - len(factors) - 1
    if freedom < 1:
        return {}
    design = np.array(
        [[1.0, *(f in chosen for f in factors)] for chosen, _ in searched]
    )
    errors = np.array([error for _, error in searched])
    inverse = np.linalg.pinv(design)
    found = inverse @ errors
    variance = ((errors - design @ found) ** 2).sum() / freedom
    deviations = np.sqrt(variance * (inverse**2).sum(axis=1))
    pairs = zip(found[1:].tolist(), deviations[1:].tolist(), strict=True)
    return dict(zip(factors, pairs, strict=True))


def _cells_of(groups, model):
    """Returns the groups of a network by (factors, steps, sparsity)."""
    return {
        (protocol.changed(s), s.recipe.steps, s.sparsity): group
        for group in _as_planned(groups)
        for s in [group.run.settings]
        if s.model == model
    }


def _as_planned(groups):
    """Returns the groups that have results, of their rows' own settings."""
    return [
        group
        for group in groups
        if group.lines
        and group.run == rows.Run(group.run.row, group.run.row.settings)
    ]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to run a network, or both, at all sparsities of Table 1."""

    factors: frozenset
    steps: tuple[int, ...]  # of each network
    groups: tuple  # a `records.Group` of each number of Table 1

    @property
    def name(self):
        """The factors as the rows name them, and the iterations."""
        own = [f for f in protocol.FACTORS if f in self.factors]
        steps = " and ".join(f"{steps:,}" for steps in self.steps)
        return f"{'-'.join(own) or 'as the text'}, {steps}"

    @property
    def distance(self):
        """The mean absolute difference from the paper, in points."""
        apart = [g.mean() - g.run.row.paper_error for g in self.groups]
        return float(np.mean(np.abs(apart)))


def of_network(groups, model):
    """Returns the `Protocol`s of a network, the nearest to the paper first."""
    cells = _cells_of(groups, model)
    found = []
    for factors, steps in {key[:2] for key in cells}:
        keys = [
            (
                factors if sparsity else factors - protocol.OF_PRUNING,
                steps,
                sparsity,
            )
            for sparsity, *_ in protocol.TABLE_1[model]
        ]
        if set(keys) <= set(cells):
            own = tuple(cells[key] for key in keys)
            found.append(Protocol(factors, (steps,), own))
    return _nearest_first(found)


def of_both(groups):
    """Returns the `Protocol`s of both networks, the nearest to the paper first.

    Each network has its own number of iterations.
    """
    small, large = (of_network(groups, model) for model in protocol.TABLE_1)
    return _nearest_first(
        Protocol(b.factors, a.steps + b.steps, a.groups + b.groups)
        for a, b in itertools.product(small, large)
        # LeNet-300-100 has no convolutions that ReLU could follow.
        if a.factors == b.factors - {"relu"}
    )


def _nearest_first(protocols):
    return sorted(protocols, key=lambda each: (each.distance, each.name))


def text(groups):
    """Returns what the search tells, in Markdown."""
    both = of_both(groups)
    parts = [
        f"## The protocols nearest to Table 1\n\n{_summary(both, groups)}",
        _table_of(both[:5]),
    ]
    for model in protocol.TABLE_1:
        own = of_network(groups, model)
        parts += [f"Of {model} alone:", _table_of(own[:8])] if own else []
    parts += [
        "## What each factor does\n\nThe test error with the factor less that "
        "without, in points, ± its standard error: a least squares fit of the "
        "errors of the factorial design, in which interactions of factors "
        "count as noise.",
        tables.markdown(_effects(groups)),
        "## All runs",
    ]
    return "\n\n".join(filter(None, parts))


def _summary(both, groups):
    """Returns the nearest protocol, and which numbers none gives, in words."""
    missed = []
    for row, near in _nearest_runs(groups):
        difference = near.mean() - row.paper_error
        if abs(difference) > _ROUNDING:
            missed.append(
                f"{row.settings.model} at {row.settings.sparsity:g} "
                f"({row.paper}; the nearest, {near.run.row.name}, has "
                f"{near.mean():.2f})"
            )
    words = []
    if both:
        best = both[0].distance
        near = [each.name for each in both if each.distance < best + 1e-9]
        words.append(
            f"Of {len(both)} protocols with all six numbers, these come "
            f"nearest, {best:.3f} points off on average: "
            f"{'; '.join(near)} iterations."
        )
    if missed:
        words.append(
            f"No run comes within the paper's rounding of {'; '.join(missed)}."
        )
    return " ".join(words) or "Too little was run to tell."


def _nearest_runs(groups):
    """Returns a row and the group nearest to it, of each printed number."""
    by_number = {}
    for group in _as_planned(groups):
        s = group.run.settings
        by_number.setdefault((s.model, s.sparsity), []).append(group)
    for own in by_number.values():
        row = own[0].run.row
        yield row, min(own, key=lambda g: abs(g.mean() - row.paper_error))


def _table_of(protocols):
    """Returns a table of protocols: ours, beside the paper's in the header."""
    if not protocols:
        return ""
    return tables.markdown(
        [
            {
                "protocol, iterations": each.name,
                **{_number(g): tables.error(g) for g in each.groups},
                "mean distance": f"{each.distance:.3f}",
            }
            for each in protocols
        ]
    )


def _number(group):
    row = group.run.row
    return f"{row.settings.model} {row.settings.sparsity:g}: {row.paper}"


def _effects(groups):
    """Returns the table of the main effects."""
    columns = [
        (model, sparsity)
        for model, numbers in protocol.TABLE_1.items()
        for sparsity, *_ in numbers[1:]
    ]
    found = {each: main_effects(groups, *each) for each in columns}
    return [
        {
            "factor": factor,
            **{
                f"{model} {sparsity:g}": _effect(own, factor)
                for (model, sparsity), own in found.items()
            },
        }
        for factor in protocol.FACTORS
    ]


def _effect(found, factor):
    if factor not in found:
        return "not run" if not found else "–"
    return "{:+.2f} ± {:.2f}".format(*found[factor])
