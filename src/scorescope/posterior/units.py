"""Units inside the engine: grey levels centred at 128, in which stored images are exact small integers.

A stored byte u stands for the value ``u / 127.5 − 1``. The engine works with ``c = u − 128``, an integer from −128 to 127,
so that a noisy value v becomes ``127.5 (v + 1) − 128 = 127.5 v − 0.5`` and a noise level σ becomes ``127.5 σ``.
Posterior weights depend on ratios of distances to σ only, hence are the same in both units.
"""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.images import Pixels

LEVELS_PER_UNIT = 127.5
OFFSET = 0.5

Floats = npt.NDArray[np.float64]


def to_levels(values: Tensor) -> Floats:
    """Values in [-1, 1] as centred grey levels, float64, same shape."""
    levels: Floats = values.detach().to("cpu").double().numpy() * LEVELS_PER_UNIT - OFFSET
    return levels


def sigma_to_levels(sigma: Tensor) -> Floats:
    """Standard deviations in units of [-1, 1] as grey levels, float64, same shape."""
    levels: Floats = sigma.detach().to("cpu").double().numpy() * LEVELS_PER_UNIT
    return levels


def from_levels(levels: Floats) -> Floats:
    """Centred grey levels as values in [-1, 1], float64, same shape."""
    return (levels + OFFSET) / LEVELS_PER_UNIT


def centred(pixels: Pixels) -> npt.NDArray[np.int8]:
    """Bytes u as int8 ``u − 128``, always a contiguous copy of the same shape."""
    target = np.empty(pixels.shape, dtype=np.int8)
    centre(pixels, target)
    return target


def centre(pixels: Pixels, target: npt.NDArray[np.int8]) -> None:
    """Write ``u − 128`` of bytes u into an int8 array of the same shape."""
    # Flipping the top bit subtracts 128 in two's complement.
    goal = target.view(np.uint8)
    if pixels.flags.c_contiguous and goal.flags.c_contiguous:
        # PyTorch's threads, which multiply what is written here, are awake; others would have to wait for a processor.
        torch.bitwise_xor(_readable(pixels), 128, out=torch.from_numpy(goal))
    else:
        np.bitwise_xor(pixels, np.uint8(128), out=goal)


def _readable(pixels: Pixels) -> Tensor:
    """A tensor over contiguous bytes that may be mapped read-only: PyTorch knows no such thing, so it must only be read."""
    address = (ctypes.c_uint8 * pixels.size).from_address(pixels.ctypes.data)
    return torch.frombuffer(address, dtype=torch.uint8).reshape(pixels.shape)
