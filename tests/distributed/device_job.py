"""What the device's engine finds, on tensors in memory: by kernels, under Triton's interpreter, and by sums.

Every process of the job asks for the same; they hold different parts of the images, of which some processes keep theirs and
some stream them, as devices with more and with less free memory do.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch

from scorescope.data.images import ImageSet
from scorescope.foundation.processes import process_index
from scorescope.posterior.device import DeviceEngine, MaskMatrix, attention, dense, placement, two_passes
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.windows import Window

SHAPE = (1, 4, 5)
SIGMAS = torch.tensor([0.05, 0.05, 1.0, 20.0], dtype=torch.float64)
COUNTS = {"many": 90, "few": 1}
# Tiles so small that a few images have several.
SMALL = {
    attention: {"_IMAGES": 32, "_TERMS": 32, "_PROGRAMS": 2},
    two_passes: {"_ROWS": 16, "_IMAGES": (32, 32), "_TERMS": (32, 32), "_KEPT": (32, 32), "_PROGRAMS": 2, "_BLOCK": 4},
    dense: {"_ROWS": 16, "_IMAGES": 32, "_TERMS": 32},
    placement: {"LARGEST_STREAMED_CHUNK": 64 * 20},
}
WAYS = ("kernels", "large parts", "sums") if importlib.util.find_spec("triton") else ("sums",)
# Of which a few noisy images, parts and training images at a time take all.
WORK_BYTES = 150_000


def images(count: int) -> ImageSet:
    """Random images, the same in every process."""
    return ImageSet(np.random.default_rng(0).integers(0, 256, (count, *SHAPE)).astype(np.uint8))


def noisy(kind: str) -> torch.Tensor:
    """Four noisy images, float64 (4, C, H, W) in [-1, 1]."""
    known = images(COUNTS[kind]).tensor().double()
    noise = torch.randn(4, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return known[[0, -1, 0, -1]] + SIGMAS[:, None, None, None] * noise


def masks() -> list[MaskMatrix]:
    """Two sets of masks in turn, over pixel-channels."""
    members = torch.rand(2, 20, *SHAPE, generator=torch.Generator().manual_seed(2)) < 0.4
    members[:, 0] = True
    one, other = (MaskMatrix.of(each, "cpu") for each in members)
    return [one, other, other, one]


def answers() -> dict[str, Any]:
    """All of them, by name."""
    return {name: np.asarray(value) for kind in COUNTS for name, value in _answers(kind)}


def _answers(kind: str) -> Iterator[tuple[str, Any]]:
    asked = noisy(kind).flatten(1) * LEVELS_PER_UNIT - 0.5, SIGMAS * LEVELS_PER_UNIT
    resident = 0 if process_index() % 2 else None
    own, weights = masks(), MaskMatrix.of(torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(3)), "cpu")
    first = tuple(each[:1] for each in asked)
    windows = [Window.inside(3, 4, 5)] * 2 + [Window.around(3, 4, 5), Window.inside(4, 4, 5)]
    few = {each: MaskMatrix(each.members[:4], each.shape) for each in own}
    vectors = torch.linspace(-1, 1, 4 * 2 * 20, dtype=torch.float64).reshape(4, 2, 20)
    for way in WAYS:
        if way == "large parts" and kind == "few":
            continue
        with _by(way):
            found = DeviceEngine(images(COUNTS[kind]), "cpu", resident_bytes=resident, work_bytes=WORK_BYTES)
            where = f"{kind} {way}"
            if way == "large parts":
                yield f"{where} windows", found.windows.mean(*first, windows[:1])
                continue
            yield f"{where} windows", found.windows.mean(*asked, windows)
            yield f"{where} whole", found.whole_image.mean(*asked)
            sums = found.whole_image.sums(*asked, top=2)
            for name in ("log_normalizer", "entropy", "covariance_trace", "top_indices", "top_logits"):
                yield f"{where} {name}", getattr(sums, name)
            yield f"{where} covariance", found.whole_image.covariance_products(*asked, vectors)
            yield f"{where} patches", found.windows.patch_means(*first, windows[0])
            yield f"{where} composites", found.composites.mean(*asked, [few[each] for each in own])
            yield f"{where} entries", found.entries.mean(*asked, own)
            yield f"{where} weights", found.entries.mean(*asked, [weights] * 4)
            yield f"{where} every place", found.equivariant.mean(*first, [3])
    for row, each in enumerate(found.windows.describe(*asked, windows, top=2)):
        yield f"{kind} described {row}", each.probabilities


def agreed() -> list[Any]:
    """Whether kernels run, said by this process, where the device of the first alone is able, and where all are."""
    said = []
    for able in (lambda _: process_index() == 0, lambda _: True):
        with mock.patch.multiple(attention, _is_able=able, is_right_on=lambda _: True):
            attention._runs_in_all.cache_clear()
            said.append(attention.runs_on(torch.device("cuda", 0)))
    attention._runs_in_all.cache_clear()
    return said


@contextlib.contextmanager
def _by(way: str) -> Iterator[None]:
    """With kernels or without, parts of any size as if they were large."""
    own = {"runs_on": lambda _: way != "sums"} | ({"_MOST_KEPT": 1} if way == "large parts" else {})
    with contextlib.ExitStack() as stack:
        for module, values in SMALL.items():
            stack.enter_context(mock.patch.multiple(module, **values | (own if module is attention else {})))
        yield
