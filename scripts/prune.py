"""Prunes a network at initialisation and saves it, untrained.

    python scripts/prune.py --model=lenet_300_100 --dataset=mnist \
        --sparsity=0.95

scripts/train.py --pruned_model=... trains the file it names.
"""

from absl import app

import experiment
import program
import run_directory
import run_flags
import snip_tf


def main():
    """Runs the script."""
    settings = run_flags.settings()
    if not settings.sparsity:
        raise app.UsageError("--sparsity must be given, above 0 and below 1")
    path, overwrite = run_flags.run_dir(
        f"pruned-{settings.model}-{settings.dataset}-{settings.sparsity:.6g}"
        f"-seed{settings.seed}"
    )
    directory = run_directory.create(path, overwrite=overwrite)
    model = experiment.prune_only(settings, directory)
    print(snip_tf.summary(model))
    print(f"Wrote {directory / 'model.keras'}")


if __name__ == "__main__":
    program.run(main)
