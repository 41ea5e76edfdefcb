"""``python -m benchmarks device``: posterior engine, training and `explain` on a CUDA device, in four minutes.

The images are 50,000 of 3×32×32. Every line stands beside plain PyTorch in the same run, and beside the device's own limits:
how fast it multiplies, reads its memory, and copies from page-locked memory. The first table is errors against float64
(`device_errors`); the last lines run in processes of their own (`device_jobs`), which are ended with the time that is left. A
line whose time is not left is named and not measured. Results go to ``benchmarks/results/device-NAME``. Without a device it
says what it needs; ``python -m benchmarks device-rehearsal`` goes through all of it on a processor, with a few tiny images, and
keeps nothing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import device_errors, device_jobs
from benchmarks.data import fifty_thousand
from benchmarks.harness import RESULTS, Row, table, timed
from benchmarks.posterior import noisy_images
from benchmarks.references.equivariant import equivariant_local_score
from benchmarks.references.masks import flex_reference, pca_reference
from benchmarks.references.whole_image import optimal
from benchmarks.references.windows import local_score, square_patches
from scorescope.data import ImageSet
from scorescope.denoisers import (
    Denoiser,
    EquivariantLocalScoreDenoiser,
    FlexPatchDenoiser,
    LocalScoreDenoiser,
    PcaLocalityDenoiser,
    SquarePatchDenoiser,
)
from scorescope.posterior.device import DeviceEngine
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.study.environment import device_name, environment

SECONDS = 235
NO_DEVICE = (
    "no CUDA device is present, so nothing was measured: this suite needs one NVIDIA GPU of compute capability 8 or later with"
    " 16 GB, PyTorch with CUDA, and four minutes"
)
SIDES = {3: "≤ 8 ms", 7: "≤ 25 ms", 11: "≤ 45 ms", 15: "≤ 60 ms", 23: "≤ 45 ms"}
SHARES = (0.3, 0.5, 0.7)
EQUIVARIANT_IMAGES, EQUIVARIANT_REFERENCE_IMAGES = 1_000, 40
# Parts of the plain references that are measured, and scaled.
PLACES_MEASURED, REFERENCE_IMAGES = 3, 5_000
ERROR_IMAGES = 2_000


@dataclass
class Clock:
    """What is left of the time for a run.

    Attributes:
        seconds: for all of it.
        now: what tells the time, in seconds.
    """

    seconds: float
    now: Callable[[], float] = time.perf_counter
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.seconds - (self.now() - self.began)


@dataclass(frozen=True)
class Line:
    """One line of the table, or a few.

    Attributes:
        case: what is measured.
        budget: seconds that it may take; it is left out where there are fewer.
        measure: gives the rows, from the seconds that are left.
    """

    case: str
    budget: float
    measure: Callable[[float], Iterable[Row]]


def measured(lines: Iterable[Line], clock: Clock) -> tuple[list[Row], list[str]]:
    """The rows of the lines for which there is time, and what was left out, with the reason."""
    rows: list[Row] = []
    left_out: list[str] = []
    for line in lines:
        if clock.left < line.budget:
            left_out.append(f"{line.case}: {clock.left:.0f} s were left of the {line.budget:.0f} s that it may take")
            continue
        try:
            rows += line.measure(clock.left)
        except (RuntimeError, device_jobs.JobError) as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            left_out.append(f"{line.case}: {said[0]}")
    return rows, left_out


@dataclass(frozen=True)
class Limits:
    """What the device can do, as measured now.

    Attributes:
        flops: float32 operations a second in a large matrix product, in full precision.
        tf32: the same in TF32.
        half: in float16.
        byte_operations: operations a second in a large product of bytes, None where PyTorch has none on the device.
        bytes_read: bytes a second when summing a large array in the device's memory.
        bytes_copied: bytes a second from page-locked memory to the device.
    """

    flops: float
    tf32: float
    half: float
    byte_operations: float | None
    bytes_read: float
    bytes_copied: float

    @classmethod
    def measure(cls, device: torch.device, size: int = 8192, words: int = 2**27) -> Limits:
        """With square matrices of that size, and arrays of so many words of eight bytes."""
        a, b = torch.randn(2, size, size, device=device)
        work = 2 * size**3
        with tf32(False):
            flops = work / seconds(lambda: a @ b, device, 3)
        with tf32(True):
            fast = work / seconds(lambda: a @ b, device, 3)
        half_a, half_b = a.half(), b.half()
        half = work / seconds(lambda: half_a @ half_b, device, 3)
        bytes_a, bytes_b = (each.mul(20).to(torch.int8) for each in (a, b))
        try:
            byte_operations = work / seconds(lambda: torch._int_mm(bytes_a, bytes_b.T), device, 3)
        except RuntimeError:
            byte_operations = None
        array = torch.ones(words, dtype=torch.int64, device=device)
        reading = array.nbytes / seconds(lambda: array.sum(), device)
        staged = torch.ones(8 * words, dtype=torch.uint8, pin_memory=device.type == "cuda")
        copying = len(staged) / seconds(lambda: staged.to(device, copy=True), device)
        return cls(flops, fast, half, byte_operations, reading, copying)

    def __str__(self) -> str:
        products = f"float32 {self.flops / 1e12:.3g}, TF32 {self.tf32 / 1e12:.3g}, float16 {self.half / 1e12:.3g}"
        if self.byte_operations is not None:
            products += f", bytes {self.byte_operations / 1e12:.3g}"
        return (
            f"products in T/s: {products}; memory read at {self.bytes_read / 1e9:,.3g} GB/s, copies to the device at"
            f" {self.bytes_copied / 1e9:.3g} GB/s"
        )


def lines(images: ImageSet, device: torch.device, limits: Limits) -> Iterator[Line]:
    """All lines of the table, the cheapest and most wanted first."""
    clean = images.tensor().to(device)
    resident = DeviceEngine(images, device)
    for batch in (64, 1):
        for sigma in (0.5, 80.0):
            yield _whole_image("resident", resident, clean, batch, sigma, limits)
    yield _whole_image("streamed", DeviceEngine(images, device, resident_bytes=0), clean, 64, 0.5, limits)
    _, height, width = images.image_shape
    for side, wanted in SIDES.items():
        if side <= min(height, width):
            yield _square(images, clean, device, side, wanted)
    yield Line("local-score", 5, lambda _: [_local(images, clean, device)])
    few = images.subset(range(min(EQUIVARIANT_IMAGES, images.stored)))
    yield Line("equivariant-local-score", 8, lambda _: [_equivariant(few, clean, device)])
    for share in SHARES:
        yield Line(f"pspc-flex, λ = {share:g}", 12, lambda _, share=share: [_flexible(images, device, share)])  # type: ignore[misc]
    correlated = PcaLocalityDenoiser(images)
    for batch, wanted in ((1, "≤ 6 ms"), (16, "≤ 60 ms")):
        yield Line(
            f"pca-locality, batch {batch}",
            8,
            lambda _, batch=batch, wanted=wanted: [_correlated(correlated, images, device, batch, wanted)],  # type: ignore[misc]
        )


def job_lines(images: ImageSet, sizes: device_jobs.Sizes) -> Iterator[Line]:
    """`explain` and training, each in a process of its own, which is ended in time."""
    yield Line("training", 60, lambda left: device_jobs.training(sizes, min(110, max(60, left - 60))))
    yield Line("explain", 30, lambda left: device_jobs.explain(images, sizes, left))


def _whole_image(kind: str, engine: DeviceEngine, clean: Tensor, batch: int, sigma: float, limits: Limits) -> Line:
    case = f"optimal, {kind}, batch {batch}, σ = {sigma:g}"

    def measure(_: float) -> list[Row]:
        images, device = engine.store.images, engine.store.device
        asked, size = _question(images, batch, sigma, device), len(images) * engine.whole_image.dimension
        own, peak = _with_peak(lambda: seconds(lambda: engine.whole_image.mean(*asked), device), device)
        noisy, flat = noisy_images(images, batch, sigma).to(device).flatten(1), clean.flatten(1)
        plain = {}
        for allowed in (False, True):
            with tf32(allowed):
                plain[allowed] = seconds(lambda: optimal(noisy, flat, sigma), device)
        wanted = "≤ 0.7 ms, ≥ 1×" if batch > 1 else "≤ 0.4 ms, ≥ 1×"
        if kind == "streamed":
            limit, note, wanted = size / limits.bytes_copied, "limit: copying the bytes once", "≥ 50 % of it"
        elif batch == 1:
            limit, note = size / limits.bytes_read, "limit: reading the bytes once"
        else:
            limit, note = 4 * batch * size / limits.half, "limit: 4·B·N·d operations in float16"
        note += f"; reference in TF32, in float32 {plain[False] * 1e3:.2f} ms{peak}"
        return [Row(case, own, plain[True], limit, wanted, note)]

    return Line(case, 4, measure)


def _square(images: ImageSet, clean: Tensor, device: torch.device, side: int, wanted: str) -> Line:
    denoiser = SquarePatchDenoiser(images, side)

    def measure(_: float) -> list[Row]:
        row = _denoiser(f"pspc-square, window {side}", denoiser, images, device, 64, 0.5, wanted)
        _, height, width = images.image_shape
        noisy, down, across = noisy_images(images, 64, 0.5).to(device), height - side + 1, width - side + 1
        corners = [(7 * k % down, 5 * k % across) for k in range(PLACES_MEASURED)]
        few = clean[:REFERENCE_IMAGES]
        part = seconds(lambda: square_patches(noisy, few, 0.5, side, corners), device, 1)
        scale = down * across / PLACES_MEASURED * len(clean) / len(few)
        note = f"reference: {PLACES_MEASURED} of {down * across} windows, {len(few):,} images, scaled; {row.note}"
        return [replace(row, reference=part * scale, note=note)]

    return Line(f"pspc-square, window {side}", 8, measure)


def _local(images: ImageSet, clean: Tensor, device: torch.device) -> Row:
    denoiser, sigma, (_, height, width) = LocalScoreDenoiser(images), 0.5, images.image_shape
    row = _denoiser("local-score", denoiser, images, device, 64, sigma, "≤ 20 ms")
    noisy, few, side = (
        noisy_images(images, 64, sigma).to(device),
        clean[:REFERENCE_IMAGES],
        denoiser.schedule.side(sigma),
    )
    pixels = [(height // 2 + k, width // 2) for k in range(PLACES_MEASURED)]
    part = seconds(lambda: local_score(noisy, few, sigma, side, pixels), device, 1)
    scale = height * width / PLACES_MEASURED * len(clean) / len(few)
    note = f"window {side}; reference: {PLACES_MEASURED} pixels, {len(few):,} images, scaled; {row.note}"
    return replace(row, reference=part * scale, note=note)


def _flexible(images: ImageSet, device: torch.device, share: float) -> Row:
    denoiser, batch, sigma = FlexPatchDenoiser(images, shares=share), 16, 1.0
    row = _denoiser(f"pspc-flex, λ = {share:g}", denoiser, images, device, batch, sigma, "≤ 20 ms")
    masks = torch.from_numpy(denoiser.masks(sigma)).flatten(0, 1).to(device)
    few = torch.from_numpy(images.read(0, min(REFERENCE_IMAGES, images.stored))).to(device)
    noisy = noisy_images(images, batch, sigma).to(device)
    chosen = [k * len(masks) // PLACES_MEASURED for k in range(PLACES_MEASURED)]
    part = seconds(lambda: flex_reference(noisy, few, sigma, masks, chosen), device, 1)
    scale = len(masks) / PLACES_MEASURED * images.stored / len(few)
    sizes = f"masks of {float(masks.float().sum((1, 2)).mean()):.0f} pixels"
    note = f"{sizes}; reference: {PLACES_MEASURED} of {len(masks)} masks, {len(few):,} images, scaled; {row.note}"
    return replace(row, reference=part * scale, note=note)


def _correlated(denoiser: PcaLocalityDenoiser, images: ImageSet, device: torch.device, batch: int, wanted: str) -> Row:
    sigma = 0.5
    row = _denoiser("pca-locality", denoiser, images, device, batch, sigma, wanted)
    masks, few = torch.from_numpy(denoiser.masks(sigma)).to(device), min(REFERENCE_IMAGES, images.stored)
    pixels, noisy = torch.from_numpy(images.read(0, few)).to(device), noisy_images(images, batch, sigma).to(device)
    with tf32(True):
        part = seconds(lambda: pca_reference(noisy, pixels, sigma, masks), device, 1)
    density = float((masks > 0).float().mean())
    note = f"masks hold {density:.0%}; reference in TF32: {few:,} images, scaled; {row.note}"
    return replace(row, reference=part * images.stored / few, note=note)


def _equivariant(images: ImageSet, clean: Tensor, device: torch.device) -> Row:
    few, side = min(EQUIVARIANT_REFERENCE_IMAGES, images.stored), 5
    denoiser = EquivariantLocalScoreDenoiser(images, side)
    name = f"equivariant-local-score, window {side}, {images.stored:,} images"
    row = _denoiser(name, denoiser, images, device, 1, 0.5, "≥ 20×")
    noisy = noisy_images(images, 1, 0.5).to(device)
    part = seconds(lambda: equivariant_local_score(noisy, clean[:few], 0.5, side), device, 1)
    return replace(row, reference=part * images.stored / few, note=f"reference: {few} images, scaled; {row.note}")


def _denoiser(
    name: str, denoiser: Denoiser, images: ImageSet, device: torch.device, batch: int, sigma: float, wanted: str
) -> Row:
    noisy = noisy_images(images, batch, sigma).to(device)
    own, peak = _with_peak(lambda: seconds(lambda: denoiser(noisy, sigma), device, 3), device)
    return Row(f"{name}, batch {batch}, σ = {sigma:g}", own, wanted=wanted, note=peak.removeprefix("; "))


def _question(images: ImageSet, batch: int, sigma: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first images with noise, as the engine takes them."""
    noisy = noisy_images(images, batch, sigma).double() * LEVELS_PER_UNIT - 0.5
    spread = torch.full((batch,), sigma * LEVELS_PER_UNIT, dtype=torch.float64, device=device)
    return noisy.flatten(1).to(device), spread


def _with_peak(task: Callable[[], float], device: torch.device) -> tuple[float, str]:
    """What the task gives, and how much memory it took on a CUDA device above what was there, in words."""
    if device.type != "cuda":
        return task(), ""
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    found = task()
    return found, f"; {(torch.cuda.max_memory_allocated(device) - before) / 2**20:,.0f} MiB above the start"


def seconds(task: Callable[[], object], device: torch.device, runs: int = 7) -> float:
    """Least seconds of a task, the device's work included."""

    def finished() -> None:
        task()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return timed(finished, runs=runs)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Products of floats in TF32 or in full."""
    before, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def report(name: str, head: str, errors: list[device_errors.Error], rows: list[Row], left_out: list[str]) -> str:
    """The page, Markdown."""
    text = f"# {name}\n\n{head}\n\n{table('posterior engine and training on the device', rows)}\n"
    if left_out:
        text += "Left out:\n\n" + "".join(f"- {said}\n" for said in left_out) + "\n"
    return text + device_errors.table(errors)


@dataclass(frozen=True)
class Plan:
    """What is measured, and where.

    Attributes:
        images: the training set.
        device: where.
        seconds: that it may take.
        jobs: of what size the jobs are.
        limits: sizes with which the device's own limits are measured; see `Limits.measure`.
    """

    images: ImageSet
    device: torch.device
    seconds: float
    jobs: device_jobs.Sizes
    limits: dict[str, int] = field(default_factory=dict)


def keep() -> str:
    """Measure; the page, which is also written into ``results/``."""
    if not torch.cuda.is_available():
        return NO_DEVICE
    device = torch.device("cuda", torch.cuda.current_device())
    name = "device-" + re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")
    text, content = carried_out(Plan(fifty_thousand(), device, SECONDS, device_jobs.Sizes()), name)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    return text


def rehearse(seconds: float = 10 * SECONDS) -> str:
    """The page of a run through everything on the processor, of which no number means anything; it is kept nowhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (70, 3, 24, 24), dtype=np.uint8)
    small = {"model_channels": 16, "channel_mult": [1], "num_blocks": 1}
    jobs = device_jobs.Sizes("cpu", (3, 24, 24), 2, 1, small, small, len(pixels), "tiny")
    images, few = ImageSet(pixels, name="random images"), {"size": 64, "words": 2**10}
    text, content = carried_out(Plan(images, torch.device("cpu"), seconds, jobs, few), "device-rehearsal")
    json.dumps(content)
    return text


def carried_out(plan: Plan, name: str) -> tuple[str, dict[str, Any]]:
    """The page of that name, Markdown, and the same as values."""
    clock = Clock(plan.seconds)
    limits = Limits.measure(plan.device, **plan.limits)
    errors = device_errors.measure(plan.images.subset(range(min(ERROR_IMAGES, plan.images.stored))), plan.device)
    rows, left_out = measured(lines(plan.images, plan.device, limits), clock)
    more, also = measured(job_lines(plan.images, plan.jobs), clock)
    where = environment(plan.device)
    head = f"{device_name(plan.device)}, torch {where['torch']}; {limits}. Images: {plan.images.name}. The run took"
    head += f" {plan.seconds - clock.left:.0f} s."
    content = {
        "environment": where,
        "limits": asdict(limits),
        "errors": [asdict(each) for each in errors],
        "rows": [asdict(row) | {"share_of_limit": row.share_of_limit} for row in rows + more],
        "left_out": left_out + also,
    }
    return report(name, head, errors, rows + more, left_out + also), content


if __name__ == "__main__":
    print(keep())
