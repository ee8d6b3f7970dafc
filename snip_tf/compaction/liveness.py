"""Which units of a graph's tensors stay."""

import collections
import dataclasses

import numpy as np

from snip_tf.compaction.facts import (
    Facts,
    Rule,
    Weights,
    is_elementwise,
    only_zeros,
)
from snip_tf.compaction.graph import Call, size
from snip_tf.compaction.rules import rule_of


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A call and what is known of it; the rest is None if it is left whole."""

    call: Call
    rule: Rule | None = None
    weights: Weights | None = None
    facts: Facts | None = None


def steps_of(graph, for_training):
    """Returns a `Step` a call; finds the constants of all tensors."""
    constants = {}
    calls_of = collections.Counter(id(call.layer) for call in graph.calls)
    steps = []
    for call in graph.calls:
        rule = rule_of(call, for_training)
        has_weights = bool(getattr(call.layer, "weights", []))
        if rule is None or (has_weights and calls_of[id(call.layer)] > 1):
            steps.append(Step(call))
            continue
        weights = Weights.of(call.layer, for_training)
        inputs = [
            constants.get(id(tensor), np.full(size(tensor), np.nan))
            for tensor in call.inputs
        ]
        facts = rule.forward(call, weights, inputs)
        outputs = np.where(np.isfinite(facts.outputs), facts.outputs, np.nan)
        # What follows a constant learns from it, unless that is zero.
        outputs = only_zeros(outputs) if for_training else outputs
        constants[id(call.outputs[0])] = outputs
        steps.append(Step(call, rule, weights, facts))
    return steps


def needed_units(graph, steps):
    """Returns by id of a tensor which units an output of the model needs."""
    needed = {
        id(tensor): np.zeros(size(tensor), bool)
        for step in steps
        for tensor in (*step.call.inputs, *step.call.outputs)
    }
    for tensor in (*graph.inputs, *graph.outputs):
        needed[id(tensor)] = np.ones(size(tensor), bool)
    for step in reversed(steps):
        call, facts = step.call, step.facts
        if facts is None:
            for tensor in (*call.inputs, *call.outputs):
                needed[id(tensor)][:] = True
            continue
        output = id(call.outputs[0])
        if not is_elementwise(call.layer):  # such as a softmax, of all units
            needed[output][:] = True
        needed[output] = facts.needed_outputs(needed[output])
        wanted = facts.needed_inputs(needed[output])
        for tensor, its in zip(call.inputs, wanted, strict=True):
            needed[id(tensor)] |= its
    return needed


def kept_units(steps, needed):
    """Returns the needed units, those tied to them, and one of each tensor."""
    kept = {key: units.copy() for key, units in needed.items()}
    _spread(kept, steps)
    for units in kept.values():
        if len(units) and not units.any():  # Keras has no layers without units
            units[0] = True
            _spread(kept, steps)
    return kept


def _spread(kept, steps):
    """Keeps what is tied to a kept unit, until nothing changes."""
    ties = [
        (kept[id(tensor)], kept[id(step.call.outputs[0])], tie)
        for step in steps
        if step.facts is not None and step.facts.ties
        for tensor, tie in zip(step.call.inputs, step.facts.ties, strict=True)
    ]
    before = None
    while before != (total := sum(units.sum() for units in kept.values())):
        before = total
        for given, output, tie in (*reversed(ties), *ties):
            tied = tie >= 0
            given[tie[tied & output]] = True
            output[tied] |= given[tie[tied]]
