"""Intermediate results stay within the memory that they are allowed, whatever the size of the training set."""

import weakref

import numpy as np
import pytest
import torch
from tests.posterior.device.cases import between, engine, question, random_set
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scorescope.posterior.device import MaskMatrix
from scorescope.posterior.windows import Window

WORK = 4 * 2**20
SHAPE = (3, 8, 8)
MASKS = MaskMatrix.of(np.random.default_rng(0).random((64, 1, 8, 8)) < 0.5, "cpu")
PASSES = {
    "whole image": (32, lambda engine, *asked: engine.whole_image.mean(*asked)),
    "covariance": (
        4,
        lambda engine, *asked: engine.whole_image.covariance_products(*asked, asked[0][:, None].repeat(1, 3, 1)),
    ),
    "windows": (2, lambda engine, *asked: engine.windows.mean(*asked, [Window.inside(3, 8, 8)] * 2)),
    "large windows": (2, lambda engine, *asked: engine.windows.mean(*asked, [Window.inside(7, 8, 8)] * 2)),
    "windows around": (2, lambda engine, *asked: engine.windows.mean(*asked, [Window.around(5, 8, 8)] * 2)),
    "masks": (2, lambda engine, *asked: engine.composites.mean(*asked, [MASKS] * 2)),
    "equivariant": (2, lambda engine, *asked: engine.equivariant.mean(*asked, [3] * 2)),
}


class PeakMemory(TorchDispatchMode):
    """Bytes of all storages that tensors made in this thread hold, at most at once."""

    def __init__(self):
        super().__init__()
        self.holders, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.holders:
                    self.holders[key] = [0, size]
                    self.now += size
                    self.peak = max(self.peak, self.now)
                self.holders[key][0] += 1
                weakref.finalize(tensor, self.drop, key)
        return result

    def drop(self, key):
        self.holders[key][0] -= 1
        if not self.holders[key][0]:
            self.now -= self.holders.pop(key)[1]


def peak(images, batch, task, sigma):
    asked = question(between(images, [sigma] * batch), [sigma] * batch, "cpu")
    streamed = engine(images, "cpu", {"resident_bytes": 0, "work_bytes": WORK, "kept_bytes": 0})
    with PeakMemory() as memory:
        task(streamed, *asked)
    return memory.peak


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("sigma", [0.1, 80.0])
def test_passes_stay_within_their_memory(name, sigma):
    batch, task = PASSES[name]
    images = random_set(0, 150 if name == "equivariant" else 2500, SHAPE, flips=True)
    used = peak(images, batch, task, sigma)
    assert 0.3 * WORK < used < 1.1 * WORK
