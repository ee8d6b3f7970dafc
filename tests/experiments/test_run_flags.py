"""The flags of the scripts against the settings that they stand for."""

import dataclasses

import pytest
from absl import app, flags

import snip_tf
from snip_tf import training
from snip_tf.experiments import run_flags, runs


@pytest.fixture
def parse(monkeypatch):
    """Returns the settings of a command line of train.py."""
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(run_flags, "FLAGS", values)
    define = {name: getattr(flags, name) for name in vars(flags)}
    for name, function in define.items():
        if name.startswith("DEFINE_"):
            monkeypatch.setattr(flags, name, _of(function, values))
    run_flags.define_run()
    run_flags.define_recipe()

    def parse(*given, **options):
        values(["train.py", *given])
        return run_flags.settings(**options)

    return parse


def _of(function, values):
    return lambda *args, **options: function(
        *args, **{**options, "flag_values": values}
    )


def test_without_flags_all_is_the_papers(parse):
    assert parse("--model=vgg_like", "--dataset=cifar10") == runs.Settings(
        model="vgg_like",
        dataset="cifar10",
        recipe=training.RECIPES["cifar10"],
        score_batch_size=128,
    )


def test_each_flag_is_a_setting(parse):
    found = parse(
        "--model=lenet_5_caffe",
        "--dataset=mnist_5k",
        "--sparsity=0.9",
        "--seed=3",
        "--score_batch_size=50",
        "--criterion=magnitude",
        "--reinit",
        "--kernel_initializer=vs_h",
        "--train_initializer=vs_x",
        "--bias_initializer=ones",
        "--batch_norm",
        "--conv_activation=relu",
        "--noprune_last_layer",
        "--noprune_biases",
        "--validation_fraction=0",
        "--validate_every=5",
        "--data_dir=here",
        "--steps=30",
        "--batch_size=20",
        "--learning_rate=0.2",
        "--drops=10,20",
        "--decay=0.5",
        "--optimizer=sgd",
        "--momentum=0.8",
        "--l2=0.001",
    )
    recipe = training.Recipe(30, 20, 0.2, (10, 20), 0.5, "sgd", 0.8, 0.001)
    assert found == runs.Settings(
        model="lenet_5_caffe",
        dataset="mnist_5k",
        recipe=recipe,
        sparsity=0.9,
        seed=3,
        score_batch_size=50,
        criterion="magnitude",
        reinit=True,
        kernel_initializer="vs_h",
        train_initializer="vs_x",
        bias_initializer="ones",
        validate_every=5,
        data_dir="here",
        batch_norm=True,
        conv_activation="relu",
        prune_last_layer=False,
        prune_biases=False,
        validation_fraction=0.0,
    )


def test_drops_move_with_the_steps_and_validations_divide_them(parse):
    found = parse("--model=lenet_300_100", "--steps=1200")
    assert found.recipe.drops == (500, 1_000)
    assert found.validate_every == 1_200
    assert parse("--model=lenet_300_100", "--drops=").recipe.drops == ()


def test_a_saved_network_has_no_settings_of_building(parse):
    model = snip_tf.models.build("gru_s")
    settings = parse("--dataset=mnist_5k", model=model)
    assert (settings.model, settings.sparsity) == (model.name, 0)
    built = {
        field.name
        for field in dataclasses.fields(settings)
        if field.name in run_flags._BUILDING
    }
    assert len(built) == 10
    assert {getattr(settings, name) for name in built} == {None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--optimizer=adam", "--momentum=0.5"], "Adam .* contradicts --mom"),
        (["--drops=a,b"], "must be steps, .* Received: a,b"),
        (["--criterion=random"], "Without --sparsity .* contradicts --crit"),
    ],
)
def test_contradictions_are_refused(given, message, parse):
    with pytest.raises(app.UsageError, match=message):
        parse("--model=lenet_300_100", *given)


@pytest.mark.parametrize(
    "given",
    [
        "--seed=-1",
        "--steps=0",
        "--validate_every=0",
        "--l2=-1",
        "--modle=gru_s",
        "--l2=a",
    ],
)
def test_values_out_of_range_and_unknown_flags_are_refused(given, parse):
    with pytest.raises((flags.Error, ValueError)):
        parse("--model=lenet_300_100", given)


def test_a_preset_gives_way_to_other_flags(parse):
    network = ("--model=lenet_5_caffe", "--sparsity=0.98")
    preset = parse(*network, "--preset=paper_lenets")
    assert preset.batch_norm
    assert preset.recipe == training.RECIPES["mnist"]
    given = parse(*network, "--preset=paper_lenets", "--nobatch_norm")
    assert given == dataclasses.replace(preset, batch_norm=False)
    with pytest.raises(app.UsageError, match="and lenet_5_caffe. .*=vgg_d"):
        parse("--model=vgg_d", "--preset=paper_lenets")
