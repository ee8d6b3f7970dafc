"""What people give by mistake: taken where it is clear, else refused by name.

Each call is valid but for one argument at most. With none wrong it works; with
one it raises a documented error that names the argument, and leaves the model
as it was, to the bit.
"""

import collections

import hypothesis
import keras
import mistakes as m
import pytest
from hypothesis import strategies as st
from mistakes import Values, one_of, values, whole

import snip_tf
from snip_tf import schedules, scores, training
from snip_tf.experiments import settings


def fitted(x, y, sparsity, criterion):
    callback = snip_tf.PruneAtStart(
        x, y, sparsity=sparsity, criterion=criterion, verbose=0
    )
    m.masked().fit(m.X, m.Y, callbacks=[callback], verbose=0)


def warmed_up(model, x):
    with scores.warmed_up(model, x):
        pass


def scaled(steps):
    return training.RECIPES["mnist"].scaled_to(steps)


def lenet(**options):
    return snip_tf.models.build("lenet_300_100", **options)


def gru(**options):
    return snip_tf.models.build("gru_s", input_shape=(5, 5, 1), **options)


def in_litert(**options):
    options = {
        "quantization": "int8",
        "calibration_data": m.X,
        **options,
    }
    snip_tf.export(m.masked(), m.new_directory(), format="litert", **options)


def row(function, **arguments):
    return function, arguments


CALLS = [
    row(snip_tf.sensitivity, model=m.MODEL, **m.DATA, loss=m.LOSS),
    row(
        snip_tf.sensitivity,
        model=m.MODEL,
        x=m.BATCHES,
        loss=m.LOSS,
        ema_decay=m.DECAY,
    ),
    row(
        snip_tf.prune,
        model=m.MODEL,
        **m.DATA,
        sparsity=m.FRACTION,
        criterion=m.CRITERION,
        min_kept=whole(0, 2),
        reinit=m.REINIT,
    ),
    row(
        snip_tf.prune,
        model=m.MODEL,
        x=Values(m.UNUSED.fine | m.BATCHES.fine | st.none(), m.UNUSED.wrong),
        sparsity=m.FRACTION,
        criterion=values(["random", "magnitude", m.returning(m.SCORES)]),
    ),
    row(fitted, **m.DATA, sparsity=m.FRACTION, criterion=m.CRITERION),
    row(
        snip_tf.keep_top,
        scores=m.SCORING,
        sparsity=m.FRACTION,
        min_kept=Values(whole(1, 2).fine, whole(0, 2).wrong),
        output_axes=m.AXES,
    ),
    row(
        snip_tf.keep_top,
        scores=m.SCORING,
        sparsity=values([0.7]),
        masks=m.MASKING,
    ),
    row(snip_tf.kept_weights, weights=whole(1, 99), sparsity=m.FRACTION),
    row(snip_tf.set_masks, model=m.MODEL, masks=m.MASKING),
    row(snip_tf.get_masks, model=m.MODEL),
    row(snip_tf.redraw, model=m.MODEL, kernel_initializer=m.INITIALIZER),
    row(snip_tf.masked, model=m.TO_MASK, skip=m.SKIP),
    row(snip_tf.strip, model=Values(st.just(m.masked), m.MODEL.wrong)),
    row(snip_tf.summary, model=m.MODEL),
    row(snip_tf.model_sparsity, model=m.MODEL),
    row(snip_tf.flops, model=m.ANY_MODEL),
    row(snip_tf.compact, model=m.ANY_MODEL),
    row(
        snip_tf.export,
        model=m.ANY_MODEL,
        directory=m.DIRECTORY,
        format=values(["keras"], ["onnx", None, 3, ["keras"], "tflite"]),
    ),
    row(
        in_litert,
        quantization=values(["int8"], ["int4", 8, None, ["int8"]]),
        calibration_data=values([m.X], [None, 100]),
    ),
    row(schedules.one_shot, sparsity=m.FRACTION, step=whole(0, 9)),
    row(
        schedules.exponential,
        sparsity=m.FRACTION,
        begin=whole(0, 9),
        end=m.END,
    ),
    row(
        schedules.cubic,
        initial=m.FRACTION,
        sparsity=m.FRACTION,
        begin=whole(0, 9),
        end=m.END,
    ),
    row(scores.get, criterion=Values(m.CRITERION.fine, m.NO_SCORE)),
    row(scores.random, model=m.MODEL, seed=m.SEED),
    row(scores.magnitude, model=m.MODEL),
    row(scores.shuffled_sensitivity, model=m.MODEL, **m.DATA, seed=m.SEED),
    row(warmed_up, model=Values(m.ANY_MODEL.fine, m.NO_MODEL), x=m.UNUSED),
    row(training.Recipe, **m.TRAINED),
    row(scaled, steps=whole(1, 99)),
    row(
        training.compile_model,
        model=Values(st.just(m.stock), m.ANY_MODEL.wrong),
        recipe=values([m.RECIPE], ["mnist", None, {"steps": 3}]),
        steps_per_execution=whole(1, 9),
    ),
    row(
        lenet,
        input_shape=m.IMAGES,
        classes=whole(1, 12),
        kernel_initializer=m.INITIALIZER,
        bias_initializer=m.INITIALIZER,
    ),
    row(gru, units=whole(1, 9), kernel_initializer=m.INITIALIZER),
    row(
        snip_tf.models.build,
        name=values(["lenet_300_100"], ["lenet", None, 3, ["gru_s"]]),
    ),
    row(
        settings.Settings,
        model=values(["gru_s"]),
        dataset=values(["mnist"]),
        recipe=values([m.RECIPE], ["mnist", None]),
        sparsity=m.FRACTION,
        validate_every=values([1, 2, 5, 10], [0, 3, -1, "10", None]),
    ),
]


def state(model):
    """Returns all that a refusal must leave, to the bit."""
    if not isinstance(model, keras.Model):
        return None
    kinds = [type(layer) for layer in model.layers]
    return kinds, [variable.numpy().tobytes() for variable in model.variables]


def outcome(function, given):
    """Returns the error of a call, None without, and whether it changed."""
    model = given.get("model")
    if model in (m.masked, m.stock):  # a new one, as it is changed in place
        model = given["model"] = model()
    before = state(model)
    earlier = isinstance(model, keras.Model) and model.get_weights()
    try:
        function(**given)
    except Exception as error:
        return error, state(model) != before
    finally:
        if earlier and state(model)[0] == before[0]:  # for the next call
            model.set_weights(earlier)
    return None, False


@st.composite
def calls(draw, arguments, always_wrong=False):
    """The arguments of a call, and the name of the wrong one, if any."""
    can_be_wrong = [
        name for name, own in arguments.items() if not own.wrong.is_empty
    ]
    wrong = draw(one_of(*[None] * (not always_wrong), *can_be_wrong))
    given = {
        name: draw(own.wrong if name == wrong else own.fine)
        for name, own in arguments.items()
    }
    return given, wrong


def check(function, arguments, examples, counts):
    """Makes calls of a function, and counts them and their refusals."""

    @hypothesis.settings(
        max_examples=examples * len(arguments),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(calls(arguments, function is in_litert))
    def run(call):
        given, wrong = call
        error, changed = outcome(function, given)
        counts["calls"] += 1
        if wrong is None:
            if error is not None:
                raise error
            return
        counts["refusals"] += 1
        assert isinstance(error, (ValueError, TypeError, FileExistsError))
        assert f"`{wrong}`" in str(error)
        assert not changed

    run()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "examples", [1, pytest.param(40, marks=pytest.mark.slow)]
)
def test_a_call_works_or_names_what_is_wrong(examples, capsys):
    counts = collections.Counter()
    for function, arguments in CALLS:
        check(function, arguments, examples, counts)
    with capsys.disabled():
        print(f"{counts['calls']} calls, {counts['refusals']} refused")
    assert examples == 1 or counts["calls"] >= 2000
