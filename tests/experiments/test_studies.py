"""What the studies of results/studies measure, against numpy row by row."""

import importlib
import pathlib

import keras
import numpy as np
import pytest

import snip_tf

_STUDIES = pathlib.Path(__file__).parents[2] / "results" / "studies"


@pytest.fixture
def study(monkeypatch):
    """Imports a study by its name."""
    monkeypatch.syspath_prepend(_STUDIES)  # its own processes find it too
    return importlib.import_module


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def lstm_step(row, state, memory, cell):
    before = row @ cell.kernel + state @ cell.recurrent_kernel + cell.bias
    enter, forget, candidate, leave = np.split(before, 4, axis=1)
    gates = [sigmoid(enter), sigmoid(forget), sigmoid(leave)]
    memory = gates[1] * memory + gates[0] * np.tanh(candidate)
    return gates, gates[2] * np.tanh(memory), memory


def gru_step(row, state, memory, cell):
    of_row, of_state = np.array(cell.bias)
    of_row = np.split(row @ cell.kernel + of_row, 3, axis=1)
    of_state = np.split(state @ cell.recurrent_kernel + of_state, 3, axis=1)
    update, reset = (sigmoid(of_row[i] + of_state[i]) for i in (0, 1))
    candidate = np.tanh(of_row[2] + reset * of_state[2])
    state = update * state + (1 - update) * candidate
    return [update, reset], state, memory


@pytest.mark.parametrize(
    ("name", "step"), [("lstm_s", lstm_step), ("gru_s", gru_step)]
)
def test_gates_states_and_rows_are_those_of_the_equations(
    name, step, batch, study
):
    x, y = batch
    keras.utils.set_random_seed(3)
    model = snip_tf.models.build(name, units=6, kernel_initializer="tn")
    flow = study("recurrent").measure(model, x, y)
    rows = x[..., 0] @ np.array(model.get_layer("projection").kernel)
    cell = model.get_layer("recurrent").cell
    state = memory = np.zeros((100, 6))
    states, gates = [], []
    for at in range(28):
        states.append(state)
        of_row, state, memory = step(rows[:, at], state, memory, cell)
        gates.append(of_row)
    gates = np.array(gates)
    outside = ((gates < 0.05) | (gates > 0.95)).mean()
    assert 0.3 < outside < 1
    assert flow["saturated"] == pytest.approx(outside, abs=1e-4)
    assert flow["rows"] == pytest.approx(np.sqrt((rows**2).mean()), rel=1e-5)
    states = np.sqrt(np.square(states).mean())
    assert flow["state"] == pytest.approx(states, rel=1e-4)


def test_nothing_comes_back_where_no_state_is_passed_on(batch, study):
    measure = study("recurrent").measure
    model = snip_tf.models.build("gru_s", units=6)
    passing = measure(model, *batch)
    assert 0 < passing["scores"] < 1
    assert passing["gradient"] > 0
    (_, _), (recurrent, _), (bias, _) = model.get_layer(
        "recurrent"
    ).cell.masked_weights()
    recurrent.assign(np.zeros(recurrent.shape))
    closed = np.zeros(bias.shape)
    closed[0, :6] = -200  # the update gate: nothing of the old state stays
    bias.assign(closed)
    cut = measure(model, *batch)
    assert (cut["scores"], cut["gradient"]) == (0, 0)
