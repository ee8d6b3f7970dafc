"""Measures why Table 3's initialisations leave recurrent kernels or empty them.

    python results/studies/recurrent.py

The score of a weight is |weight x input x gradient|, summed over the rows of an
image and the images. So for each network and initialisation of Table 3 that is
recurrent, at the draw that is scored, means over the seeds:

rows       what the kernel reads, the projected rows: root of the mean square
state      what the recurrent kernel reads, the states before each row: the same
saturated  the part of the gates that are below 0.05 or above 0.95
gradient   of the loss with respect to the first row, relative to the last:
           below 1 it fades on its way back through the rows (geometric mean)
scores     the part of all scores that falls on the recurrent kernel

First with all weights drawn so, then with all but the projection of the rows,
which Glorot's initialisation (vs_x) then keeps small. MNIST is read from
TFDS_DATA_DIR, else from TFDS' own directory.
"""

import collections

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import snip_tf
from snip_tf import models, tables
from snip_tf.experiments import paper, program, runs

_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
_SATURATED = 0.05  # so near to 0 or 1
_SEEDS = 5
_COLUMNS = {
    "rows": "{:.2f}",
    "state": "{:.2f}",
    "saturated": "{:.0%}",
    "gradient": "{:.2g}",
    "scores": "{:.0%}",
}


def main():
    """Runs the study."""
    flows = collections.defaultdict(list)
    for row in paper.EXPERIMENTS["table_3"].rows:
        is_studied = row.settings.model in ("lstm_s", "gru_s")
        for seed in range(_SEEDS if is_studied else 0):
            settings = row.at(seed=seed)
            data = runs.load_data(settings)
            batch = runs.scoring_batch(settings, data)
            model = runs.build(settings, data)
            flows["all", row.name].append(measure(model, *batch))
            projection = model.get_layer("projection")
            (kernel, _), *_ = projection.masked_weights()
            kernel.assign(models.blocks.own("vs_x")(kernel.shape))
            flows["all but rows", row.name].append(measure(model, *batch))
    table = [("run", "drawn so", *_COLUMNS)]
    # The networks as they are first.
    for (drawn, name), seeds in sorted(flows.items(), key=lambda f: f[0][0]):
        means = {
            key: np.mean([flow[key] for flow in seeds]) for key in _COLUMNS
        }
        logs = np.log([flow["gradient"] for flow in seeds])
        means["gradient"] = np.exp(logs.mean())
        cells = (text.format(means[key]) for key, text in _COLUMNS.items())
        table.append((name, drawn, *cells))
    print(tables.aligned(table, text_columns=2))


def measure(model, x, y):
    """Returns the numbers of one recurrent network, a dict by name.

    Args:
        model: An LSTM or a GRU, as `models.build` returns it.
        x: Images, of shape (examples, rows, columns, channels).
        y: Their labels.
    """
    projection, recurrent, logits = model.layers[-3:]
    rows = projection(model.get_layer("rows")(ops.convert_to_tensor(x)))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        loss = _LOSS(y, logits(recurrent(rows)))
    gradients = np.linalg.norm(tape.gradient(loss, rows), axis=(0, 2))
    states = _states_before(recurrent, rows)
    gates = _gates(recurrent.cell, rows, states)
    outside = np.abs(gates - 0.5) > 0.5 - _SATURATED
    scores = snip_tf.sensitivity(model, x, y, loss=_LOSS)
    names = [row.name for row in snip_tf.summary(model).rows]
    (of_state,) = (n for n, x in enumerate(names) if "recurrent_kernel" in x)
    return dict(
        rows=_root_mean_square(rows),
        state=_root_mean_square(states),
        saturated=float(outside.mean()),
        gradient=float(gradients[0] / gradients[-1]),
        scores=float(scores[of_state].sum()),
    )


def _states_before(recurrent, rows):
    """Returns the state that each row meets: zero, then what was put out."""
    config = {**recurrent.get_config(), "return_sequences": True}
    over_time = type(recurrent).from_config(config)
    over_time.build(rows.shape)
    over_time.set_weights(recurrent.get_weights())
    states = ops.convert_to_numpy(over_time(rows))
    return np.concatenate([np.zeros_like(states[:, :1]), states[:, :-1]], 1)


def _gates(cell, rows, states):
    """Returns the gates at each row: of Keras' blocks all but the candidate."""
    bias = ops.convert_to_numpy(cell.bias)
    if isinstance(cell, keras.layers.GRUCell):
        bias = bias.sum(axis=0)
    before = rows @ cell.kernel + states @ cell.recurrent_kernel + bias
    blocks = np.split(ops.convert_to_numpy(before), len(bias) // cell.units, -1)
    # The candidate is the third of a GRU's blocks and of an LSTM's.
    return ops.convert_to_numpy(ops.sigmoid(np.stack(blocks[:2] + blocks[3:])))


def _root_mean_square(values):
    return float(np.sqrt(np.mean(np.square(values))))


if __name__ == "__main__":
    program.run(main)
