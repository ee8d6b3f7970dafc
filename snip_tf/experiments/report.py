"""The page of an experiment, from its recorded lines alone."""

from snip_tf import _atomic, training
from snip_tf.experiments import (
    effects,
    estimates,
    figures,
    paper,
    protocol,
    records,
    rows,
    tables,
)

_ERRORS = (
    "Test errors are in percent, after the last step: mean ± sample standard "
    "deviation over the seeds. The best of the last five validations on the "
    "test set is what the authors' code prints: for comparison alone. A "
    "difference is our mean less another error, with several seeds also in our "
    "standard deviations (sd)."
)
_STRAYS = "lines of runs that are no longer part of the experiment."
_SHORTENED = "\\* A **shortened schedule**"


def write(directory, name=None):
    """Makes NAME.png and NAME.md from each NAME.jsonl, and comparison.md.

    Of all experiments in the directory that have lines, or of one by its name.
    """
    recorded = {
        each: records.read(directory / f"{each}.jsonl")
        for each in paper.EXPERIMENTS
    }
    names = [name] if name else paper.EXPERIMENTS
    pages = {}
    for each in names:
        if recorded[each]:
            pages[f"{each}.png"] = figures.picture(each, recorded[each])
            pages[f"{each}.md"] = text(each, recorded[each]).encode("utf-8")
    if not pages:
        raise FileNotFoundError(f"There is nothing to draw in {directory}")
    pages["comparison.md"] = comparison(recorded).encode("utf-8")
    for file, content in pages.items():
        # Two experiments may end at the same time.
        with _atomic.replaced(directory / file) as new:
            new.write_bytes(content)
        print(f"Wrote {directory / file}")


def text(name, lines):
    """Returns the page of an experiment from its lines."""
    experiment = paper.EXPERIMENTS[name]
    groups = records.groups(name, lines)
    failed = "; ".join(
        f"{run.name} ({run.schedule}): {line['error']}"
        for run, line in records.by_run(name, lines).items()
        if "error" in line
    )
    strays = sum(records.run_of(name, line) is None for line in lines)
    command = f"`python scripts/reproduce.py --experiment={name}`"
    if any(g.run != rows.Run(g.run.row, g.run.row.settings) for g in groups):
        flags = "`--steps`, `--dataset` or `--backend`"
        command += f", with the {flags} that the rows say"
    quoted = tables.markdown(tables.quoted())
    quoted = f"As the paper quotes other methods:\n\n{quoted}"
    parts = [
        f"# {experiment.title}",
        f"{experiment.source}. {experiment.note}",
        f"![{experiment.title}]({name}.png)",
        "" if experiment.rows[0].sparsities else _ERRORS,
        effects.text(groups) if name == "protocol" else "",
        tables.markdown(tables.of_experiment(name, groups)),
        _schedules(groups) if name not in ("rivals", "criteria") else "",
        quoted if name == "table_1" else "",
        f"Failed: {failed}." if failed else "",
        f"Left out: {strays} {_STRAYS}" if strays else "",
        _surroundings([line for group in groups for line in group.lines]),
        command,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def comparison(recorded):
    """Returns the page of every printed error beside ours, of all lines."""
    groups = {
        name: records.groups(name, lines) for name, lines in recorded.items()
    }
    return (
        "# The paper's errors, those of its authors' code, and ours\n\n"
        f"{_ERRORS} {protocol.PRESET_NOTE} {protocol.AUTHORS}\n\n"
        f"{tables.markdown(tables.comparison(groups))}\n\n"
        f"{_SHORTENED}.\n"
    )


def _schedules(groups):
    """Returns what is to be said of shortened schedules, if there are any."""
    runs = [g.run for g in groups if g.was_run and g.run.is_shortened]
    settings = [run.settings for run in runs]
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


def _surroundings(lines):
    """Returns how long finished runs took, and on what."""
    if not lines:
        return "No run is finished."

    def seen(values):
        return ", ".join(sorted({str(value) for value in values}))

    taken = [line["taken_from"] for line in lines if "taken_from" in line]
    taken = f", {len(taken)} of them taken from {seen(taken)}," if taken else ""
    seconds = sum(
        line.get(f"{part}_seconds", 0)
        for line in lines
        for part in ("train", "prune", "pretraining")
    )
    packages = sorted({name for line in lines for name in line["versions"]})
    versions = "; ".join(
        f"{name} {seen(line['versions'].get(name, '-') for line in lines)}"
        for name in packages
    )
    commit, processor, cores = (
        seen(line[name] for line in lines)
        for name in ("commit", "processor", "cores")
    )
    return (
        f"{len(lines)} runs{taken} of {estimates.clock(seconds)} in all, at "
        f"commit {commit} on {processor}, cores a run: {cores}; {versions}."
    )
