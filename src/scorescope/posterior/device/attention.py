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
from scorescope.posterior.device import two_passes
from scorescope.posterior.device.parts import Parts
from scorescope.posterior.device.running import RunningMeans
from scorescope.posterior.device.store import DeviceStore

logger = logging.getLogger(__name__)

# Training images and values of a part that a program handles at a time, for matrix units; and how many values
# it averages at most: where there are more, several programs find the same logits and average some each.
_IMAGES, _TERMS, _MOST_KEPT = 64, 64, 256
# Noisy images are taken in multiples of so many where memory does not allow all at once.
_TOGETHER = 64
# Programs that keep every multiprocessor of a large device busy.
_PROGRAMS = 1024
# A device counts no more programs along one axis.
_MOST_SPLITS = 2**16 - 1
# 255² · 16384 < 2³⁰, the largest squared distance that the kernel can tell from none.
_MOST_DISTANCE_TERMS = 2**14
# A chunk of so many training images is enough for that.
_CHUNK = 2**17
_TRIAL, _TRIAL_SHAPE, _TRIAL_COUNTS, _TRIAL_ERROR = 100, (3, 4, 5), (2, 40), 1e-5


def runs_on(device: torch.device) -> bool:
    """Whether the kernel runs there and is right: an NVIDIA device of compute capability 8 or later, Triton, and a trial."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    able = torch.cuda.get_device_capability(device)[0] >= 8 and importlib.util.find_spec("triton") is not None
    return able and is_right_on(device)


@functools.cache
def is_right_on(device: torch.device) -> bool:
    """Whether the kernels give there what the definition gives, tried once a process on a few random images.

    They are tried for few and for many noisy images, in one pass and in two. A compiler that fails or miscompiles costs
    speed then, and no result.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (_TRIAL, *_TRIAL_SHAPE), generator=generator, dtype=torch.uint8)
    store = DeviceStore(ImageSet(pixels.numpy(), name="trial"), device)
    images = pixels.flatten(1).double() - 128
    whole = torch.arange(images.shape[1], dtype=torch.int32)[None].to(device)
    parts = Parts(whole, torch.full((1,), whole.shape[1], dtype=torch.int32, device=device), whole)
    for count in _TRIAL_COUNTS:
        sigma = torch.tensor([2.0, 200.0], dtype=torch.float64).repeat(count // 2)
        noise = torch.randn(count, images.shape[1], generator=generator, dtype=torch.float64)
        noisy = images[:count] + sigma[:, None] * noise
        expected = (-(torch.cdist(noisy, images) ** 2) / (2 * sigma[:, None] ** 2)).softmax(1) @ images
        try:
            asked = noisy.to(device), sigma.to(device)
            with working_alone():
                found = [means(store, *asked, parts)[:, 0].cpu() for means in (_part_means, _in_two_passes)]
                found.append(_whole_means(store, *asked).cpu())
                # The whole image as a window that has one place.
                still = torch.zeros(1, dtype=torch.int32, device=device)
                found.append(moved_means(store, *asked, whole[0], whole[0], still).cpu())
        except Exception as error:  # whatever a compiler or a driver raises
            logger.warning("the attention kernels do not run on %s (%s): sums are used instead", device, error)
            return False
        if any(bool((each - expected).norm() > _TRIAL_ERROR * expected.norm()) for each in found):
            logger.warning("the attention kernels are not right on %s: sums are used instead", device)
            return False
    return True


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
    bytes_per_row = parts.kept.numel() * 32 + parts.places.numel() * 10
    together = max(_TOGETHER, store.work_bytes // max(1, bytes_per_row) // _TOGETHER * _TOGETHER)
    pieces = zip(torch.split(noisy, together), torch.split(sigma, together), strict=True)
    means = _in_two_passes if in_two_passes(parts, min(together, len(noisy))) else _part_means
    return torch.cat([means(store, some, levels, parts) for some, levels in pieces])


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


def moved_means(
    store: DeviceStore, windows: Tensor, sigma: Tensor, places: Tensor, kept: Tensor, shifts: Tensor
) -> Tensor:
    """Posterior means of values of windows that training images have in many places.

    Args:
        store: the training set.
        windows: noisy ones as centred grey levels, float64 (Q, K), on the device; `may_move` says how large they may be.
        sigma: noise levels in grey levels, float64 (Q,).
        places: where the values of a window are in a training image, int32 (K,).
        kept: where those that are averaged are, int32 (V,).
        shifts: what is added to both, int32 (S,): one a place of the window.

    Returns:
        Grey levels, float64 (Q, V), all processes' images together.
    """
    size = torch.full((1,), len(places), dtype=torch.int32, device=places.device)
    asked = torch.arange(len(places), dtype=torch.int32, device=places.device)[None]
    return _part_means(store, windows, sigma, Parts(places[None], size, kept[None]), asked, shifts)[:, 0]


def may_move(values: int, kept: int) -> bool:
    """Whether `moved_means` takes windows of so many values, of which so many are averaged."""
    return values <= _MOST_DISTANCE_TERMS and kept <= _MOST_KEPT // 4


def in_two_passes(parts: Parts, batch: int) -> bool:
    """Whether logits are stored between two passes: where one program cannot average all values of a part.

    Several programs would each compute the logits again. So it is where squared distances can exceed 31 bits.
    """
    most = _MOST_KEPT if two_passes.row_tile(batch) >= 64 else _MOST_KEPT // 4
    return parts.kept.shape[1] > most or parts.places.shape[1] > _MOST_DISTANCE_TERMS


def tile(values: int, rows: int) -> tuple[int, int]:
    """How many of so many values a program averages for so many noisy images, and its warps: registers must hold them.

    Powers of two from 16 on, as matrix units have it; `python -m benchmarks kernels` shows what registers do hold.
    """
    most = _MOST_KEPT if rows >= 64 else _MOST_KEPT // 4
    kept = min(most, max(16, 1 << (values - 1).bit_length()))
    return kept, 4 if rows >= 64 and kept < 128 else 8


def worth_it(parts: Parts, batch: int, dimension: int) -> bool:
    """Whether gathering the places of masks is less work than multiplying with the matrix of all masks.

    A matrix unit multiplies about twelve times as fast as float32 units, three times as much, and 16 images at once.
    """
    gathered = float(parts.sizes.float().mean()) * 16 * -(-batch // 16)
    return 3 * gathered <= 2 * batch * dimension


def _part_means(
    store: DeviceStore,
    noisy: Tensor,
    sigma: Tensor,
    parts: Parts,
    asked: Tensor | None = None,
    shifts: Tensor | None = None,
) -> Tensor:
    """As `part_means`.

    Args:
        asked: where the values of a part are in `noisy`, int32 (parts, K), if not where they are in training images.
        shifts: int32 (S,): what is added to the places of a part in training images, which are compared at each of them.
    """
    from scorescope.posterior.device.attention_kernel import attend

    batch, count = len(noisy), len(parts.places)
    rows = two_passes.row_tile(batch)
    kept_tile, warps = tile(parts.kept.shape[1], rows)
    places = _widened(parts.places, _TERMS)
    queries = _Queries(noisy, sigma, places if asked is None else _widened(asked, _TERMS), rows)
    kept = _widened(parts.kept, kept_tile)
    tiles = queries.batch // rows * (kept.shape[1] // kept_tile)
    running = RunningMeans((batch, count), kept.shape[1], noisy.device, torch.float64)
    across = 1 if shifts is None else len(shifts)
    # Every range of training images has sums of its own, which are there twice when they are put together.
    sums = 16 * count * queries.batch * kept.shape[1] * across // two_passes.MOST_ADDED
    for _, chunk in store.chunks(store.chunk_images(max(store.work_bytes // _CHUNK, sums))):
        images = chunk.reshape(len(chunk), -1).contiguous()
        keys = len(images) * across
        splits = max(1, min(_PROGRAMS // (count * tiles), -(-keys // (4 * _IMAGES))), -(-keys // two_passes.MOST_ADDED))
        splits = min(splits, _MOST_SPLITS)
        shape = (splits, count, queries.batch)
        base = torch.empty(shape, dtype=torch.int32, device=noisy.device)
        largest, total = torch.empty(2, *shape, device=noisy.device)
        values = torch.empty(*shape, kept.shape[1], device=noisy.device)
        attend[count, splits, tiles](
            images,
            places,
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
            parts.sizes if shifts is None else shifts,
            keys,
            across,
            images.shape[1],
            queries.batch,
            places.shape[1],
            kept.shape[1],
            splits,
            ROWS=rows,
            IMAGES=_IMAGES,
            TERMS=_TERMS,
            KEPT=kept_tile,
            SHIFTED=shifts is not None,
            num_warps=warps,
            num_stages=2,
            enable_fp_fusion=True,
        )
        logits = (largest - base * queries.scale.double())[..., :batch] * math.log(2)
        _merge(running, logits, total[..., :batch], values[:, :, :batch])
        del values  # before those of the next chunk come
    return running.mean().permute(1, 2, 0)[..., : parts.kept.shape[1]]


def _in_two_passes(store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts) -> Tensor:
    questions = two_passes.Questions(noisy, sigma, parts)
    running = RunningMeans((questions.count, len(noisy)), questions.values, noisy.device, torch.float64)
    most = min(store.chunk_images(questions.bytes_per_image), two_passes.MOST_CHUNK_IMAGES)
    for _, chunk in store.chunks(most):
        found = questions.over(chunk.reshape(len(chunk), -1).contiguous(), None, running.largest)
        running.count_from(found.largest)
        running.total += found.sums[0]
        running.values += found.values.permute(2, 0, 1)
        del found  # before the next chunk's logits come
    return running.mean().permute(2, 1, 0)


def _whole_means(store: DeviceStore, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Of whole images of a small resident set, float64 (B, d): what `whole_image` does with it."""
    questions = two_passes.Questions(noisy, sigma)
    (_, chunk), *_ = store.chunks(len(store.images))
    images = chunk.flatten(1)
    nothing = torch.full((1, len(noisy)), -math.inf, dtype=torch.float64, device=noisy.device)
    found = questions.over(images, images.double().square().sum(1), nothing, moments=True)
    return found.values[0] / found.sums[0, 0, :, None]


class _Queries:
    """Noisy images as the kernel takes them, padded with images of zeros; see `attention_kernel.attend`."""

    def __init__(self, noisy: Tensor, sigma: Tensor, places: Tensor, rows: int) -> None:
        padding = -len(noisy) % rows
        noisy = functional.pad(noisy, (0, 0, 0, padding))
        spread = functional.pad(sigma, (0, padding), value=1.0)
        self.batch = len(noisy)
        near = noisy.round().clamp(-128, 127)
        rest = noisy - near
        unit = rest.abs().amax(1).clamp(min=1e-30)
        rest = rest / unit[:, None]
        high = rest.half()
        low = (rest - high.double()).half()
        inside, where = places >= 0, places.clamp(min=0).long()

        def gathered(values: Tensor) -> Tensor:
            return (values[:, where] * inside).transpose(0, 1).contiguous()  # (parts, B, K)

        self.nearest = gathered(near.to(torch.int8))
        self.norm = self.nearest.int().square().sum(2, dtype=torch.int32)
        self.high, self.low = gathered(high), gathered(low)
        self.unit = unit.float()
        self.scale = (math.log2(math.e) * 0.5 / spread**2).float()


def _merge(running: RunningMeans, largest: Tensor, total: Tensor, values: Tensor) -> None:
    """Add what a chunk gave, (splits, parts, B[, V]), to the sums, (B, parts)."""
    own = largest.amax(0)
    shares = (largest - own).exp().float()  # (splits, parts, B)
    running.count_from(torch.maximum(running.largest, own.T))
    of_chunk = (own.T - running.largest).exp()
    running.total += of_chunk * (shares * total).sum(0, dtype=torch.float64).T
    running.values += of_chunk * (shares[..., None] * values).sum(0, dtype=torch.float64).permute(2, 1, 0)


def _widened(places: Tensor, multiple: int) -> Tensor:
    return functional.pad(places, (0, -places.shape[1] % multiple), value=-1).contiguous()
