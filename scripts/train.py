"""Prunes a network at initialisation, trains it and evaluates it.

    python scripts/train.py --model=lenet_300_100 --dataset=mnist \
        --sparsity=0.95

Or trains what scripts/prune.py wrote: --pruned_model=runs/.../model.keras.
"""

import dataclasses

from absl import flags

import experiment
import program
import run_directory
import run_flags
import snip_tf

_PRUNED_MODEL = flags.DEFINE_string(
    "pruned_model", None, "A .keras file to train as it is, masks included."
)
_BUILDING = (
    "model",
    "sparsity",
    "score_batch_size",
    "criterion",
    "reinit",
    "kernel_initializer",
    "train_initializer",
    "bias_initializer",
)


def main():
    """Runs the script."""
    run_flags.refuse_together("pruned_model", _BUILDING)
    model = None
    if _PRUNED_MODEL.value:
        model = experiment.load_model(_PRUNED_MODEL.value)
    settings = run_flags.settings(model.name if model else None)
    if model:
        sparsity = snip_tf.model_sparsity(model)
        settings = dataclasses.replace(settings, sparsity=sparsity)
    name = (
        f"{settings.model}-{settings.dataset}-{settings.sparsity:.6g}"
        f"-seed{settings.seed}"
    )
    path, overwrite = run_flags.run_dir(name)
    directory = run_directory.create(path, overwrite=overwrite)
    result = experiment.run(settings, directory, model=model)
    print(f"Test error {result['test_error']:.2f}%, wrote {directory}")


if __name__ == "__main__":
    program.run(main)
