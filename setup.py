"""Package metadata of snip_tf."""

import pathlib

import setuptools

_DEMO = ["matplotlib", "mlxtend", "pandas"]
# Runs LiteRT files; to write them TensorFlow is enough.
_LITERT = ["ai-edge-litert"]
_TEST = ["jax", "keras-hub", "pytest", "pytest-xdist", "ruff", *_DEMO, *_LITERT]

setuptools.setup(
    name="snip_tf",
    version="0.1.0",
    description=(
        "SNIP: single-shot network pruning based on connection sensitivity, "
        "for TensorFlow 2 and Keras 3"
    ),
    long_description=pathlib.Path(__file__)
    .with_name("README.md")
    .read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    # `models` and `scripts` are too common to be top-level names of an
    # installed package: the zoo installs as snip_tf.models, scripts not at all.
    packages=[
        "snip_tf",
        "snip_tf.compaction",
        "snip_tf.data",
        "snip_tf.experiments",
        "snip_tf.exporting",
        "snip_tf.layers",
        "snip_tf.models",
        "snip_tf.scores",
    ],
    package_dir={"snip_tf.models": "models"},
    install_requires=[
        "tensorflow>=2.18",
        "keras>=3.9",
        "tensorflow-datasets",
        # TFDS imports it to download, but does not say that it needs it.
        "importlib_resources",
        "absl-py",
        "numpy",
    ],
    extras_require={
        "demo": _DEMO,
        "jax": ["jax"],
        "litert": _LITERT,
        "test": _TEST,
    },
)
