"""Train what survives: SNIP against chance, on LeNet-300-100.

    pip install "snip_tf[demo]"
    python docs/examples/train_what_survives.py

Does it matter which weights stay? Three networks of the same size and training:
the dense one, one that keeps the 2% of the weights with the highest
sensitivity, and one that keeps 2% at random. Then a look at which pixels the
first layer still sees.
"""

import keras
import numpy as np

import snip_tf
from snip_tf import training

STEPS = 3000
SPARSITY = 0.98

"""
## Data and recipe

The paper's: SGD with momentum, batches of 100, the learning rate divided by ten
at two steps, L2 in the loss. Its 60,000 steps are scaled to the 4,000 images
there are here.
"""

data = snip_tf.data.load("mnist_5k", validation_fraction=0.0)
recipe = training.RECIPES["mnist_5k"].scaled_to(STEPS)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
x, y = snip_tf.data.scoring_batch(data, size=100, seed=0)

"""
## One network

Built, pruned before its first step, trained, and tested on images it never saw.
"""


def test_error(criterion):
    """Returns the test error in percent, and the network."""
    keras.utils.set_random_seed(0)
    model = snip_tf.models.build("lenet_300_100")
    if criterion is not None:
        snip_tf.prune(
            model, x, y, sparsity=SPARSITY, criterion=criterion, loss=loss
        )
    training.compile_model(model, recipe)
    batches = snip_tf.data.training_batches(
        data, batch_size=recipe.batch_size, seed=0, stop=recipe.steps
    )
    model.fit(batches, shuffle=False, verbose=0)
    test = snip_tf.data.evaluation_batches(data, "test")
    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    return 100 * (1 - accuracy), model


"""
## Dense, SNIP, chance
"""

networks = {}
for name in (None, "snip", "random"):
    error, networks[name] = test_error(name)
    kept = snip_tf.summary(networks[name]).kept
    print(f"{name or 'dense':8}{kept:9,} weights {error:8.2f}% test error")

"""
## Which connections survived

Each row of the first kernel belongs to a pixel. A digit says how much of the
most that any pixel keeps this one does: SNIP looks where digits are, chance
looks everywhere.
"""


def picture(model):
    """Returns how many connections each pixel keeps, as rows of text."""
    kept = snip_tf.get_masks(model)[0].sum(axis=1).reshape(28, 28)
    shades = np.ceil(9 * kept / kept.max()).astype(int)
    return "\n".join("".join(" 123456789"[s] for s in row) for row in shades)


print(picture(networks["snip"]))

"""
## What is left

Many units have no connection left at all: `compact` makes a smaller network of
the rest, with the same outputs.
"""

print(snip_tf.summary(networks["snip"]))
small = snip_tf.compact(networks["snip"])
np.testing.assert_allclose(
    small.predict(x, verbose=0),
    networks["snip"].predict(x, verbose=0),
    rtol=1e-4,
    atol=1e-4,
)
print(snip_tf.flops(small))
