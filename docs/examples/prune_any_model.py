"""Prune any Keras model: a backbone of KerasHub.

    pip install keras-hub
    python docs/examples/prune_any_model.py

`snip_tf.masked` changes a built model where it is, whoever's code made its
layers. Here that is a small ResNet of KerasHub, without a download: masked,
pruned to 90% before training, trained on 4,000 images of MNIST, saved, loaded,
and stock again.
"""

import keras
import keras_hub
import numpy as np

import snip_tf

EPOCHS = 3
EXAMPLES = 4000
SPARSITY = 0.9

"""
## The data

MNIST as it comes in a PyPI package. A border of two pixels makes the images 32
by 32, as the backbone halves them several times.
"""

data = snip_tf.data.load("mnist_5k", validation_fraction=0.0)
x, y = snip_tf.data.scoring_batch(data, size=EXAMPLES, seed=0)
x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))

"""
## The model

Nothing here knows of pruning: a backbone, pooling and a classifier.
"""

backbone = keras_hub.models.ResNetBackbone(
    input_conv_filters=[64],
    input_conv_kernel_sizes=[3],
    stackwise_num_filters=[64, 64],
    stackwise_num_blocks=[1, 1],
    stackwise_num_strides=[1, 2],
    block_type="basic_block",
    image_shape=(32, 32, 1),
)
model = keras.Sequential(
    [
        backbone,
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(10, name="logits"),
    ]
)

"""
## Masks, and pruning

`masked` gives each convolution and the classifier a mask. `prune` scores all
weights with one batch and keeps the top tenth. The backbone has batch
normalisation, whose moving statistics are those of no data yet. So the scores
are taken in training mode, with the statistics of the batch. `min_kept=1` keeps
a path to every channel.
"""

snip_tf.masked(model)
model.compile(
    "adam",
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
snip_tf.prune(
    model, x[:100], y[:100], sparsity=SPARSITY, training=True, min_kept=1
)
print(snip_tf.summary(model))

"""
## Training is as usual

A removed weight gets no gradient and stays zero.
"""

model.fit(x, y, batch_size=100, epochs=EPOCHS, verbose=2)
for weight, mask in snip_tf.layers.masked_weights(model):
    removed = np.asarray(mask) == 0
    assert not np.asarray(weight)[removed].any()

"""
## Files

The masks are saved with the model. The backbone's own class knows nothing of
them, so it is saved as its config and which of its layers have masks.
"""

model.save("pruned_resnet.keras")
loaded = keras.models.load_model("pruned_resnet.keras")
assert snip_tf.summary(loaded).kept == snip_tf.summary(model).kept

"""
## Stock again

`strip` leaves KerasHub's own classes, the zeros baked in. They need no snip_tf.
"""

expected = model.predict(x[:100], verbose=0)
snip_tf.strip(model)
assert type(model.layers[0]) is keras_hub.models.ResNetBackbone
np.testing.assert_allclose(
    model.predict(x[:100], verbose=0), expected, rtol=1e-5, atol=1e-5
)
kernels = [np.asarray(w) for w in model.weights if w.name == "kernel"]
zeros = sum(np.count_nonzero(kernel == 0) for kernel in kernels)
size = sum(kernel.size for kernel in kernels)
print(f"{zeros:,} of the {size:,} numbers of stock kernels are zero")
