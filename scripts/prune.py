"""Prunes a network at initialisation and saves it, untrained.

    python scripts/prune.py --model=lenet_300_100 --dataset=mnist \
        --sparsity=0.95

scripts/train.py --pruned_model=... trains the file it names.
"""

from absl import app, flags

import snip_tf
from snip_tf.experiments import program, run_flags, runs

flags.adopt_module_key_flags(run_flags)  # for --help


def main():
    """Runs the script."""
    run_flags.refuse_training()
    settings = run_flags.settings()
    if not settings.sparsity:
        raise app.UsageError("--sparsity must be given, above 0 and below 1")
    path = run_flags.run_dir(settings, prefix="pruned-")
    model = runs.prune_only(settings, path, overwrite=run_flags.overwrite())
    print(snip_tf.summary(model))
    print(f"Wrote {path}/model.keras")


if __name__ == "__main__":
    program.run(main)
