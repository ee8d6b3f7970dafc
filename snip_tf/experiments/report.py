"""The page of an experiment, from its recorded lines alone."""

from snip_tf import _atomic, training
from snip_tf.experiments import (
    estimates,
    figures,
    grouping,
    paper,
    printed,
    records,
    tables,
)

_ERRORS = (
    "Test errors are in percent and after the last step, never the best of "
    "several: mean ± sample standard deviation over the seeds. Only where it "
    "says so are they those at the best validation. A difference is our mean "
    "less another error, with several seeds also in our standard deviations "
    "(sd)."
)
_STRAYS = "lines of runs that are no longer part of the experiment."
_QUOTED = (
    f"As the paper quotes other methods:\n\n{tables.markdown(*printed.QUOTED)}"
)
_SHORTENED = "\\* A **shortened schedule**"


def write(names, directory):
    """Makes NAME.png and NAME.md from each NAME.jsonl, then comparison.md.

    Each is written whole or not at all.

    Args:
        names: Names of `paper.EXPERIMENTS`.
        directory: The path of the directory they are in.
    """
    if not names:
        raise FileNotFoundError(f"There is nothing to draw in {directory}")
    for name in names:
        path = directory / f"{name}.jsonl"
        lines = records.read(path)
        if not lines:
            raise FileNotFoundError(
                f"There is nothing to draw: no lines in {path}"
            )
        _replace(path.with_suffix(".png"), figures.picture(name, lines))
        _replace(path.with_suffix(".md"), text(name, lines).encode("utf-8"))
    path = directory / "comparison.md"
    _replace(path, comparison(directory).encode("utf-8"))


def _replace(path, content):
    # Whole or not at all: two experiments may end at the same time.
    with _atomic.replaced(path) as new:
        new.write_bytes(content)
    print(f"Wrote {path}")


def recorded(directory):
    """Returns the names of the experiments that have lines in a directory."""
    return [
        name
        for name in paper.EXPERIMENTS
        if records.read(directory / f"{name}.jsonl")
    ]


def text(name, lines):
    """Returns the page of an experiment.

    Args:
        name: A name of `paper.EXPERIMENTS`.
        lines: What `records.read` returned.
    """
    experiment = paper.EXPERIMENTS[name]
    groups = grouping.groups(name, lines)
    failed = "; ".join(_failures(name, lines))
    strays = sum(records.run_of(name, line) is None for line in lines)
    parts = [
        f"# {experiment.title}",
        f"{experiment.source}. {experiment.note}",
        f"![{experiment.title}]({name}.png)",
        "" if experiment.rows[0].sparsities else _ERRORS,
        _markdown(tables.of_experiment(name, groups)),
        _schedules(groups),
        _QUOTED if name == "table_1" else "",
        f"Failed: {failed}." if failed else "",
        f"Left out: {strays} {_STRAYS}" if strays else "",
        _surroundings(groups),
        f"`python scripts/reproduce.py --experiment={name}`",
    ]
    if any(
        group.run.settings != group.run.row.at() or group.run.departures
        for group in groups
    ):
        flags = "`--steps`, `--dataset` or `--backend`"
        parts[-1] += f", with the {flags} that the rows say"
    return "\n\n".join(filter(None, parts)) + "\n"


def comparison(directory):
    """Returns the page of every error that the paper prints, beside ours.

    Args:
        directory: The path of the directory of the lines.
    """
    groups = {
        name: grouping.groups(name, records.read(directory / f"{name}.jsonl"))
        for name in paper.EXPERIMENTS
    }
    parts = [
        "# The paper's errors, those of its authors' code, and ours",
        f"{_ERRORS} {printed.AUTHORS}",
        _markdown(tables.comparison(groups)),
        f"{_SHORTENED}.",
    ]
    return "\n\n".join(parts) + "\n"


def _schedules(groups):
    """Returns what is to be said of shortened schedules, if there are any."""
    settings = [
        group.run.settings
        for group in groups
        if grouping.was_run(group) and group.run.is_shortened
    ]
    said = []
    for dataset, steps, drops in sorted(
        {(s.dataset, s.recipe.steps, s.recipe.drops) for s in settings}
    ):
        where = " and ".join(f"{drop:,}" for drop in drops)
        said.append(
            f"{steps:,} of {training.RECIPES[dataset].steps:,} iterations on "
            f"{dataset}, the learning rate "
            + (f"dropping at {where}" if drops else "constant")
        )
    return f"{_SHORTENED}: {'; '.join(said)}." if said else ""


def _markdown(table):
    return tables.markdown(table[0], (row.values() for row in table))


def _failures(name, lines):
    """Returns what failed, on what, and why."""
    return [
        f"{run.name} ({', '.join([run.schedule, *run.departures])}): "
        f"{line['error']}"
        for run, line in records.by_run(name, lines).items()
        if "error" in line
    ]


def _surroundings(groups):
    """Returns how long the runs took, and on what."""
    lines = [line for group in groups for line in group.lines]
    if not lines:
        return "No run is finished."

    def seen(values):
        return ", ".join(sorted({str(value) for value in values}))

    def seen_of(name):
        return seen(line[name] for line in lines)

    taken = [line["taken_from"] for line in lines if "taken_from" in line]
    taken = f", {len(taken)} of them taken from {seen(taken)}," if taken else ""
    seconds = sum(
        line.get("train_seconds", 0) + line["prune_seconds"] for line in lines
    )
    packages = sorted({name for line in lines for name in line["versions"]})
    versions = "; ".join(
        f"{name} {seen(line['versions'].get(name, '-') for line in lines)}"
        for name in packages
    )
    return (
        f"{len(lines)} runs{taken} of {estimates.clock(seconds)} in all, at "
        f"commit {seen_of('commit')} on {seen_of('processor')}, cores a run: "
        f"{seen_of('cores')}; {versions}."
    )
