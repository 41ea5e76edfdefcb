"""Small training sets, noisy images near them, and engines that keep or stream them."""

from __future__ import annotations

import numpy as np
import torch
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.posterior.device import DeviceEngine
from scorescope.posterior.units import LEVELS_PER_UNIT

SIGMAS = (0.002, 0.05, 0.3, 1.0, 5.0, 80.0)
# Nothing kept on the device, 64 images at a time; everything kept; a chunk and a bit.
BUDGETS = (
    {"resident_bytes": 0, "work_bytes": 1, "kept_bytes": 0},
    {},
    {"work_bytes": 2_000_000, "kept_bytes": 50_000},
)


def random_set(seed, count, shape=(3, 6, 7), flips=False):
    images = ImageSet(np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8))
    return images.with_flips() if flips else images


def clean(images):
    """All entries, float64 (N, C, H, W)."""
    return oracles.values(images.read(0, len(images)))


def between(images, sigmas, seed=1, alone_below=0.0):
    """Noisy images half way between two training images, or at one of them below a sigma, in [-1, 1], one a sigma."""
    rng = np.random.default_rng(seed)
    known = clean(images)
    pairs = rng.integers(0, len(known), (len(sigmas), 2))
    pairs[np.asarray(sigmas) < alone_below, 1] = pairs[np.asarray(sigmas) < alone_below, 0]
    noise = rng.standard_normal((len(sigmas), *images.image_shape))
    return known[pairs].mean(1) + np.asarray(sigmas)[:, None, None, None] * noise


def levels(noisy):
    """As NumPy's engine takes them: grey levels (B, d)."""
    return noisy.reshape(len(noisy), -1) * LEVELS_PER_UNIT - 0.5


def question(noisy, sigmas, device):
    """As the engine takes them: grey levels (B, d) and noise levels (B,), on the device."""
    spread = torch.as_tensor(np.asarray(sigmas) * LEVELS_PER_UNIT, device=device)
    return torch.from_numpy(levels(noisy)).to(device), spread


def engine(images, device, budget=None):
    return DeviceEngine(images, device, **(budget or {}))


def image_of(mean, images):
    """Results (B, d) as NumPy images."""
    return mean.cpu().numpy().reshape(-1, *images.image_shape)
