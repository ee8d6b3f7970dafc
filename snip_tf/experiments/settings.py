"""What a run is to do, as numbers and names."""

import dataclasses

from snip_tf import _checks, training
from snip_tf.experiments import method_runs

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


# What only some networks have, and which.
_OPTIONS = {
    "batch_norm": ("lenet_300_100", "lenet_5_caffe"),
    "conv_activation": ("lenet_5_caffe",),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that determines a run.

    Attributes:
        model: A name of `snip_tf.models`.
        dataset: A name of `snip_tf.data`.
        recipe: How it is trained.
        sparsity: The fraction of the weights with masks that is removed before
            training, in [0, 1). What `prune_last_layer` or `prune_biases`
            exempts has none and is not counted.
        seed: Fixes split, draw, scoring batch and order of the examples.
        score_batch_size: How many training images the scores are taken on.
        criterion: A name of `snip_tf.scores.SCORES`: what weights are scored
            by.
        reinit: Whether the kept weights are drawn anew after scoring.
        kernel_initializer: The initialiser of the kernels: rn, tn, vs_x, vs_h
            (Table 3), lecun, or any of Keras by its name.
        train_initializer: Name of the initialiser that the kept weights are
            drawn from after scoring; None for no second draw.
        bias_initializer: Name of the Keras initialiser of the biases.
        validate_every: Steps between two validations; divides those of the
            recipe.
        data_dir: A TFDS data directory; None for the default.
        pruned_model: The file of the network, if it was not built here. What
            only building needs is then None.
        random_labels: Whether it is trained on shuffled training labels. The
            scores are of the true ones.
        score_label: The class whose images the scores are taken on; None for
            images of all.
        batch_norm: Whether the hidden layers of a LeNet are normalised.
        conv_activation: The Keras activation after the convolutions of
            LeNet-5-Caffe; None for none.
        prune_last_layer: Whether the last layer has masks.
        prune_biases: Whether biases have masks.
        validation_fraction: The fraction of the training images held out to
            validate on, in [0, 1); 0 to train on all of them.
        method: A name of `method_runs.METHODS`: what prunes. All but snip are
            rivals of Table 1, most of which train first: the steps of the
            recipe are those of all.
        method_options: Options of the method, each as name=value, the value in
            Python's notation: those of its class or function in
            `snip_tf.methods`, "pretraining", the part of the steps that train
            before, and "learning_rate", that after them.

    Raises:
        ValueError: If `validate_every` does not divide the steps, `sparsity`
            is not in [0, 1), the network or the method has no such option, or
            the sparsity is what comes out of the method.
    """

    model: str
    dataset: str
    recipe: training.Recipe
    sparsity: float = 0.0
    seed: int = 0
    score_batch_size: int | None = 100
    criterion: str | None = "snip"
    reinit: bool | None = False
    kernel_initializer: str | None = "lecun"
    train_initializer: str | None = None
    bias_initializer: str | None = "zeros"
    validate_every: int = 1000
    data_dir: str | None = None
    pruned_model: str | None = None
    random_labels: bool = False
    score_label: int | None = None
    batch_norm: bool | None = False
    conv_activation: str | None = None
    prune_last_layer: bool | None = True
    prune_biases: bool | None = True
    validation_fraction: float = 0.1
    method: str = "snip"
    method_options: tuple[str, ...] = ()

    def __post_init__(self):
        # Refused now, not after minutes of loading and tracing.
        if not isinstance(self.recipe, training.Recipe):
            raise ValueError(
                f"`recipe` must be a `Recipe`. Received: recipe={self.recipe!r}"
            )
        _checks.whole("validate_every", self.validate_every, 1)
        if self.recipe.steps % self.validate_every:
            raise ValueError(
                "`validate_every` must divide the number of steps. Received: "
                f"validate_every={self.validate_every}, "
                f"steps={self.recipe.steps}"
            )
        _checks.check_number("sparsity", self.sparsity, 1)
        method_runs.check(self)
        for name in self.network_options:
            if self.model not in _OPTIONS[name]:
                raise ValueError(
                    f"`{name}` is an option of {', '.join(_OPTIONS[name])}. "
                    f"Received: model={self.model}"
                )

    @property
    def network_options(self):
        """The options that only some networks have, where they are given."""
        values = {name: getattr(self, name) for name in _OPTIONS}
        return {name: value for name, value in values.items() if value}
