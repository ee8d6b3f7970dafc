"""Prunes a network at initialisation, trains it and evaluates it.

    python scripts/train.py --model=lenet_300_100 --dataset=mnist \
        --sparsity=0.95

Or trains what scripts/prune.py wrote: --pruned_model=runs/.../model.keras. The
paper's recipe for the data set is what is not given of it; --steps alone moves
the drops of the learning rate in proportion. A run that was stopped goes on by
the same command: SIGTERM and Ctrl-C save it first.
"""

import environment  # noqa: F401
from absl import flags

from snip_tf.experiments import (
    distributed,
    mirrored,
    program,
    run_flags,
    runs,
)

run_flags.define_run()
run_flags.define_recipe()
_PRUNED_MODEL = flags.DEFINE_string(
    "pruned_model", None, "A .keras file to train as it is, masks included."
)
_RESUME_ANYWAY = flags.DEFINE_bool(
    "resume_anyway",
    False,
    "Go on with what was stopped in the run directory although settings, data "
    "or versions differ; config.json and result.json then say in what.",
)
_DISTRIBUTION = flags.DEFINE_enum(
    "distribution",
    None,
    ["mirrored", "data_parallel"],
    "Give an equal part of each batch to all devices of this machine "
    "(mirrored); or be one of the processes that "
    "KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID name, "
    "on KERAS_BACKEND=jax (data_parallel). By default one device trains.",
)


def main():
    """Runs the script."""
    kind = _DISTRIBUTION.value
    with distributed.joined(kind), mirrored.scope(kind):
        _train()


def _train():
    model = None
    if _PRUNED_MODEL.value:
        model = runs.load_model(_PRUNED_MODEL.value)
    settings = run_flags.settings(model)
    if settings.method != "snip":
        program.refuse(["distribution"], "--method trains on one device")
    mirrored.check_splits(settings.recipe.batch_size)
    path = run_flags.run_dir(settings)
    if _RESUME_ANYWAY.value:
        program.refuse(["overwrite"], "--resume_anyway replaces nothing")
    result = runs.run(
        settings,
        path,
        overwrite=flags.FLAGS.overwrite,
        resume_anyway=_RESUME_ANYWAY.value,
        model=model,
    )
    print(f"Test error {result['test_error']:.2f}%, wrote {path}")


if __name__ == "__main__":
    program.run(main)
