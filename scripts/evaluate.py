"""Evaluates a saved network: its test error and what is left of it.

python scripts/evaluate.py --run_dir=runs/lenet_300_100-mnist-0.95-seed0
python scripts/evaluate.py --model_file=model.keras --dataset=mnist
"""

import environment  # noqa: F401

import snip_tf
from snip_tf import data, training
from snip_tf.experiments import program, run_flags, runs

run_flags.define_saved()


def main():
    """Runs the script."""
    model, examples = run_flags.saved()
    training.compile_model(model, training.RECIPES[examples.name])
    error = runs.error_of(model, data.evaluation_batches(examples, "test"))
    print(snip_tf.summary(model))
    print(f"Test error on {examples.name}: {error:.2f}%")


if __name__ == "__main__":
    program.run(main)
