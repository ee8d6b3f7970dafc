"""SNIP beside the methods of Table 1, and beside other scores: the rows.

The paper quotes its rivals from their own papers, each with a network, a
schedule and a way of counting of its own. Here all have the same network, data,
batch and number of steps, training before pruning included, and all kernels and
biases count.
"""

from snip_tf import scores, training
from snip_tf.experiments import method_runs
from snip_tf.experiments.rows import Experiment, row_of

# Table 1: the criterion, then sparsity in percent and error of LeNet-300-100,
# and of LeNet-5-Caffe, as the paper quotes other methods.
QUOTED = {
    "lwc": ("LWC", "magnitude", (91.7, 1.6), (91.7, 0.8)),
    "dns": ("DNS", "magnitude", (98.2, 2.0), (99.1, 0.9)),
    "lc": ("LC", "magnitude", (99.0, 3.2), (99.0, 1.1)),
    "sws": ("SWS", "Bayesian", (95.6, 1.9), (99.5, 1.0)),
    "svd": ("SVD", "Bayesian", (98.5, 1.9), (99.6, 0.8)),
    "obd": ("OBD", "Hessian", (92.0, 2.0), (92.0, 2.7)),
    "l_obs": ("L-OBS", "Hessian", (98.5, 2.0), (99.0, 2.1)),
}
MODELS = "lenet_300_100", "lenet_5_caffe"
# As in the authors' code, drops at one half and three quarters. LeNet-5-Caffe
# as it is in the text diverges at 0.1.
_RECIPES = {
    "lenet_300_100": training.Recipe(20_000, 100, 0.1, (10_000, 15_000)),
    "lenet_5_caffe": training.Recipe(10_000, 100, 0.02, (5_000, 7_500)),
}
# Guo et al. 2016, from the released networks: c of the layers, one by one.
_THRESHOLDS = {
    "lenet_300_100": {"fc1": 5, "fc2": 3, "fc3": 3},
    "lenet_5_caffe": {"conv1": 2, "conv2": 3, "fc1": 4, "fc2": 2.5},
}
# Where a method was published with more steps: their recipe, and options.
_PUBLISHED = {
    ("dns", "lenet_300_100"): (
        training.Recipe(35_000, 64, 0.1, (15_000, 30_000)),
        (f"pretraining={10 / 35}", "stop=20000", "learning_rate=0.01"),
    ),
    ("dns", "lenet_5_caffe"): (
        training.Recipe(26_000, 64, 0.02, (13_000, 23_000)),
        (f"pretraining={10 / 26}", "stop=14000", "learning_rate=0.01"),
    ),
    ("svd", "lenet_300_100"): (training.Recipe(120_600, 100), ()),
    ("svd", "lenet_5_caffe"): (training.Recipe(120_600, 100), ()),
    ("lc", "lenet_300_100"): (
        # The drops are of the training before.
        training.Recipe(212_700, 256, 0.1, (100_000, 150_000)),
        (f"pretraining={200 / 2127}",),
    ),
}


def _row(method, model, sparsity, paper="", *, published=False):
    """Returns a `Row`; of what comes out as sparsity, the paper's names it."""
    settings = {"validate_every": 1_000}
    recipe, options = _RECIPES[model], ()
    if published:
        recipe, options = _PUBLISHED[method, model]
        settings["validate_every"] = recipe.steps // 10
    if method == "dns":
        options += (f"c={_THRESHOLDS[model]}",)
    own = method_runs.METHODS[method]
    if own:
        settings |= {"method": method, "method_options": options}
        settings["score_batch_size"] = own.images or 100
    name = f"{model}-{method}"
    if not own or own.takes_sparsity:
        name += f"-{sparsity:g}"
        settings["sparsity"] = sparsity / 100
    name += "-published" * published
    return row_of(
        model,
        settings.pop("sparsity", 0.0),
        paper,
        name=name,
        recipe=recipe,
        settings=settings,
    )


def _rivals():
    for place, model in enumerate(MODELS, 2):
        own = (95.0, 98.0) if model == "lenet_300_100" else (98.0, 99.0)
        quoted = {m: values[place] for m, values in QUOTED.items()}
        for method, (sparsity, error) in quoted.items():
            yield _row(method, model, sparsity, str(error))
        for sparsity in sorted({*own, *(s for s, _ in quoted.values())}):
            yield _row("snip", model, sparsity)
        # What takes a sparsity, also at the larger of SNIP's own.
        for method in ("lwc", "obd", "l_obs", "lc"):
            if quoted[method][0] != own[1]:
                yield _row(method, model, own[1])
        for method, other in _PUBLISHED:
            if other == model:
                sparsity, error = quoted[method]
                yield _row(method, model, sparsity, str(error), published=True)


def _criteria():
    for model in MODELS:
        for sparsity in (0.9, 0.95, 0.98, 0.99, 0.995):
            for criterion in scores.SCORES:
                yield _scored(model, sparsity, criterion, _RECIPES[model])
    recipe = training.RECIPES["cifar10"].scaled_to(1_000)
    for sparsity in (0.97, 0.995):
        for criterion in scores.SCORES:
            yield _scored("vgg_like", sparsity, criterion, recipe, "cifar10")


def _scored(model, sparsity, criterion, recipe, dataset="mnist"):
    return row_of(
        model,
        sparsity,
        name=f"{model}-{sparsity:g}-{criterion}",
        dataset=dataset,
        recipe=recipe,
        settings={"criterion": criterion},
    )


RIVALS = Experiment(
    title="SNIP and the methods of Table 1 on equal terms",
    source="Lee et al. 2019, Table 1",
    seeds=3,
    rows=tuple(_rivals()),
    note="All have the same network, data, split and batch of 100, and the "
    "same number of steps: 20,000 for LeNet-300-100, 10,000 for "
    "LeNet-5-Caffe, of which what prunes a trained network has half to train "
    "it. All kernels and biases count. Rows named published have the number "
    "of steps, and DNS the batch, of the method's own paper or code. The "
    "sparsity of DNS, SVD and SWS is what comes out. The networks are those "
    "of the text, without batch normalisation; LeNet-5-Caffe starts at a rate "
    "of 0.02.",
)
CRITERIA = Experiment(
    title="What weights are kept by: nine scores",
    source="Not in the paper",
    seeds=1,
    rows=tuple(_criteria()),
    note="Before training, by one batch of 100 images (128 for VGG-like), and "
    "with each score's own number of steps. A unit counts as dead if no weight "
    "into it is left, a kernel if none of it is. VGG-like has 1,000 "
    "iterations: it says which scores let it train, not how well.",
)
