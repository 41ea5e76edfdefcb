"""Posterior means of parts of images as attention on matrix units: windows and masks of resident or streamed bytes.

A part of a noisy image is a query, the same part of every training image a key, and some of its values the values that are
averaged (Niedoba et al. 2025; Kamb & Ganguli 2024). Nothing of the size parts × training images is stored, so memory is that
of the answers. The arithmetic is in `attention_kernel`; this module prepares queries and merges what ranges of training
images, chunks and processes found. Distances are as exact as the sums of `local`, whichever is used.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.data.images import ImageSet
from scorescope.foundation.processes import working_alone
from scorescope.posterior.device.parts import Parts
from scorescope.posterior.device.running import RunningMeans
from scorescope.posterior.device.store import DeviceStore

logger = logging.getLogger(__name__)

# Noisy images, training images and values of a part that a program handles at a time, for matrix units; and how many values
# it averages at most: where there are more, several programs find the same logits and average some each.
_ROWS, _IMAGES, _TERMS, _MOST_KEPT = 64, 64, 64, 256
# Programs that keep every multiprocessor of a large device busy.
_PROGRAMS = 1024
# A chunk of so many training images is enough for that.
_CHUNK = 2**17
_TRIAL, _TRIAL_SHAPE, _TRIAL_ERROR = 100, (3, 4, 5), 1e-5


def runs_on(device: torch.device) -> bool:
    """Whether the kernel runs there and is right: an NVIDIA device of compute capability 8 or later, Triton, and a trial."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    able = torch.cuda.get_device_capability(device)[0] >= 8 and importlib.util.find_spec("triton") is not None
    return able and is_right_on(device)


@functools.cache
def is_right_on(device: torch.device) -> bool:
    """Whether the kernel gives there what the definition gives, tried once a process on a few random images.

    A compiler that fails or miscompiles costs speed then, and no result.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (_TRIAL, *_TRIAL_SHAPE), generator=generator, dtype=torch.uint8)
    store = DeviceStore(ImageSet(pixels.numpy(), name="trial"), device)
    images = pixels.flatten(1).double() - 128
    sigma = torch.tensor([2.0, 200.0], dtype=torch.float64)
    noisy = images[:2] + sigma[:, None] * torch.randn(2, images.shape[1], generator=generator, dtype=torch.float64)
    whole = torch.arange(images.shape[1], dtype=torch.int32)[None].to(device)
    parts = Parts(whole, torch.full((1,), whole.shape[1], dtype=torch.int32, device=device), whole)
    expected = (-(torch.cdist(noisy, images) ** 2) / (2 * sigma[:, None] ** 2)).softmax(1) @ images
    try:
        with working_alone():
            found = _part_means(store, noisy.to(device), sigma.to(device), parts)[:, 0].cpu()
    except Exception as error:  # whatever a compiler or a driver raises
        logger.warning("the attention kernel does not run on %s (%s): sums are used instead", device, error)
        return False
    right = bool((found - expected).norm() <= _TRIAL_ERROR * expected.norm())
    if not right:
        logger.warning("the attention kernel is not right on %s: sums are used instead", device)
    return right


def part_means(store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts) -> Tensor:
    """Posterior means of the kept values of every part.

    Args:
        store: the training set.
        noisy: B noisy images as centred grey levels, float64 (B, d), on the device.
        sigma: noise levels in grey levels, float64 (B,).
        parts: the parts, the same for all of them.

    Returns:
        Grey levels, float64 (B, parts, V), all processes' images together; zeros where `kept` is −1.
    """
    bytes_per_row = parts.kept.numel() * 16 + parts.places.numel() * 5
    together = max(_ROWS, store.work_bytes // max(1, bytes_per_row) // _ROWS * _ROWS)
    pieces = zip(torch.split(noisy, together), torch.split(sigma, together), strict=True)
    return torch.cat([_part_means(store, some, levels, parts) for some, levels in pieces])


def composite(store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts) -> Tensor:
    """The parts' posterior means, averaged where parts overlap: grey levels, float64 (B, d); arguments as in `part_means`."""
    means = part_means(store, noisy, sigma, parts).flatten(1)
    places = parts.kept.flatten().long()
    inside = places >= 0
    total, covered = torch.zeros_like(noisy), torch.zeros_like(noisy[0])
    total.index_add_(1, places[inside], means[:, inside])
    covered.index_add_(0, places[inside], torch.ones_like(means[0, inside]))
    return total / covered


def entries(store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts) -> Tensor:
    """The parts' posterior means, each value being kept by one part: grey levels, float64 (B, d)."""
    means = part_means(store, noisy, sigma, parts).flatten(1)
    found = torch.empty_like(noisy)
    found[:, parts.kept.flatten().long()] = means
    return found


def tile(values: int, rows: int) -> tuple[int, int]:
    """How many of so many values a program averages for so many noisy images, and its warps: registers must hold them.

    Powers of two from 16 on, as matrix units have it; `python -m benchmarks kernels` shows what registers do hold.
    """
    most = _MOST_KEPT if rows >= 64 else _MOST_KEPT // 2
    kept = min(most, max(16, 1 << (values - 1).bit_length()))
    return kept, 4 if rows >= 64 and kept < 128 else 8


def worth_it(parts: Parts, batch: int, dimension: int) -> bool:
    """Whether gathering the places of masks is less work than multiplying with the matrix of all masks.

    A matrix unit multiplies about twelve times as fast as float32 units, three times as much, and 16 images at once.
    """
    gathered = float(parts.sizes.float().mean()) * 16 * -(-batch // 16)
    return 3 * gathered <= 2 * batch * dimension


def _part_means(store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts) -> Tensor:
    from scorescope.posterior.device.attention_kernel import attend

    batch, count = len(noisy), len(parts.places)
    rows = min(_ROWS, max(16, 1 << (batch - 1).bit_length()))
    kept_tile, warps = tile(parts.kept.shape[1], rows)
    queries = _Queries(noisy, sigma, parts, rows, _TERMS)
    kept = _widened(parts.kept, kept_tile)
    tiles = queries.batch // rows * (kept.shape[1] // kept_tile)
    running = RunningMeans((batch, count), kept.shape[1], noisy.device, torch.float64)
    for _, chunk in store.chunks(store.chunk_images(store.work_bytes // _CHUNK)):
        images = chunk.reshape(len(chunk), -1).contiguous()
        splits = max(1, min(_PROGRAMS // (count * tiles), -(-len(images) // (4 * _IMAGES))))
        shape = (splits, count, queries.batch)
        base = torch.empty(shape, dtype=torch.int32, device=noisy.device)
        largest, total = torch.empty(2, *shape, device=noisy.device)
        values = torch.empty(*shape, kept.shape[1], device=noisy.device)
        attend[count, splits, tiles](
            images,
            queries.places,
            parts.sizes,
            kept,
            queries.nearest,
            queries.norm,
            queries.high,
            queries.low,
            queries.unit,
            queries.scale,
            base,
            largest,
            total,
            values,
            len(images),
            images.shape[1],
            queries.batch,
            queries.places.shape[1],
            kept.shape[1],
            splits,
            ROWS=rows,
            IMAGES=_IMAGES,
            TERMS=_TERMS,
            KEPT=kept_tile,
            num_warps=warps,
            num_stages=2,
        )
        logits = (largest - base * queries.scale.double())[..., :batch] * math.log(2)
        _merge(running, logits, total[..., :batch], values[:, :, :batch])
    return running.mean().permute(1, 2, 0)[..., : parts.kept.shape[1]]


class _Queries:
    """Noisy images as the kernel takes them, padded with images of zeros; see `attention_kernel.attend`."""

    def __init__(self, noisy: Tensor, sigma: Tensor, parts: Parts, rows: int, terms: int) -> None:
        padding = -len(noisy) % rows
        noisy = functional.pad(noisy, (0, 0, 0, padding))
        spread = functional.pad(sigma, (0, padding), value=1.0)
        self.batch = len(noisy)
        self.places = _widened(parts.places, terms)
        near = noisy.round().clamp(-128, 127)
        rest = noisy - near
        unit = rest.abs().amax(1).clamp(min=1e-30)
        rest = rest / unit[:, None]
        high = rest.half()
        low = (rest - high.double()).half()
        inside = self.places >= 0
        where = self.places.clamp(min=0).long()

        def gathered(values: Tensor) -> Tensor:
            return (values[:, where] * inside).transpose(0, 1).contiguous()  # (parts, B, K)

        self.nearest = gathered(near.to(torch.int8))
        self.norm = self.nearest.int().square().sum(2, dtype=torch.int32)
        self.high, self.low = gathered(high), gathered(low)
        self.unit = unit.float()
        self.scale = (math.log2(math.e) * 0.5 / spread**2).float()


def _merge(running: RunningMeans, largest: Tensor, total: Tensor, values: Tensor) -> None:
    """Add what a chunk gave, (splits, parts, B[, V]), to the sums, (B, parts)."""
    for split in range(len(largest)):
        running.count_from(torch.maximum(running.largest, largest[split].T))
        share = (largest[split].T - running.largest).exp()
        running.total += share * total[split].T
        running.values += share * values[split].permute(2, 1, 0)


def _widened(places: Tensor, multiple: int) -> Tensor:
    return functional.pad(places, (0, -places.shape[1] % multiple), value=-1).contiguous()
