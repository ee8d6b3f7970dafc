"""TensorFlow's switches for the scripts; imported before TensorFlow.

`import snip_tf` sets none of them: they are the process' own business.
"""

import os

# oneDNN's kernels are off by default on CPUs without AVX-512, where they made
# a VGG training step 2.8 times faster.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Errors only: TensorFlow else reports missing GPUs at every start.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
