"""One run from settings to result: build, score, prune, train, evaluate.

The scripts only read flags and call what is here.
"""

import dataclasses
import time

import keras

import snip_tf
from snip_tf import criteria, models, pruning, training
from snip_tf import data as data_module
from snip_tf.experiments import checkpoints, fitting, run_directory

CRITERIA = {
    "snip": snip_tf.sensitivity,
    "random": criteria.random,
    "magnitude": criteria.magnitude,
    "shuffled": criteria.shuffled_sensitivity,
}

# Lee et al. 2019, Tables 1 and 2.
SPARSITIES = {
    "lenet_300_100": 0.95,
    "lenet_5_caffe": 0.98,
    "alexnet_s": 0.9,
    "alexnet_b": 0.9,
    "vgg_c": 0.95,
    "vgg_d": 0.95,
    "vgg_like": 0.97,
    "wrn_16_8": 0.95,
    "wrn_16_10": 0.95,
    "wrn_22_8": 0.95,
    "lstm_s": 0.95,
    "lstm_b": 0.95,
    "gru_s": 0.95,
    "gru_b": 0.95,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that determines a run.

    Attributes:
        model: A name of `snip_tf.models`.
        dataset: A name of `snip_tf.data`.
        recipe: How it is trained.
        sparsity: The fraction of weights removed before training, in [0, 1).
        seed: Fixes split, draw, scoring batch and order of the examples.
        score_batch_size: How many training images the scores are taken on.
        criterion: A name of CRITERIA: what the weights are scored by.
        reinit: Whether the kept weights are drawn anew after scoring.
        kernel_initializer: Name of the initialiser of the kernels.
        train_initializer: Name of the initialiser that the kept weights are
            drawn from after scoring; None for no second draw.
        bias_initializer: Name of the Keras initialiser of the biases.
        validate_every: Steps between two validations.
        data_dir: A TFDS data directory; None for the default.
        pruned_model: The file of the network, if it was not built here. What
            only building needs is then None.
        random_labels: Whether it is trained on shuffled training labels. The
            scores are of the true ones.
        score_label: The class whose images the scores are taken on; None for
            images of all.
    """

    model: str
    dataset: str
    recipe: training.Recipe
    sparsity: float = 0.0
    seed: int = 0
    score_batch_size: int = 100
    criterion: str = "snip"
    reinit: bool = False
    kernel_initializer: str = "lecun"
    train_initializer: str | None = None
    bias_initializer: str = "zeros"
    validate_every: int = 1000
    data_dir: str | None = None
    pruned_model: str | None = None
    random_labels: bool = False
    score_label: int | None = None

    def __post_init__(self):
        # Refused now, not after minutes of loading and tracing.
        if self.recipe.steps % self.validate_every:
            raise ValueError(
                "`validate_every` must divide the number of steps. Received: "
                f"validate_every={self.validate_every}, "
                f"steps={self.recipe.steps}"
            )
        pruning.check_sparsity(self.sparsity)


def load_model(path):
    """Returns a saved model with masks.

    Raises:
        ValueError: If the file cannot be read as such a model. Code inside the
            file is never run.
    """
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        snip_tf.get_masks(model)
    except Exception as error:  # Keras raises many types here
        raise ValueError(
            "The model file must be a .keras file of a network with masks. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from error
    return model


def check_fits(model, data):
    """Raises a ValueError if a network does not take or tell the data."""
    takes, tells = tuple(model.input_shape[1:]), model.output_shape[-1]
    if (takes, tells) != (tuple(data.image_shape), data.classes):
        raise ValueError(
            f"A network for {data.name} must take images of shape "
            f"{tuple(data.image_shape)} and have {data.classes} outputs. "
            f"Received: {model.name} with inputs of {takes} and {tells} outputs"
        )


def load_data(settings):
    """Returns the data of a run."""
    return data_module.load(
        settings.dataset, data_dir=settings.data_dir, seed=settings.seed
    )


def build(settings, data):
    """Returns a new network, drawn with the seed, its masks all ones."""
    keras.utils.set_random_seed(settings.seed)
    return models.build(
        settings.model,
        input_shape=data.image_shape,
        classes=data.classes,
        kernel_initializer=settings.kernel_initializer,
        bias_initializer=settings.bias_initializer,
    )


def scoring_batch(settings, data):
    """Returns the images and labels that the scores of a run are taken on."""
    return data_module.scoring_batch(
        data,
        size=settings.score_batch_size,
        seed=settings.seed,
        label=settings.score_label,
    )


def build_and_prune(settings, data):
    """Returns a new network, pruned if the sparsity is not zero, and seconds.

    The seconds are those of scoring and masking, the trace included.
    """
    model = build(settings, data)
    start = time.perf_counter()
    if settings.sparsity:
        x, y = scoring_batch(settings, data)
        snip_tf.prune(
            model,
            x,
            y,
            sparsity=settings.sparsity,
            criterion=CRITERIA[settings.criterion],
            reinit=settings.reinit,
            **criterion_options(settings),
        )
        if settings.train_initializer:
            initializer = models.blocks.own(settings.train_initializer)
            snip_tf.redraw(model, initializer)
    return model, time.perf_counter() - start


def criterion_options(settings):
    """Returns what the criterion of a run takes besides the data."""
    if settings.criterion == "magnitude":
        return {}
    if settings.criterion == "random":
        return {"seed": settings.seed}
    options = {
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # No more memory than a training step.
        "micro_batch_size": settings.recipe.batch_size,
    }
    if settings.criterion == "shuffled":
        options["seed"] = settings.seed
    return options


def run(settings, path, *, overwrite=False, model=None):
    """Runs it all and writes the run directory.

    Nothing is written before the data are loaded and the network is pruned. A
    run that was stopped goes on from its last checkpoint.

    Args:
        settings: The `Settings`.
        path: The run directory.
        overwrite: Whether another run there may be replaced.
        model: A network to train as it is; by default one is built and pruned.

    Returns:
        What stands in result.json: settings, surroundings, kept weights,
        errors and seconds.
    """
    surroundings = run_directory.surroundings()
    # Refused now, not after minutes of loading and scoring.
    resume = checkpoints.fits(path, fitting.identity_of(settings))
    run_directory.check(path, overwrite=overwrite, resume=resume)
    data = load_data(settings)
    results = {}
    if model is None:
        model, results["prune_seconds"] = build_and_prune(settings, data)
    check_fits(model, data)
    print(snip_tf.summary(model), flush=True)
    with run_directory.held(path):
        directory = run_directory.create(
            path,
            dataclasses.asdict(settings),
            overwrite=overwrite,
            resume=checkpoints.fits(path, fitting.identity_of(settings, model)),
        )
        results |= fitting.train_and_evaluate(
            settings, model, data, directory, callbacks=fitting.logs(directory)
        )
        result = _finish(settings, directory, model, results, surroundings)
        checkpoints.remove(directory)
    return result


def prune_only(settings, path, *, overwrite=False):
    """Builds and prunes a network, writes the run directory, returns it."""
    surroundings = run_directory.surroundings()
    run_directory.check(path, overwrite=overwrite)
    model, seconds = build_and_prune(settings, load_data(settings))
    with run_directory.held(path):
        directory = run_directory.create(
            path, dataclasses.asdict(settings), overwrite=overwrite
        )
        run_directory.save_model(model, directory / "model.keras")
        results = {"prune_seconds": seconds}
        _finish(settings, directory, model, results, surroundings)
    return model


def _finish(settings, directory, model, results, surroundings):
    result = {
        **dataclasses.asdict(settings),
        **kept(model),
        **results,
        **surroundings,
    }
    run_directory.write_json(directory / "result.json", result)
    return result


def kept(model):
    """Returns how many weights of a network are left, and of which."""
    summary = snip_tf.summary(model)
    return {
        "weights": summary.weights,
        "kept": summary.kept,
        "sparsity_reached": summary.sparsity,
        "kept_per_weight": {row.name: row.kept for row in summary.rows},
    }
