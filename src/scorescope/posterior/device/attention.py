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
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from scorescope.data.images import ImageSet
from scorescope.foundation.devices import made_current
from scorescope.foundation.processes import from_all, process_count, working_alone
from scorescope.posterior.device import two_passes
from scorescope.posterior.device.parts import Parts
from scorescope.posterior.device.regions import MaskMatrix
from scorescope.posterior.device.running import RunningMeans
from scorescope.posterior.device.store import DeviceStore

logger = logging.getLogger(__name__)

# Training images and values of a part that a program handles at a time, for matrix units; and how many values
# it averages at most: where there are more, several programs find the same logits and average some each.
_IMAGES, _TERMS, _MOST_KEPT = 64, 64, 256
# Noisy images are taken in multiples of so many where memory does not allow all at once.
_TOGETHER = 64
# More would be too many programs along one axis, of which a device counts no more than `_MOST_PROGRAMS`.
_MOST_TOGETHER = 2**16
# Programs that keep every multiprocessor of a large device busy.
_PROGRAMS = 1024
# Along all axes but the first.
_MOST_PROGRAMS = 2**16 - 1
# 255² · 16384 < 2³⁰, the largest squared distance that the kernel can tell from none.
_MOST_DISTANCE_TERMS = 2**14
# Bytes for each value averaged (sums, those of a chunk, the answer) and for each place (terms, and what they are made of).
_BYTES_PER_VALUE, _BYTES_PER_PLACE = 24, 12
# A chunk of so many training images is enough for that.
CHUNK = 2**17
_TRIAL, _TRIAL_SHAPE, _TRIAL_COUNTS, _TRIAL_ERROR = 100, (3, 4, 5), (2, 40), 1e-5


def runs_on(device: torch.device) -> bool:
    """Whether the kernel runs there and is right: an NVIDIA device of compute capability 8 or later, Triton, and a trial.

    Processes that share the work take the same path, on which they merge what they find: if it does not run in one of them, it
    does in none.
    """
    return device.type == "cuda" and _runs_in_all(device, process_count())


@functools.cache
def _runs_in_all(device: torch.device, processes: int) -> bool:
    own = _is_able(device) and is_right_on(device)
    in_all = all(from_all(own))
    if own and not in_all:
        logger.warning("the attention kernels do not run in every process of this job: sums are used instead")
    return in_all


def _is_able(device: torch.device) -> bool:
    """Whether Triton has matrix units there."""
    if torch.version.hip is not None or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device)[0] >= 8


@functools.cache
def is_right_on(device: torch.device) -> bool:
    """Whether the kernels give there what the definition gives, tried once a process on a few random images.

    They are tried for few and for many noisy images, in one pass and in two, and for dense masks. A compiler that fails or
    miscompiles costs speed then, and no result.
    """
    from scorescope.posterior.device import dense

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (_TRIAL, *_TRIAL_SHAPE), generator=generator, dtype=torch.uint8)
    store = DeviceStore(ImageSet(pixels.numpy(), name="trial"), device)
    images = pixels.flatten(1).double() - 128
    whole = torch.arange(images.shape[1], dtype=torch.int32)[None].to(device)
    every = MaskMatrix.of(torch.ones(len(whole[0]), *_TRIAL_SHAPE), device)
    parts = Parts(whole, torch.full((1,), whole.shape[1], dtype=torch.int32, device=device), whole)
    for count in _TRIAL_COUNTS:
        sigma = torch.tensor([2.0, 200.0], dtype=torch.float64).repeat(count // 2)
        noise = torch.randn(count, images.shape[1], generator=generator, dtype=torch.float64)
        noisy = images[:count] + sigma[:, None] * noise
        weights = (-(torch.cdist(noisy, images) ** 2) / (2 * sigma[:, None] ** 2)).softmax(1)
        expected = weights @ images
        try:
            asked = noisy.to(device), sigma.to(device)
            with working_alone():
                found = [means(store, *asked, parts)[:, 0].cpu() for means in (_part_means, _in_two_passes)]
                found.append(_whole_means(store, *asked).cpu())
                found.append(two_passes.weighted_sums(weights.to(device), images.to(device, torch.int8)).cpu())
                # The whole image as a window that has one place.
                still = torch.zeros(1, dtype=torch.int32, device=device)
                found.append(moved_means(store, *asked, whole[0], whole[0], still).cpu())
                found.append(dense.entries(store, *asked, every).cpu())
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
    found = torch.zeros(len(noisy), *parts.kept.shape, dtype=torch.float64, device=noisy.device)
    for rows, some, _, means in _pieces(store, noisy, sigma, parts):
        found[rows, some] = means
    return found


def composite(store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts) -> Tensor:
    """The parts' posterior means, averaged where parts overlap: grey levels, float64 (B, d); arguments as in `part_means`."""
    total, covered = torch.zeros_like(noisy), torch.zeros_like(noisy[0])
    every = parts.kept.flatten()
    covered.index_add_(0, every.clamp(min=0), (every >= 0).double())
    for rows, _, piece, means in _pieces(store, noisy, sigma, parts):  # zeros are added where there is no place
        total[rows].index_add_(1, piece.kept.flatten().clamp(min=0), means.flatten(1))
    return total / covered


def entries(store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts) -> Tensor:
    """The parts' posterior means, each value being kept by one part: grey levels, float64 (B, d)."""
    found = torch.empty_like(noisy)
    for rows, _, piece, means in _pieces(store, noisy, sigma, parts):
        found[rows, piece.kept.flatten().long()] = means.flatten(1)
    return found


def _pieces(
    store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts
) -> Iterator[tuple[slice, slice, Parts, Tensor]]:
    """Means of some noisy images and parts after the other, as many at a time as half of the memory for a pass holds.

    Yields (rows, which parts, these parts, their means float64 (rows, parts, V)). The other half is for training images.
    """
    batch, count = len(noisy), len(parts.places)
    bytes_per_part = _BYTES_PER_VALUE * parts.kept.shape[1] + _BYTES_PER_PLACE * parts.places.shape[1]
    held = max(1, store.work_bytes // 2 // bytes_per_part)  # of pairs of noisy image and part
    rows = min(max(held // count // _TOGETHER, 1) * _TOGETHER, _MOST_TOGETHER)
    some = min(max(held // two_passes.padded(min(rows, batch)), 1), count)
    means = _in_two_passes if in_two_passes(parts, min(rows, batch)) else _part_means
    for first in range(0, batch, rows):
        these = slice(first, min(first + rows, batch))
        for begin in range(0, count, some):
            chosen = slice(begin, min(begin + some, count))
            piece = Parts(parts.places[chosen], parts.sizes[chosen], parts.kept[chosen])
            yield these, chosen, piece, means(store, noisy[these], sigma[these], piece)


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


def fits(parts: Parts) -> bool:
    """Whether the kernels take parts with so many values: squared distances of more exceed 32 bits."""
    return parts.places.shape[1] <= two_passes.MOST_TERMS


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
    for _, chunk in store.chunks(store.chunk_images(max(store.work_bytes // CHUNK, sums))):
        images = chunk.reshape(len(chunk), -1).contiguous()
        keys = len(images) * across
        splits = ranges(keys, count * tiles, _IMAGES)
        shape = (splits, count, queries.batch)
        base = torch.empty(shape, dtype=torch.int32, device=noisy.device)
        largest, total = torch.empty(2, *shape, device=noisy.device)
        values = torch.empty(*shape, kept.shape[1], device=noisy.device)
        with made_current(noisy.device):
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
        logits = logits_from(largest, base, queries.scale)[..., :batch]
        merge(running, logits, total[..., :batch], values[:, :, :batch])
        del values  # before those of the next chunk come
    return running.mean().permute(1, 2, 0)[..., : parts.kept.shape[1]]


def _in_two_passes(store: DeviceStore, noisy: Tensor, sigma: Tensor, parts: Parts) -> Tensor:
    questions = two_passes.Questions(noisy, sigma, parts)
    running = RunningMeans((questions.count, len(noisy)), questions.values, noisy.device, torch.float64)
    most = min(store.chunk_images(2 * questions.bytes_per_image), two_passes.MOST_CHUNK_IMAGES)
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


def ranges(keys: int, programs: int, images: int) -> int:
    """Into how many ranges keys are cut for so many programs, which take so many at a time: enough of them to fill a device."""
    enough = max(1, min(_PROGRAMS // programs, -(-keys // (4 * images))))
    return min(max(enough, -(-keys // two_passes.MOST_ADDED)), _MOST_PROGRAMS)


class Terms:
    """Noisy values as kernels multiply them: nearest bytes, and two float16 terms of what is left.

    Args:
        noisy: centred grey levels, float64 (B, K).
        sigma: noise levels in grey levels, float64 (B,).

    Attributes:
        nearest: int8 (B, K).
        high: the rest over its unit, float16 (B, K).
        low: what float16 leaves of it, float16 (B, K).
        unit: float32 (B,).
        scale: ``log₂(e) / 2σ²``, float32 (B,).
    """

    def __init__(self, noisy: Tensor, sigma: Tensor) -> None:
        near = noisy.round().clamp(-128, 127)
        rest = noisy - near
        unit = rest.abs().amax(1).clamp(min=1e-30)
        rest = rest / unit[:, None]
        self.nearest, self.high = near.to(torch.int8), rest.half()
        self.low = (rest - self.high.double()).half()
        self.unit = unit.float()
        self.scale = (math.log2(math.e) * 0.5 / sigma**2).float()


class _Queries:
    """Noisy images as the kernel takes them, padded with images of zeros; see `attention_kernel.attend`."""

    def __init__(self, noisy: Tensor, sigma: Tensor, places: Tensor, rows: int) -> None:
        padding = -len(noisy) % rows
        noisy = functional.pad(noisy, (0, 0, 0, padding))
        spread = functional.pad(sigma, (0, padding), value=1.0)
        self.batch = len(noisy)
        terms = Terms(noisy, spread)
        inside, where = places >= 0, places.clamp(min=0).long()

        def gathered(values: Tensor) -> Tensor:
            return (values[:, where] * inside).transpose(0, 1).contiguous()  # (parts, B, K)

        self.nearest = gathered(terms.nearest)
        self.norm = self.nearest.int().square().sum(2, dtype=torch.int32)
        self.high, self.low = gathered(terms.high), gathered(terms.low)
        self.unit, self.scale = terms.unit, terms.scale


def logits_from(largest: Tensor, base: Tensor, scale: Tensor) -> Tensor:
    """Logits in nats, float64 (splits, parts, B), of what kernels write, up to a constant a part."""
    return (largest - base * scale.double()) * math.log(2)


def merge(running: RunningMeans, largest: Tensor, total: Tensor, values: Tensor) -> None:
    """Add what ranges of a chunk gave, (splits, parts, B[, V]), to the sums, (B, parts); `values` is used up."""
    own = largest.amax(0)
    shares = (largest - own).exp().float()  # (splits, parts, B)
    running.count_from(torch.maximum(running.largest, own.T))
    of_chunk = (own.T - running.largest).exp()
    running.total += of_chunk * (shares * total).sum(0, dtype=torch.float64).T
    summed = values.mul_(shares[..., None]).sum(0, dtype=torch.float64)
    running.values += summed.permute(2, 1, 0).mul_(of_chunk)


def _widened(places: Tensor, multiple: int) -> Tensor:
    return functional.pad(places, (0, -places.shape[1] % multiple), value=-1).contiguous()
