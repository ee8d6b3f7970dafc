"""Data sets of noise."""

import numpy as np

from snip_tf import data


def random_split(size, shape, seed=0):
    """Noise whose labels are 0, 1, 2, ...: a label names its image."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (size, *shape), dtype=np.uint8)
    return data.Split(images, np.arange(size))


def random_data(size=10, shape=(12, 10, 3)):
    mean = np.array([0.5, 0.4, 0.3], np.float32)[: shape[-1]]
    std = np.array([0.2, 0.3, 0.1], np.float32)[: shape[-1]]
    split = random_split(size, shape)
    return data.Data("noise", split, split, split, mean, std, size)
