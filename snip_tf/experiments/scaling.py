"""What a training step costs on several devices: here, and on many by sums.

Each layout is trained in new processes by `fit`, one step at a time, on images
of noise. A step on many devices is what a model of four numbers says.
"""

import contextlib
import dataclasses
import itertools
import math
import multiprocessing
import os
import time
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import snip_tf
from snip_tf import models, tables, training
from snip_tf.experiments import processes

# Processes, and the replicas in each. Processes share the cores.
LAYOUTS = {
    "one process": (1, 1),
    "two replicas in a process": (1, 2),
    "two processes": (2, 1),
    "one process, half the cores": (1, 1),
}
_SECONDS = 6  # of training that are timed, at least
_WARM_UP = 3  # steps before
_SPARSITY = 0.95

# What is assumed where nothing is measured.
_NUMBERS = (8, 64, 512)
_BATCHES = (128, 4096)
_LATENCY = 20e-6  # of a message
_LINK = 1.25e9  # bytes a second: Ethernet of 10 Gbit/s
_FAST_LINK = 25e9  # InfiniBand of 200 Gbit/s
_FAST_MACS = 50e12  # 16 bits of an accelerator, of a peak three times as high


@dataclasses.dataclass(frozen=True)
class Layout:
    """What was measured of a layout; medians over the rounds."""

    images_per_second: float  # of all its processes
    first_step: float  # seconds from the command to the end of the first step
    gradient_bytes: int  # that a replica gives to be summed in a step


@dataclasses.dataclass(frozen=True)
class Device:
    """What the model of a step knows of a device and its network.

    Attributes:
        name: What it is.
        macs: The multiply-adds it does in a second of training.
        bandwidth: The bytes that it sends in a second, and receives.
        latency: The seconds that a message takes.
        overhead: The seconds that several take besides for a step.
    """

    name: str
    macs: float
    bandwidth: float
    latency: float
    overhead: float


def step_seconds(device, devices, batch, macs, gradient_bytes):
    """Returns the seconds of a data-parallel step, None for part images.

    Each device trains `batch / devices` images, then all sum their gradients in
    a ring, which moves 2 (n - 1) / n of them from each, and a tree's number of
    messages. Nothing overlaps; all devices are equal.

    Args:
        device: The `Device`.
        devices: How many there are, n.
        batch: The global batch.
        macs: The multiply-adds of one image forward. Backward takes twice that.
        gradient_bytes: Of one device.
    """
    if batch % devices:
        return None
    compute = 3 * macs * batch / devices / device.macs
    ring = 2 * (devices - 1) / devices * gradient_bytes / device.bandwidth
    messages = 2 * math.ceil(math.log2(devices)) * device.latency
    return compute + ring + messages + (devices > 1) * device.overhead


def projection(name, macs, gradient_bytes, device):
    """Returns rows of text: each global batch on one device, and on many."""
    rows = []
    for batch, number in itertools.product(_BATCHES, _NUMBERS):
        alone, dense, kept = (
            step_seconds(device, devices, batch, macs, sent)
            for devices, sent in (
                (1, 0),
                (number, gradient_bytes),
                (number, gradient_bytes * (1 - _SPARSITY)),
            )
        )
        texts = ["-"] * 4
        if dense:
            texts = [f"{1e3 * dense:,.1f}", f"{batch / dense:,.0f}"]
            texts += [f"{alone / t / number:.0%}" for t in (dense, kept)]
        rows.append((name, f"{batch:,}", f"{number}", *texts))
    return rows


def projected(networks):
    """Returns tables of steps on many devices, from what was `measured`.

    Args:
        networks: {name: what `measured` returned}. The last says how fast this
            machine is, the first what replicas add to a step.
    """
    first, last = next(iter(networks)), list(networks)[-1]
    one, two = (networks[first][key] for key in list(LAYOUTS)[:2])
    batch = recipe_of(models.build(first)).batch_size
    overhead = batch / two.images_per_second - batch / one.images_per_second
    overhead = max(overhead, 0)
    macs, _ = size_of(models.build(last))
    speed = 3 * macs * networks[last]["one process"].images_per_second
    devices = (
        Device("machines as this one", speed, _LINK, _LATENCY, overhead),
        Device(
            "accelerators, assumed", _FAST_MACS, _FAST_LINK, _LATENCY, overhead
        ),
    )
    large = {
        "VGG-D": models.build("vgg_d"),
        "ResNet-50": keras.applications.ResNet50(weights=None),
    }
    heads = ("network", "batch", "devices", "step, ms", "images/s")
    heads += ("efficiency", "only kept sent")
    texts = []
    for device in devices:
        rows = [heads]
        for name, model in large.items():
            rows += projection(name, *size_of(model), device)
        texts.append(
            f"{device.name}: {device.macs:.2g} multiply-adds/s of training, "
            f"{device.bandwidth:.3g} bytes/s, {1e6 * device.latency:.0f} us a "
            f"message, {1e3 * device.overhead:.1f} ms besides a step\n"
            f"{tables.aligned(rows)}"
        )
    return "\n".join(texts)


def recipe_of(model):
    """Returns the paper's recipe for a network."""
    is_mnist = model.input_shape[1] == 28
    return training.RECIPES["mnist" if is_mnist else "cifar10"]


def size_of(model):
    """Returns the multiply-adds of one image, and the bytes of gradients."""
    weights = sum(math.prod(w.shape) for w in model.trainable_variables)
    return snip_tf.flops(model).dense, 4 * weights


def measured(name, *, rounds=3):
    """Returns {layout: Layout} of a network with the paper's batch."""
    found = {layout: [] for layout in LAYOUTS}
    for number in range(rounds):
        for layout in reversed(LAYOUTS) if number % 2 else LAYOUTS:
            found[layout].append(_measure(layout, name))
    medians = {key: np.median(rows, axis=0) for key, rows in found.items()}
    return {key: Layout(*map(float, row)) for key, row in medians.items()}


def _measure(layout, name):
    count, replicas = LAYOUTS[layout]
    parts = 2 if layout != "one process" and replicas == 1 else 1
    cores, pools = processes.usable_cores(), []
    start = time.time()
    with contextlib.ExitStack() as stack:
        for number in range(count):
            share = cores[number::parts] or cores
            os.sched_setaffinity(0, share)  # its children's too
            pool = multiprocessing.get_context("spawn").Pool(1)
            pools.append(stack.enter_context(pool))
        os.sched_setaffinity(0, cores)
        tasks = [pool.apply_async(_train, (name, replicas)) for pool in pools]
        rows = [task.get() for task in tasks]
    rates, firsts, sent = zip(*rows, strict=True)
    return sum(rates), max(firsts) - start, max(sent)


class _Clock(keras.callbacks.Callback):
    """Times the steps after the first ones, and ends `fit`."""

    def on_train_batch_end(self, batch, logs=None):
        now = time.time()
        if batch == 0:
            self.first = now
        if batch == _WARM_UP:
            self.start = now
        self.steps = batch - _WARM_UP
        self.seconds = self.steps > 0 and now - self.start
        self.model.stop_training = self.seconds > _SECONDS


def _train(name, replicas):
    """Returns images a second, when the first step ended, bytes reduced."""
    tf.config.set_visible_devices([], "GPU")
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = replicas * [tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(cpu, logical)
    strategy, sent = tf.distribute.get_strategy(), [0]
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy()
    reduce = tf.distribute.ReplicaContext.all_reduce

    def counted(context, operation, values, *options):
        sent.append(sum(v.dtype.size * math.prod(v.shape) for v in values))
        return reduce(context, operation, values, *options)

    clock, kind = _Clock(), tf.distribute.ReplicaContext
    with strategy.scope(), mock.patch.object(kind, "all_reduce", counted):
        model = models.build(name)
        recipe = recipe_of(model)
        training.compile_model(model, recipe)
        shape = recipe.batch_size, *model.input_shape[1:]
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        batch = tf.data.Dataset.from_tensors((x, np.arange(len(x)) % 10))
        snip_tf.prune(model, *next(iter(batch)), sparsity=_SPARSITY)
        model.fit(
            batch.repeat(),
            steps_per_epoch=10**6,
            shuffle=False,
            callbacks=[clock],
            verbose=0,
        )
    rate = clock.steps * recipe.batch_size / clock.seconds
    return rate, clock.first, max(sent)
