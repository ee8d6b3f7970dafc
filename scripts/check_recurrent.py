"""Measures why Table 3's initialisations leave recurrent kernels or empty them.

    python scripts/check_recurrent.py

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
import dataclasses

import environment  # noqa: F401
import keras
import numpy as np
import tensorflow as tf
from absl import flags
from keras import ops

import snip_tf
from snip_tf import models, tables
from snip_tf.experiments import program, runner

_SEEDS = flags.DEFINE_integer("seeds", 5, "From 0 on.", lower_bound=1)
_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
_SATURATED = 0.05  # so near to 0 or 1


@dataclasses.dataclass(frozen=True)
class Flow:
    """What `measure` measured; the module says what each number is."""

    rows: float
    state: float
    saturated: float
    gradient: float
    scores: float


def main():
    """Runs the script."""
    # Many models in one process are what TensorFlow warns of.
    tf.get_logger().setLevel("ERROR")
    runs = runner.plan("table_3", only="(lstm|gru)_s", seeds=_SEEDS.value)
    flows = collections.defaultdict(list)
    for run in runs:
        data = runs.load_data(run.settings)
        batch = runs.scoring_batch(run.settings, data)
        model = runs.build(run.settings, data)
        flows[run.row.name, "all"].append(measure(model, *batch))
        projection = model.get_layer("projection")
        (kernel, _), *_ = projection.masked_weights()
        kernel.assign(models.blocks.own("vs_x")(kernel.shape))
        flows[run.row.name, "all but rows"].append(measure(model, *batch))
    columns = [field.name for field in dataclasses.fields(Flow)]
    # The networks as they are first.
    lines = sorted(flows.items(), key=lambda item: item[0][1])
    table = [_line(*name, seeds) for name, seeds in lines]
    header = ("run", "drawn so", *columns)
    print(tables.aligned([header, *table], text_columns=2))


def _line(name, drawn, flows):
    def mean(column):
        return np.mean([getattr(flow, column) for flow in flows])

    gradients = np.log([flow.gradient for flow in flows])
    return (
        name,
        drawn,
        f"{mean('rows'):.2f}",
        f"{mean('state'):.2f}",
        f"{mean('saturated'):.0%}",
        f"{np.exp(gradients.mean()):.2g}",
        f"{mean('scores'):.0%}",
    )


def measure(model, x, y):
    """Returns the `Flow` of one recurrent network of the zoo.

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
    of_state = next(
        index
        for index, row in enumerate(snip_tf.summary(model).rows)
        if row.name.endswith("recurrent_kernel")
    )
    return Flow(
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
