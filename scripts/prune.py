"""Prunes a network at initialisation and saves it, untrained.

    python scripts/prune.py --model=lenet_300_100 --dataset=mnist \
        --sparsity=0.95

scripts/train.py --pruned_model=... trains the file it names.
"""

import environment  # noqa: F401
from absl import app, flags

from snip_tf.experiments import program, run_flags, runs

run_flags.define_run()


def main():
    """Runs the script."""
    settings = run_flags.settings()
    if not settings.sparsity:
        raise app.UsageError("--sparsity must be given, above 0 and below 1")
    path = run_flags.run_dir(settings, prefix="pruned-")
    runs.run(settings, path, overwrite=flags.FLAGS.overwrite, train=False)
    print(f"Wrote {path}/model.keras")


if __name__ == "__main__":
    program.run(main)
