"""Deploy to LiteRT: a pruned network as a small file that runs without us.

    pip install "snip_tf[demo]" ai-edge-litert
    python docs/examples/deploy_to_litert.py

A mask that only multiplies saves nothing. `snip_tf.export` removes the dead
units, bakes the zeros in and stores what is left sparsely. Here LeNet-300-100
at 98% is trained, exported, run by LiteRT, and compared with the network that
was trained.
"""

import pathlib

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

import snip_tf
from snip_tf import training

STEPS = 1000
SPARSITY = 0.98

"""
## A pruned, trained network
"""

data = snip_tf.data.load("mnist_5k", validation_fraction=0.0)
recipe = training.RECIPES["mnist_5k"].scaled_to(STEPS)
keras.utils.set_random_seed(0)
model = snip_tf.models.build("lenet_300_100")
training.compile_model(model, recipe)
x, y = snip_tf.data.scoring_batch(data, size=100, seed=0)
snip_tf.prune(model, x, y, sparsity=SPARSITY)
batches = snip_tf.data.training_batches(
    data, batch_size=recipe.batch_size, seed=0, stop=recipe.steps
)
model.fit(batches, shuffle=False, verbose=0)

"""
## Four files

The same network in every format, beside a LiteRT file of a dense one. An export
is written whole or not at all, and replaces an earlier one only with
`overwrite=True`.
"""


def bytes_in(directory):
    """Returns the sizes of all files below a directory, in sum."""
    return sum(file.stat().st_size for file in directory.rglob("*.*"))


exports = pathlib.Path("exported")
for name in ("saved_model", "sparse_saved_model", "keras", "litert"):
    snip_tf.export(model, exports / name, format=name, overwrite=True)
    print(f"{name:20}{bytes_in(exports / name):11,} bytes")
dense = snip_tf.models.build("lenet_300_100")
snip_tf.export(dense, exports / "dense", format="litert", overwrite=True)
print(f"{'litert, dense':20}{bytes_in(exports / 'dense'):11,} bytes")

"""
## In LiteRT's interpreter

All that a device needs is the file, and LiteRT.
"""

interpreter = Interpreter(
    str(exports / "litert" / "model.tflite"), num_threads=1
)
interpreter.allocate_tensors()
(given,) = interpreter.get_input_details()
(returned,) = interpreter.get_output_details()


def logits(image):
    """Returns what the file computes for one image (28, 28, 1)."""
    interpreter.set_tensor(given["index"], image[np.newaxis])
    interpreter.invoke()
    return interpreter.get_tensor(returned["index"])[0]


"""
## The same answers

On all test images, within the rounding of float32.
"""

images = np.asarray(
    snip_tf.data.standardise(data.test.images, data.mean, data.std)
)
exported = np.stack([logits(image) for image in images])
difference = np.abs(exported - model.predict(images, verbose=0)).max()
assert difference < 1e-4
errors = np.mean(exported.argmax(axis=-1) != data.test.labels)
print(f"{errors:.2%} of {len(images):,} test images are wrong")
