"""Prunes LeNet-300-100 to 95% and trains it beside the dense one, offline.

    python scripts/demo.py

On the 5,000 MNIST images that come with a PyPI package. Ends with a table and
a picture of the first-layer weights that survived.
"""

import pathlib

import environment  # noqa: F401
import numpy as np
from absl import flags

import snip_tf
from snip_tf import training
from snip_tf.experiments import method_runs, program, run_flags, runs

run_flags.define_run_dir("runs/demo", "it is replaced.")
_STEPS = flags.DEFINE_integer(
    "steps", 3000, "Iterations of each training.", lower_bound=1
)


def main():
    """Runs the script."""
    directory = pathlib.Path(flags.FLAGS.run_dir)
    recipe = training.RECIPES["mnist_5k"].scaled_to(_STEPS.value)
    results = {}
    for name, sparsity in (("dense", 0.0), ("sparse", 0.95)):
        print(f"\nTraining LeNet-300-100, {name}")
        settings = runs.Settings(
            model="lenet_300_100",
            dataset="mnist_5k",
            recipe=recipe,
            sparsity=sparsity,
            validate_every=method_runs.period_of(recipe.steps, 500),
        )
        results[name] = runs.run(settings, directory / name, overwrite=True)
    sparse = runs.load_model(directory / "sparse" / "model.keras")
    print(f"\n{snip_tf.summary(sparse)}\n")
    print(f"{'':8}{'weights':>9}{'test error':>12}")
    for name, result in results.items():
        print(f"{name:8}{result['kept']:9,}{result['test_error']:11.2f}%")
    picture = directory / "first_layer.png"
    draw_first_layer(np.array(snip_tf.get_masks(sparse)[0]), picture)
    print(f"\nSurviving first-layer weights: {picture}")


def draw_first_layer(mask, path):
    """Draws how many of its units a pixel stays connected to (paper, 5.4)."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(4.6, 4), layout="constrained")
    kept = mask.sum(axis=1).reshape(28, 28)
    image = figure.subplots().imshow(kept, cmap="gray")
    figure.colorbar(image, label=f"connections kept, of {mask.shape[1]}")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    program.run(main)
