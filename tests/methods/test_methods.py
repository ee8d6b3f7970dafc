"""Each method against its formulas, by numpy, least squares and brute force."""

import itertools
import statistics

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import CROSS_ENTROPY

import snip_tf
from snip_tf import layers, methods
from snip_tf.methods import dns, l_obs, lc, svd, sws


def masked_net(*, bias=True):
    """Returns a trained-like network of 6 inputs and 3 classes, and data."""
    keras.utils.set_random_seed(4)
    dense = snip_tf.layers.Dense
    model = keras.Sequential(
        [
            keras.Input((6,)),
            dense(8, "relu", mask_bias=bias, name="hidden"),
            dense(3, mask_bias=bias, name="logits"),
        ]
    )
    generator = np.random.default_rng(1)
    x = generator.normal(size=(96, 6)).astype("float32")
    return model, x, np.argmax(x[:, :3], axis=1)


def linear(weights):
    """Returns a model of one masked Dense layer without a bias."""
    weights = np.asarray(weights, "float32").reshape(len(weights), -1)
    model = keras.Sequential(
        [
            keras.Input((len(weights),)),
            snip_tf.layers.Dense(
                weights.shape[1], use_bias=False, name="layer"
            ),
        ]
    )
    model.set_weights([weights, np.ones_like(weights)])
    return model


BLOCKS = {
    "DNS": lambda model: methods.DNS(model, c=0.0),
    "LC": lambda model: methods.LC(model, sparsity=0.5, every=3),
    "SVD": lambda model: methods.SVD(model, examples=96, initial=0.0),
    "SWS": lambda model: methods.SWS(model, examples=96, components=5),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_ends_in_an_ordinary_masked_model(name, fails, tmp_path):
    model, x, y = masked_net()
    variables = [variable.path for variable in model.variables]
    own = [set(vars(layer)) for layer in model.layers]
    regularizers = [w.regularizer for w in model.trainable_weights]
    try:
        with BLOCKS[name](model) as method:
            model.compile("adam", CROSS_ENTROPY)
            model.fit(
                x, y, batch_size=8, epochs=2, callbacks=[method], verbose=0
            )
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert all(mask.all() for mask in snip_tf.get_masks(model))
    assert [variable.path for variable in model.variables] == variables
    assert [set(vars(layer)) for layer in model.layers] == own
    assert [w.regularizer for w in model.trainable_weights] == regularizers
    for weight, mask in layers.masked_weights(model):
        assert not weight.numpy()[mask.numpy() == 0].any()
    if not fails:
        assert 0 < snip_tf.model_sparsity(model) < 1
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    model.compile("adam", CROSS_ENTROPY)
    model.fit(x, y, verbose=0)  # as any other
    for mask, other in zip(
        snip_tf.get_masks(model), snip_tf.get_masks(loaded), strict=True
    ):
        np.testing.assert_array_equal(mask, other)


# LWC


@pytest.mark.parametrize(
    ("name", "rates", "kept"),
    [
        (
            "lenet_300_100",
            {"fc1": 0.92, "fc2": 0.91, "fc3": 0.74},
            [18_816, 2_700, 260],
        ),
        (
            "lenet_5_caffe",
            {"conv1": 0.34, "conv2": 0.88, "fc1": 0.92, "fc2": 0.81},
            [330, 3_000, 32_000, 950],
        ),
    ],
)
def test_lwc_keeps_what_the_papers_tables_say(name, rates, kept, batch):
    model = snip_tf.models.build(name, mask_bias=False)
    kernels = [weight.numpy() for weight, _ in layers.masked_weights(model)]
    model.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    prune = methods.LWC(rates, begin=1, every=1)
    model.fit(*batch, batch_size=20, callbacks=[prune], verbose=0)
    for kernel, mask, count in zip(
        kernels, snip_tf.get_masks(model), kept, strict=True
    ):
        assert mask.sum() == count
        sizes = np.sort(np.abs(kernel).ravel())
        assert np.abs(kernel[mask == 1]).min() == sizes[-count]
        assert np.abs(kernel[mask == 0]).max() == sizes[-count - 1]


def test_rounds_remove_equal_shares(kept_by_step):
    model, x, y = masked_net()
    model.compile("sgd", CROSS_ENTROPY)
    prune = methods.OBD(x[:20], y[:20], 0.75, begin=4, every=4, rounds=2)
    model.fit(x, y, batch_size=8, callbacks=[prune, kept_by_step], verbose=0)
    # Of 83: half after the first round, a quarter after the second.
    assert [kept_by_step.of_step[step] for step in (4, 5, 8, 9)] == [
        *(83, 42, 42, 21)
    ]


# DNS


@pytest.mark.parametrize(
    ("size", "mask", "expected"),
    [
        (0.89, 1, 0),
        (0.90, 1, 0),
        (0.91, 1, 1),
        (0.91, 0, 0),
        (1.10, 0, 0),
        (1.10, 1, 1),
        (1.11, 0, 1),
    ],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_surgery_has_a_truth_table(size, mask, expected, sign):
    weight = np.array([sign * size])
    assert float(dns.surgery(weight, np.array([float(mask)]), 1.0)[0]) == (
        expected
    )


def test_a_weight_that_wanders_has_a_memory():
    mask, seen = np.ones(1), []
    for size in (1.0, 0.8, 1.0, 1.05, 1.2, 1.0, 0.95, 0.9):
        mask = np.asarray(dns.surgery(np.array([size]), mask, 1.0))
        seen.append(int(mask[0]))
    assert seen == [1, 0, 0, 0, 1, 1, 1, 0]


def test_thresholds_are_those_of_the_released_network():
    """Mean .0245 and deviation .0174 at c = 5: borders .100 and .123."""
    model = linear([0.0245 - 0.0174, -0.0245 - 0.0174, 0.0])
    found = dns.threshold(model.layers[0], 5.0)
    assert (0.9 * found, 1.1 * found) == pytest.approx((0.100, 0.123), abs=5e-4)
    assert dns.threshold(model.layers[0], -100.0) == 0


def test_the_gradient_of_dns_is_that_of_the_masked_network():
    model, x, y = masked_net()
    masks = [
        np.random.default_rng(2).integers(0, 2, mask.shape).astype("float32")
        for mask in snip_tf.get_masks(model)
    ]
    plain = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(3),
        ]
    )
    values = [weight.numpy() for weight, _ in layers.masked_weights(model)]
    plain.set_weights([v * m for v, m in zip(values, masks, strict=True)])

    def gradients(model):
        with tf.GradientTape() as tape:
            loss = CROSS_ENTROPY(y, model(x))
        values = [weight.value for weight in model.trainable_weights]
        return [np.asarray(g) for g in tape.gradient(loss, values)]

    with methods.DNS(model, c=1.0):
        for (_, variable), mask in zip(
            layers.masked_weights(model), masks, strict=True
        ):
            variable.assign(mask)
        found = gradients(model)
    for own, other, mask in zip(found, gradients(plain), masks, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-7)
        assert own[mask == 0].any()


def test_dns_that_never_looks_is_plain_training():
    after = []
    for block in (True, False):
        model, x, y = masked_net()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), CROSS_ENTROPY)
        fit = {"batch_size": 8, "shuffle": False, "verbose": 0}
        if block:
            with methods.DNS(model, c=1.0, stop=0) as method:
                model.fit(x, y, callbacks=[method], **fit)
        else:
            model.fit(x, y, **fit)
        after.append(model.get_weights())
    for one, other in zip(*after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_dns_brings_a_weight_back():
    """It is too small at first, and its gradient makes it grow."""
    model = linear([0.5, 0.001])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.tile(np.eye(2, dtype="float32"), (30, 1))
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            snip_tf.get_masks(model)[0].ravel().tolist()
        )
    )
    with methods.DNS(model, c=0.0) as method:
        y = x @ np.array([[0.5], [1.0]])
        callbacks = [method, look]
        model.fit(x, y, batch_size=2, callbacks=callbacks, verbose=0)
    assert seen[0] == [1, 0]
    assert seen[-1] == [1, 1]


def test_dns_looks_within_steps_that_keras_runs_together():
    found = []
    for at_a_time in (1, 4):
        model, x, y = masked_net()
        model.compile("sgd", CROSS_ENTROPY, steps_per_execution=at_a_time)
        with methods.DNS(model, c=0.0, gamma=1.0) as method:
            model.fit(
                x, y, batch_size=8, shuffle=False, callbacks=[method], verbose=0
            )
        assert int(method._step) == 12
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_dns_needs_a_number_for_each_layer():
    model, *_ = masked_net()
    with pytest.raises(ValueError, match="`c` must .* hidden, logits. Rec"):
        methods.DNS(model, c={"hidden": 1.0})


def test_dns_refuses_layers_that_read_their_weights_otherwise():
    with pytest.raises(ValueError, match="DNS is for .*TwoBiasLSTMCell"):
        methods.DNS(snip_tf.models.build("lstm_s"), c=1.0)


# LC


def test_compression_is_the_nearest_point():
    generator = np.random.default_rng(0)
    for values in (generator.normal(size=7), np.array([1, -1, 1, 2, 0, 1.0])):
        for kappa in range(1, len(values)):
            distances = [
                sum(values[i] ** 2 for i in set(range(len(values))) - set(kept))
                for kept in itertools.combinations(range(len(values)), kappa)
            ]
            found = lc.largest(values, kappa)
            assert np.count_nonzero(found) <= kappa
            assert np.sum((values - found) ** 2) == pytest.approx(
                min(distances)
            )


def test_learning_ends_where_the_quadratic_says():
    """Of A/2 (w - w*)^2 it is w = (A w* + mu theta + lambda) / (A + mu)."""
    start = np.array([3.0, 0.5, -2.0])
    model = linear(start)
    curvatures, best = np.array([0.5, 1.0, 2.0]), np.array([2.0, 1.0, -1.0])
    # The mean of squares over three examples.
    x = np.diag(np.sqrt(1.5 * curvatures)).astype("float32")
    x = np.tile(x, (200, 1))
    y = x @ best[:, None]
    model.compile(keras.optimizers.SGD(0.2), "mse")
    with methods.LC(model, sparsity=0.34, every=10**6, mu=0.4) as method:
        model.fit(
            x, y, batch_size=3, shuffle=False, callbacks=[method], verbose=0
        )
        kernel = model.layers[0]._kernel.numpy().ravel()
        theta = np.array([3.0, 0.0, -2.0])
        expected = (curvatures * best + 0.4 * theta) / (curvatures + 0.4)
        np.testing.assert_allclose(kernel, expected, rtol=1e-4)
        method._compress()
        multipliers = -0.4 * (kernel - lc.largest(kernel, 2))
        model.fit(
            x, y, batch_size=3, shuffle=False, callbacks=[method], verbose=0
        )
        theta, mu = lc.largest(kernel, 2), 0.44
        expected = curvatures * best + mu * theta + multipliers
        np.testing.assert_allclose(
            model.layers[0]._kernel.numpy().ravel(),
            expected / (curvatures + mu),
            rtol=1e-4,
        )


def test_lc_reaches_the_best_two_of_three_weights():
    model = linear([0.1, 1.0, -1.0])
    x = np.tile(np.sqrt(3.0) * np.eye(3, dtype="float32"), (600, 1))
    y = x @ np.array([[2.0], [0.2], [-1.0]])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    with methods.LC(
        model, sparsity=0.34, every=20, mu=0.05, growth=1.15
    ) as method:
        model.fit(
            x, y, batch_size=3, shuffle=False, callbacks=[method], verbose=0
        )
        gap = method._flat_weights() - method._theta
        assert np.abs(gap).max() < 1e-3
    kernel = model.layers[0]._kernel.numpy().ravel()
    np.testing.assert_allclose(kernel, [2, 0, -1], atol=1e-2)


def test_lc_returns_what_was_learned_since_the_last_compression():
    model, x, y = masked_net()
    model.compile(keras.optimizers.SGD(0.5), CROSS_ENTROPY)
    start = np.concatenate([w.numpy().ravel() for w in model.trainable_weights])
    with methods.LC(model, sparsity=0.5, every=10**6, mu=1e-3) as method:
        model.fit(x, y, epochs=3, callbacks=[method], verbose=0)
    found = np.concatenate([w.numpy().ravel() for w in model.trainable_weights])
    assert not np.isin(found[found != 0], start).any()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_penalty_that_diverges_says_so():
    model, x, y = masked_net()
    model.compile(keras.optimizers.SGD(1.0), CROSS_ENTROPY)
    message = "LC diverged before step .* Lower the learning rate"
    with (
        pytest.raises(ValueError, match=message),
        methods.LC(model, sparsity=0.5, every=50, mu=1e3) as method,
    ):
        model.fit(x, y, batch_size=1, epochs=2, callbacks=[method], verbose=0)


# SVD


def test_the_divergence_is_near_its_closed_form():
    """Dawson's function: d(-KL)/d log alpha = sqrt(u) D(sqrt(u)), u = 1/2a."""
    grid = np.linspace(-8, 30, 200_001)
    root = np.sqrt(0.5 * np.exp(-grid))
    slope = root * tf.math.special.dawsn(root).numpy()
    steps = np.diff(grid) * (slope[1:] + slope[:-1]) / 2
    exact = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
    for at, closed in ((-4, 2.62576), (0, 0.42669), (3, 0.02469)):
        assert np.interp(at, grid, exact) == pytest.approx(closed, abs=1e-5)
    found = svd.divergence(tf.constant(grid)).numpy()
    assert np.abs(found - exact).max() < 0.0095
    printed = [2.63421, 0.43124, 0.02542]
    at = tf.constant([-4.0, 0.0, 3.0])
    np.testing.assert_allclose(svd.divergence(at), printed, atol=1e-5)


def test_outputs_are_drawn_as_from_drawn_weights():
    generator = np.random.default_rng(5)
    model = linear(generator.normal(size=(4, 2)))
    kernel = model.layers[0]._kernel.numpy()
    x = generator.normal(size=(1, 4)).astype("float32")
    log_variance = generator.normal(size=(4, 2)) - 2
    with methods.SVD(model, examples=1) as method:
        method._log_variances[id(model.layers[0])].assign(log_variance)
        many = np.repeat(x, 100_000, axis=0)
        drawn = model(many, training=True).numpy()
    deviations = np.exp(log_variance / 2)
    noise = generator.normal(size=(100_000, 4, 2)) * deviations
    sampled = np.einsum("i,nio->no", x[0], kernel + noise)
    for moment in (np.mean, np.std):
        np.testing.assert_allclose(
            moment(drawn, axis=0), moment(sampled, axis=0), rtol=0.02, atol=0.02
        )


def test_convolutions_are_drawn_too():
    """Keras does not tell them the mode. Their bias has no noise."""
    keras.utils.set_random_seed(0)
    conv = snip_tf.layers.Conv2D(2, 3, activation="relu", name="conv")
    model = keras.Sequential([keras.Input((5, 5, 1)), conv])
    conv._bias.assign([20.0, 20.0])
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 1)).astype("float32")
    with methods.SVD(model, examples=1, initial=-1.0):
        mean = model(x).numpy()
        drawn = model(np.repeat(x, 100_000, axis=0), training=True).numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), mean[0], atol=0.05)
    patches = tf.image.extract_patches(
        x, [1, 3, 3, 1], [1, 1, 1, 1], [1, 1, 1, 1], "VALID"
    )
    spread = np.exp(-1.0) * np.sum(np.square(patches), axis=-1)
    np.testing.assert_allclose(
        drawn.var(axis=0), np.repeat(spread[0, ..., None], 2, -1), rtol=0.1
    )


@pytest.mark.parametrize("name", ["SVD", "SWS", "LC"])
def test_the_papers_recipe_leaves_a_methods_loss(name):
    model, *_ = masked_net()
    with BLOCKS[name](model):
        before = [float(loss) for loss in model.losses]
        recipe = snip_tf.training.Recipe(steps=1, batch_size=1)
        snip_tf.training.compile_model(model, recipe)
        losses = [float(loss) for loss in model.losses]
        assert all(loss in losses for loss in before)


def test_without_variance_it_is_a_plain_layer():
    model, x, _ = masked_net()
    expected = model(x).numpy()
    with methods.SVD(model, examples=1, initial=-40.0):
        drawn = model(x, training=True).numpy()
        np.testing.assert_array_equal(model(x), expected)
    np.testing.assert_allclose(drawn, expected, atol=2e-3)


def test_what_is_mostly_noise_goes():
    model = linear([1.0, 0.01, -0.5])
    with methods.SVD(model, examples=1) as method:
        # log alpha is 2.9, 3.1 and 10.
        sigmas = [2.9, 3.1 + 2 * np.log(0.01), 10 + 2 * np.log(0.5)]
        method._log_variances[id(model.layers[0])].assign(
            np.reshape(sigmas, (3, 1))
        )
        np.testing.assert_array_equal(
            model(np.eye(3)).numpy().ravel() != 0, [1, 0, 0]
        )
    np.testing.assert_array_equal(
        snip_tf.get_masks(model)[0].ravel(), [1, 0, 0]
    )


def test_svd_refuses_other_layers_and_a_built_optimizer():
    model, x, y = masked_net()
    model.compile("adam", CROSS_ENTROPY)
    model.fit(x, y, verbose=0)
    for method in (methods.SVD, methods.SWS):
        message = f"inside of the {method.__name__} block"
        with (
            pytest.raises(ValueError, match=message),
            method(model, examples=1),
        ):
            pass
        assert len(model.trainable_weights) == 4
    recurrent = snip_tf.models.build("lstm_s")
    with pytest.raises(ValueError, match="Dense layers and conv.*Received: "):
        methods.SVD(recurrent, examples=1)


# SWS


def test_the_density_is_that_of_the_normals():
    means, deviations = np.array([0.0, -0.3, 0.2]), np.array([0.05, 0.1, 0.4])
    shares = np.array([0.9, 0.06, 0.04])
    points = np.linspace(-1, 1, 21)
    found = sws.log_density(
        points, means, -2 * np.log(deviations), np.log(shares)
    )
    for point, value in zip(points, np.asarray(found), strict=True):
        parts = [
            share * statistics.NormalDist(mean, deviation).pdf(point)
            for mean, deviation, share in zip(
                means, deviations, shares, strict=True
            )
        ]
        assert value == pytest.approx(np.log(sum(parts)))


def test_the_prior_of_a_precision_is_least_near_its_mode():
    """(1 - a) g + b e^g of g, the log precision: at ln((a - 1) / b)."""
    for shape, rate in sws.GAMMAS:
        grid = np.linspace(7, 9, 2001)
        least = grid[np.argmin((1 - shape) * grid + rate * np.exp(grid))]
        assert least == pytest.approx(7.82, abs=0.01)


@pytest.mark.filterwarnings("ignore:The masks of these kernels")
def test_the_loss_is_the_mixture_s():
    model, *_ = masked_net()
    with methods.SWS(model, examples=10, components=3, tau=0.5) as method:
        (found,) = model.losses
        parts = [np.asarray(part, float) for part in method.mixture()]
        weights = np.concatenate([w.numpy().ravel() for w in method._weights])
        total = -np.sum(sws.log_density(weights, *parts))
        for own, (shape, rate) in zip(
            parts[1], [sws.GAMMAS[0]] + 2 * [sws.GAMMAS[1]], strict=True
        ):
            total += (1 - shape) * own + rate * np.exp(own)
        assert float(found) == pytest.approx(0.05 * total, rel=1e-4)
        assert parts[0][0] == 0
        assert np.exp(parts[2]).sum() == pytest.approx(1)
        assert np.exp(parts[2][0]) == pytest.approx(0.99)


def test_equal_components_merge_into_the_same_density():
    means, precisions = [0.0, 0.5, 0.5, -0.2], [4.0, 3.0, 3.0, 4.0]
    shares = np.log([0.7, 0.1, 0.15, 0.05])
    fewer = sws.merged(means, precisions, shares, 1e-10)
    assert len(fewer[0]) == 3
    points = np.linspace(-1, 1, 11)
    np.testing.assert_allclose(
        sws.log_density(points, *fewer),
        sws.log_density(points, np.array(means), np.array(precisions), shares),
        rtol=1e-6,
    )


def test_each_weight_goes_to_the_likeliest_component():
    """By hand: shares .9 and .1, deviations .1; the border is at .2 + ..."""
    means, precisions = np.array([0.0, 0.4]), np.full(2, np.log(100.0))
    border = 0.2 + 0.01 / 0.4 * np.log(0.9 / 0.1)
    points = np.array([0.0, border - 1e-3, border + 1e-3, 0.6])
    found = sws.assigned(points, means, precisions, np.log([0.9, 0.1]))
    np.testing.assert_array_equal(found, [0, 0, 0.4, 0.4])


# L-OBS


def problem(inputs=6, examples=40):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(examples, inputs)) @ generator.normal(
        size=(inputs, inputs)
    )
    return x, generator.normal(size=(inputs, 2)), x.T @ x / examples


@pytest.mark.parametrize("sparsity", [1 / 12, 0.25, 0.5])
def test_the_survivors_are_the_least_squares_of_their_mask(sparsity):
    x, weights, hessian = problem()
    best, kept = l_obs.surgery(
        weights, np.ones_like(weights), hessian, sparsity
    )
    assert kept.sum() == snip_tf.kept_weights(12, sparsity)
    for unit in range(2):
        stay = kept[:, unit]
        refit = np.linalg.lstsq(x[:, stay], x @ weights[:, unit], rcond=None)[0]
        np.testing.assert_allclose(best[stay, unit], refit, rtol=1e-5)
        assert not best[~stay, unit].any()
    if kept.sum() == 11:  # then the error is the saliency of the one
        inverse = np.linalg.inv(hessian)
        saliency = weights**2 / (2 * np.diag(inverse)[:, None])
        np.testing.assert_array_equal(kept, saliency > saliency.min())
        error = np.mean(np.sum((x @ (best - weights)) ** 2, axis=1))
        assert error == pytest.approx(2 * saliency.min(), rel=1e-4)


def test_white_inputs_make_it_magnitude_pruning():
    _, weights, _ = problem()
    best, kept = l_obs.surgery(weights, np.ones_like(weights), np.eye(6), 0.5)
    sizes = np.sort(np.abs(weights).ravel())
    np.testing.assert_array_equal(kept, np.abs(weights) >= sizes[6])
    np.testing.assert_allclose(best, weights * kept, rtol=1e-5)


def test_a_convolution_is_refitted_on_its_patches():
    keras.utils.set_random_seed(0)
    conv = snip_tf.layers.Conv2D(
        4, 3, strides=2, padding="same", mask_bias=True, name="conv"
    )
    model = keras.Sequential([keras.Input((8, 8, 2)), conv])
    conv._bias.assign([0.1, -0.2, 0.3, 0.4])
    x = np.random.default_rng(0).normal(size=(30, 8, 8, 2)).astype("float32")
    dense = model(x).numpy().reshape(-1, 4)
    methods.prune_by_l_obs(model, x, sparsity={"conv": 0.5}, batch_size=7)
    kernel, bias = (mask.reshape(-1, 4) for mask in snip_tf.get_masks(model))
    assert kernel.sum() + bias.sum() == 38
    patches = tf.image.extract_patches(
        x, [1, 3, 3, 1], [1, 2, 2, 1], [1, 1, 1, 1], "SAME"
    ).numpy()
    rows = np.hstack([patches.reshape(-1, 18), np.ones((480, 1))])
    for unit in range(4):
        stay = np.append(kernel[:, unit], bias[0, unit]) == 1
        refit = np.linalg.lstsq(rows[:, stay], dense[:, unit], rcond=None)[0]
        found = np.append(conv._kernel.numpy()[..., unit], conv._bias[unit])
        np.testing.assert_allclose(found[stay], refit, atol=1e-4)


def test_l_obs_beats_plain_zeroing_and_leaves_other_layers():
    model, x, y = masked_net(bias=False)
    model.compile("adam", CROSS_ENTROPY)
    model.fit(x, y, epochs=20, verbose=0)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    dense, last = model(x).numpy(), model.layers[-1]._kernel.numpy()
    masks = methods.prune_by_l_obs(model, x, sparsity={"hidden": 0.5})
    snip_tf.set_masks(twin, masks)
    assert masks[0].sum() == 24
    assert masks[1].all()
    np.testing.assert_array_equal(model.layers[-1]._kernel, last)
    errors = [np.square(one(x).numpy() - dense).sum() for one in (model, twin)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (methods.LC, {"every": 0, "sparsity": 0.5}, "`every` must be .*=0"),
        (methods.SVD, {"examples": 9, "warm_up": (5, 5)}, "`warm_up` .* 6"),
        (methods.SWS, {"examples": 9, "components": 1}, "`components` .* 2"),
        (methods.DNS, {"c": [1, 2]}, "`c` must be as documented"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_given(method, options, message):
    with pytest.raises(ValueError, match=message):
        method(masked_net()[0], **options)


@pytest.mark.parametrize("wrong", [{"every": 0}, {"rounds": 0}, {"begin": -1}])
def test_rounds_that_cannot_be_are_refused(wrong):
    (name,) = wrong
    options = {"begin": 1000.0, "every": 500, "rounds": 3}
    methods.LWC(0.9, **options)
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number"):
        methods.LWC(0.9, **options | wrong)
    options["number"] = options.pop("rounds")
    wrong = {"number" if name == "rounds" else name: wrong[name]}
    with pytest.raises(ValueError, match="must be a whole number"):
        snip_tf.schedules.rounds(0.9, **options | wrong)


@pytest.mark.parametrize("method", [methods.LC, methods.SVD])
def test_a_fit_without_its_callback_is_refused(method):
    model, x, y = masked_net()
    options = {"examples": len(x)}
    if method is methods.LC:
        options = {"sparsity": 0.5, "every": 2}
    with pytest.raises(ValueError, match="`callbacks` of `fit` must hold the"):
        with method(model, **options):
            model.compile("sgd", CROSS_ENTROPY)
            model.fit(x, y, verbose=0)
    assert snip_tf.model_sparsity(model) == 0


def test_l_obs_refuses_layers_that_it_does_not_know():
    model, x, _ = masked_net()
    before = model.get_weights()
    for sparsity, received in (({"output": 0.5}, "'output'"), (0.5, "0.5")):
        message = f"`sparsity` must be a dict .*hidden, logits. .*{received}$"
        with pytest.raises(ValueError, match=message):
            methods.prune_by_l_obs(model, x, sparsity=sparsity)
    with pytest.raises(ValueError, match=r"\[0, 1\). Received: sparsity=50"):
        methods.prune_by_l_obs(model, x, sparsity={"hidden": 0.5, "logits": 50})
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_refuses_a_pruned_model(name):
    model, _, _ = masked_net()
    snip_tf.prune(model, None, sparsity=0.5, criterion="magnitude")
    with pytest.raises(ValueError, match="must be dense: .*which is pruned"):
        BLOCKS[name](model)
