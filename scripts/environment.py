"""What scripts ask of the environment; imported before Keras and TensorFlow.

`import snip_tf` sets no switch: they are the process' own business.
"""

import importlib.util
import os
import sys

# oneDNN's kernels are off by default on CPUs without AVX-512, where they made
# a VGG training step 2.8 times faster.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Without it TensorFlow reports more at every start, missing GPUs first.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def check_backend(name):
    """Ends the process if a backend of Keras is not installed."""
    if importlib.util.find_spec(name) is None:
        sys.exit(
            "error: Keras' backend must be tensorflow, jax or torch, and be "
            "installed: pip install 'snip_tf[jax]' or 'snip_tf[torch]'. "
            f"Received: {name}"
        )


check_backend(os.environ.get("KERAS_BACKEND") or "tensorflow")
