"""Package metadata of snip_tf."""

import pathlib

import setuptools

_DEMO = ["matplotlib", "mlxtend"]
# Runs LiteRT files; to write them TensorFlow is enough.
_LITERT = ["ai-edge-litert"]
_TEST = [
    "coverage>=7.10",
    "hypothesis",
    "jax>=0.7",
    "keras-hub>=0.25",
    "pytest",
    "pytest-xdist",
    "ruff",
    # Builds wheels by itself, and Python 3.12 brings none.
    "setuptools>=70.1",
    *_DEMO,
    *_LITERT,
]

setuptools.setup(
    name="snip_tf",
    version="0.2.0.dev0",
    description=(
        "SNIP: single-shot network pruning based on connection sensitivity, "
        "for TensorFlow 2 and Keras 3"
    ),
    long_description=pathlib.Path(__file__)
    .with_name("README.md")
    .read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    # `models` and `scripts` are too common to be top-level names of an
    # installed package: the zoo installs as snip_tf.models, scripts not at all.
    packages=[
        *setuptools.find_packages(include=["snip_tf*"]),
        "snip_tf.models",
    ],
    package_dir={"snip_tf.models": "models"},
    # The lower bounds are what `make test-versions` runs: see tests/oldest.txt.
    install_requires=[
        "absl-py",
        # TFDS imports it to download, but does not say that it needs it.
        "importlib_resources",
        "keras>=3.14",
        "numpy>=2.0",
        "tensorflow>=2.20",
        "tensorflow-datasets>=4.9.10",
    ],
    extras_require={
        "demo": _DEMO,
        "jax": ["jax>=0.7"],
        "litert": _LITERT,
        "ray": ["ray>=2.60"],
        "test": _TEST,
        "torch": ["torch>=2.13"],
    },
)
