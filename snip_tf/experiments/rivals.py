"""SNIP beside the methods of Table 1, and beside other scores: the rows.

The paper quotes its rivals from their own papers, each with a network, a
schedule and a way of counting of its own. Here all kernels and biases count,
and all have the same network, data, batch and number of steps, those of
training before pruning included, but for the rows of published schedules.
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
# Where a method was published with more steps: their recipe, and options. Of
# LC's and DNS's steps 20,000 and 10,000 are of the training before.
_PUBLISHED = {
    ("dns", "lenet_300_100"): (
        training.Recipe(35_000, 64, 0.1, (30_000,)),
        (f"pretraining={10 / 35}", "stop=20000"),
    ),
    ("dns", "lenet_5_caffe"): (
        training.Recipe(26_000, 64, 0.02, (23_000,)),
        (f"pretraining={10 / 26}", "stop=14000"),
    ),
    ("svd", "lenet_300_100"): (
        training.Recipe(120_000, 100, 0.1, (60_000, 90_000)),
        (),
    ),
    ("svd", "lenet_5_caffe"): (
        training.Recipe(120_000, 100, 0.1, (60_000, 90_000)),
        (),
    ),
    ("lc", "lenet_300_100"): (
        training.Recipe(213_000, 256, 0.1, (106_500, 159_750)),
        (f"pretraining={20 / 213}",),
    ),
}
# How often each removes weights, as the paper's table has it.
PRUNINGS = {
    "snip": "1",
    "lwc": "3",
    "dns": "many",
    "lc": "41",
    "sws": "soft",
    "svd": "soft",
    "obd": "3",
    "l_obs": "1",
}
OTHER_LOSS = ("lc", "sws", "svd")


def _row(method, model, sparsity, paper="", *, published=False):
    """Returns a `Row`; of what comes out as sparsity, the paper's names it."""
    settings = {}
    recipe, options = _RECIPES[model], ()
    if published:
        recipe, options = _PUBLISHED[method, model]
    if method == "dns":
        # The rate is that of Caffe's LeNet.
        options += (f"c={_THRESHOLDS[model]}", "learning_rate=0.01")
    if method == "sws":
        # As arXiv's text of the paper has it. Others' ports have 0.005, the
        # example of its authors 0.003.
        options += ("tau=0.05",)
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


def is_published(group):
    """Returns whether a group of runs has a method's own schedule."""
    return group.run.row.name.endswith("-published")


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
        variant=criterion,
        dataset=dataset,
        recipe=recipe,
        settings={"criterion": criterion},
    )


RIVALS = Experiment(
    title="SNIP and the methods of Table 1 on equal terms",
    source="Lee et al. 2019, Table 1",
    seeds=3,
    rows=tuple(_rivals()),
    note="Equal terms: one network (of the text, without batch "
    "normalisation), data, split, batch of 100 and number of steps, 20,000 for "
    "LeNet-300-100 and 10,000 for LeNet-5-Caffe; half of them train the dense "
    "network where a method prunes a trained one. All kernels and biases "
    "count. The learning rate, 0.1 and for LeNet-5-Caffe 0.02, drops to a "
    "tenth after one half and three quarters of each part. Published: the "
    "number of steps and the batch of the method's own paper or code. What a "
    "step of each takes is in [benchmarks.md](benchmarks.md). Of their own "
    "they have:\n\n"
    "* LWC, OBD: a tenth of the rate after the training before; all layers "
    "ranked together, not as in their papers, in three rounds; OBD looks at "
    "300 images.\n"
    "* L-OBS: a tenth of the rate; one round, by 3,000 images; each layer "
    "keeps as much as it has among the largest weights of all.\n"
    "* LC: the same rate without drops; the penalty is scaled so that fewer "
    "steps draw the weights as far as its authors' 192,700.\n"
    "* DNS: a rate of 0.01; its authors' thresholds, which were for other "
    "inputs. The sparsity is what comes out.\n"
    "* SVD, SWS: Adam at 0.001 and 0.0005, no weight decay; SWS has a tau of "
    "0.05. The sparsity is what comes out.",
)
CRITERIA = Experiment(
    title="What weights are kept by: nine scores",
    source="Not in the paper",
    seeds=1,
    rows=tuple(_criteria()),
    note="Before training, by one batch of 100 images (128 for VGG-like), and "
    "with each score's own number of steps. In brackets stand dead kernels and "
    "units: a unit counts as dead if no weight into it is left, a kernel if "
    "none of it is; – in runs that did not record them. Fewer iterations than "
    "the paper's: with 1,000 VGG-like says which scores let it train, not how "
    "well.",
)
