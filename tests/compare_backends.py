"""Compares the scores and masks of Keras' backends, in a process each.

    python tests/compare_backends.py > results/backends.txt

The weights and the batch, of noise, are the same: the first process draws them.
Of each network and score: how many weights are kept, how many of them another
backend does not keep, and by how much its scores of those differ at most, in
parts of the score.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

import snip_tf
from snip_tf import gradients, models, tables
from snip_tf.experiments import runs

_EXAMPLES = 8


def mobilenet():
    """Returns a network of keras.applications."""
    return snip_tf.masked(
        keras.applications.MobileNetV3Small(
            (96, 96, 3),
            weights=None,
            classes=10,
            classifier_activation=None,
            include_preprocessing=False,
        )
    )


def bert():
    """Returns a backbone of KerasHub, with a classifier."""
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=1000,
        num_layers=4,
        num_heads=4,
        hidden_dim=128,
        intermediate_dim=512,
        max_sequence_length=64,
    )
    features = backbone.output["pooled_output"]
    outputs = keras.layers.Dense(10)(features)
    return snip_tf.masked(keras.Model(backbone.input, outputs))


# What is scored: how it is built, the sparsity, the scores.
_PAPERS = ("lenet_5_caffe", "wrn_16_8", "lstm_s")
_GRADIENTS = ("snip", "grasp", "synflow")
_ROWS = {
    name: (lambda name=name: models.build(name), sparsity, _GRADIENTS)
    for name, sparsity in runs.SPARSITIES.items()
    if name in _PAPERS
}
_ROWS["MobileNetV3Small"] = mobilenet, 0.95, _GRADIENTS
_ROWS["BERT"] = bert, 0.95, _GRADIENTS[:2]  # of tokens: no numbers for SynFlow


def main():
    """Scores in a directory, or in a new one on every backend."""
    if len(sys.argv) > 1:
        score(pathlib.Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as directory:
        for backend in gradients.BACKENDS:
            subprocess.run(
                [sys.executable, __file__, directory],
                env=os.environ | {"KERAS_BACKEND": backend},
                check=True,
                stdout=subprocess.DEVNULL,
            )
        print(table(pathlib.Path(directory)))


def score(directory):
    """Leaves the scores of all rows; weights too, unless they are there."""
    keras.utils.set_random_seed(0)
    for name, (build, _, criteria) in _ROWS.items():
        model = build()
        weights = directory / f"{name}.npz"
        if weights.exists():
            with np.load(weights) as saved:
                model.set_weights([saved[name] for name in saved])
        else:
            np.savez(weights, *model.get_weights())
        x, y = batch(model)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        for criterion in criteria:
            found = snip_tf.scores.get(criterion)(model, x, y, loss=loss)
            path = f"{name}-{criterion}-{keras.backend.backend()}.npz"
            np.savez(directory / path, *found)


def batch(model):
    """Returns noise that a model takes, and labels."""
    generator = np.random.default_rng(0)
    if len(model.inputs) > 1:  # of tokens
        shape = (_EXAMPLES, 64)
        x = {
            "token_ids": generator.integers(0, 1000, shape),
            "segment_ids": np.zeros(shape, int),
            "padding_mask": np.ones(shape, int),
        }
    else:
        x = generator.normal(size=(_EXAMPLES, *model.input_shape[1:]))
        x = x.astype(np.float32)
    return x, generator.integers(0, 10, _EXAMPLES)


def table(directory):
    """Returns the differences from the first backend, a line each."""
    first, *rest = gradients.BACKENDS
    lines = [("network", "score", "backend", "kept", "others", "scores")]
    for name, (_, sparsity, criteria) in _ROWS.items():
        for criterion in criteria:
            flat, kept = {}, {}
            for backend in gradients.BACKENDS:
                path = directory / f"{name}-{criterion}-{backend}.npz"
                with np.load(path) as saved:
                    scores = [saved[key] for key in saved]
                masks = snip_tf.keep_top(scores, sparsity)
                flat[backend] = np.concatenate([s.ravel() for s in scores])
                kept[backend] = np.concatenate([m.ravel() for m in masks]) > 0
            for other in rest:
                there = kept[first] & (flat[first] > 0)
                own = flat[first][there]
                apart = np.abs(flat[other][there] - own) / own
                lines.append(
                    (
                        name,
                        criterion,
                        other,
                        f"{np.count_nonzero(kept[first]):,}",
                        f"{np.count_nonzero(kept[first] & ~kept[other]):,}",
                        f"{apart.max():.1e}",
                    )
                )
    return tables.aligned(lines, text_columns=3)


if __name__ == "__main__":
    main()
