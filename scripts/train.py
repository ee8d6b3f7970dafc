"""Prunes a network at initialisation, trains it and evaluates it.

    python scripts/train.py --model=lenet_300_100 --dataset=mnist \
        --sparsity=0.95

Or trains what scripts/prune.py wrote: --pruned_model=runs/.../model.keras.
"""

from absl import flags

from snip_tf.experiments import program, run_flags, runs

flags.adopt_module_key_flags(run_flags)  # for --help
_PRUNED_MODEL = flags.DEFINE_string(
    "pruned_model", None, "A .keras file to train as it is, masks included."
)


def main():
    """Runs the script."""
    model = None
    if _PRUNED_MODEL.value:
        model = runs.load_model(_PRUNED_MODEL.value)
        settings = run_flags.settings_of(model, _PRUNED_MODEL.value)
    else:
        settings = run_flags.settings()
    path = run_flags.run_dir(settings)
    result = runs.run(
        settings, path, overwrite=run_flags.overwrite(), model=model
    )
    print(f"Test error {result['test_error']:.2f}%, wrote {path}")


if __name__ == "__main__":
    program.run(main)
