"""``python -m benchmarks.device``: the posterior engine on a CUDA device, on 50,000 colour images of 32×32.

Every line is measured beside the device's own limits in the same run: how fast it multiplies float32 matrices, reads its
memory, and copies from page-locked memory; and beside plain PyTorch where a line has a reference. Results go to
``benchmarks/results/device-NAME``. Without a device it says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from benchmarks.data import fifty_thousand
from benchmarks.harness import RESULTS, Row, table, timed
from benchmarks.posterior import noisy_images
from benchmarks.references.equivariant import equivariant_local_score
from benchmarks.references.whole_image import optimal
from benchmarks.references.windows import square_patches
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

SIDES = {3: "≤ 8 ms", 7: "≤ 25 ms", 11: "≤ 45 ms", 15: "≤ 60 ms", 23: "≤ 45 ms"}
SHARES = {0.3: "≤ 20 ms", 0.5: "≤ 20 ms", 0.7: "≤ 20 ms"}
CORNERS_MEASURED = 3
EQUIVARIANT_IMAGES, EQUIVARIANT_REFERENCE_IMAGES = 1_000, 40


@dataclass(frozen=True)
class Limits:
    """What the device can do, as measured now.

    Attributes:
        flops: float32 operations a second in a large matrix product, as `torch.backends` has it.
        byte_operations: operations a second in a large product of bytes, None where PyTorch has none on the device.
        bytes_read: bytes a second when summing a large array in the device's memory.
        bytes_copied: bytes a second from page-locked memory to the device.
    """

    flops: float
    byte_operations: float | None
    bytes_read: float
    bytes_copied: float

    @classmethod
    def measure(cls, device: torch.device) -> Limits:
        """On that device, with large operands."""
        size = 8192
        a, b = torch.randn(2, size, size, device=device)
        flops = 2 * size**3 / _seconds(lambda: a @ b, device)
        bytes_a, bytes_b = (each.mul(20).to(torch.int8) for each in (a, b))
        try:
            byte_operations = 2 * size**3 / _seconds(lambda: torch._int_mm(bytes_a, bytes_b.T), device)
        except RuntimeError:
            byte_operations = None
        array = torch.ones(2**28, dtype=torch.int64, device=device)
        reading = array.nbytes / _seconds(lambda: array.sum(), device)
        staged = torch.ones(2**28, dtype=torch.uint8, pin_memory=True)
        return cls(flops, byte_operations, reading, len(staged) / _seconds(lambda: staged.to(device), device))

    def __str__(self) -> str:
        products = "no byte products"
        if self.byte_operations is not None:
            products = f"byte products at {self.byte_operations / 1e12:.0f} T/s"
        return (
            f"float32 products at {self.flops / 1e12:.1f} Tflop/s, {products}, memory read at "
            f"{self.bytes_read / 1e9:,.0f} GB/s, copies to the device at {self.bytes_copied / 1e9:.1f} GB/s"
        )


def rows(images: ImageSet, device: torch.device, limits: Limits) -> Iterator[Row]:
    """All lines of the table."""
    clean = images.tensor().to(device)
    resident = DeviceEngine(images, device)
    for batch in (64, 1):
        for sigma in (0.5, 80.0):
            yield _whole_image("resident", resident, clean, batch, sigma, limits)
    streamed = DeviceEngine(images, device, resident_bytes=0)
    yield _whole_image("streamed", streamed, clean, 64, 0.5, limits)
    yield from _windows(images, clean, device)
    for share, wanted in SHARES.items():
        flexible = FlexPatchDenoiser(images, shares=share)
        yield _denoiser(f"pspc-flex, λ = {share:g}", flexible, images, device, 16, 1.0, wanted)
    yield _denoiser("local-score", LocalScoreDenoiser(images), images, device, 64, 0.5, "≤ 20 ms")
    correlated = PcaLocalityDenoiser(images)
    for batch, wanted in ((1, "≤ 6 ms"), (16, "≤ 60 ms")):
        yield _denoiser("pca-locality", correlated, images, device, batch, 0.5, wanted)
    yield _equivariant(images.subset(range(EQUIVARIANT_IMAGES)), clean, device)


def _windows(images: ImageSet, clean: Tensor, device: torch.device) -> Iterator[Row]:
    for side, wanted in SIDES.items():
        row = _denoiser(
            f"pspc-square, window {side}", SquarePatchDenoiser(images, side), images, device, 64, 0.5, wanted
        )
        noisy, grid = _noisy(images, 64, 0.5, device), 33 - side
        corners = [(7 * k % grid, 5 * k % grid) for k in range(CORNERS_MEASURED)]
        part = _seconds(lambda: square_patches(noisy, clean, 0.5, side, corners), device, runs=1)  # noqa: B023
        note = f"reference: {CORNERS_MEASURED} of {grid**2} windows, scaled"
        yield replace(row, reference=part / CORNERS_MEASURED * grid**2, note=note)


def _denoiser(
    name: str, denoiser: Denoiser, images: ImageSet, device: torch.device, batch: int, sigma: float, wanted: str
) -> Row:
    noisy = _noisy(images, batch, sigma, device)
    seconds = _seconds(lambda: denoiser(noisy, sigma), device, runs=3)
    return Row(f"{name}, batch {batch}, σ = {sigma:g}", seconds, wanted=wanted)


def _equivariant(images: ImageSet, clean: Tensor, device: torch.device) -> Row:
    few, denoiser = EQUIVARIANT_REFERENCE_IMAGES, EquivariantLocalScoreDenoiser(images, 5)
    row = _denoiser(
        f"equivariant-local-score, window 5, {len(images):,} images", denoiser, images, device, 1, 0.5, "≥ 20×"
    )
    noisy = _noisy(images, 1, 0.5, device)
    part = _seconds(lambda: equivariant_local_score(noisy, clean[:few], 0.5, 5), device, runs=1)
    return replace(row, reference=part * len(images) / few, note=f"reference: {few} images, scaled")


def _whole_image(kind: str, engine: DeviceEngine, clean: Tensor, batch: int, sigma: float, limits: Limits) -> Row:
    images, device = engine.store.images, engine.store.device
    question, size = _question(images, batch, sigma, device), len(images) * engine.whole_image.dimension
    seconds = _seconds(lambda: engine.whole_image.mean(*question), device)
    noisy, flat = _noisy(images, batch, sigma, device).flatten(1), clean.flatten(1)
    allowed, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, True
    try:
        reference = _seconds(lambda: optimal(noisy, flat, sigma), device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    wanted = "≤ 0.7 ms, ≥ 1×" if batch > 1 else "≤ 0.4 ms, ≥ 1×"
    if kind == "streamed":
        limit, note, wanted = size / limits.bytes_copied, "limit: copying the bytes once", "≥ 50 %"
    elif batch == 1:
        limit, note = size / limits.bytes_read, "limit: reading the bytes once"
    else:
        limit, note = 4 * batch * size / limits.flops, "limit: 4·B·N·d operations as float32 products"
    return Row(
        f"optimal, {kind}, batch {batch}, σ = {sigma:g}",
        seconds,
        reference,
        limit,
        wanted,
        f"{note}; reference in TF32",
    )


def _noisy(images: ImageSet, batch: int, sigma: float, device: torch.device) -> Tensor:
    return noisy_images(images, batch, sigma).to(device)


def _question(images: ImageSet, batch: int, sigma: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first images with noise, as the engine takes them."""
    noisy = noisy_images(images, batch, sigma).double() * LEVELS_PER_UNIT - 0.5
    return noisy.flatten(1).to(device), torch.full(
        (batch,), sigma * LEVELS_PER_UNIT, dtype=torch.float64, device=device
    )


def _seconds(task: Callable[[], object], device: torch.device, runs: int = 7) -> float:
    """Least seconds of a task, the device's work included."""

    def finished() -> None:
        task()
        torch.cuda.synchronize(device)

    return timed(finished, runs=runs)


def keep() -> str:
    """Measure; the table, which is also written into ``results/``."""
    if not torch.cuda.is_available():
        return "no CUDA device is present: nothing was measured"
    device = torch.device("cuda", torch.cuda.current_device())
    limits, images = Limits.measure(device), fifty_thousand()
    torch.cuda.reset_peak_memory_stats(device)
    found = list(rows(images, device, limits))
    peak = torch.cuda.max_memory_allocated(device)
    name = "device-" + re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(device).lower()).strip("-")
    where = environment(device)
    head = f"{device_name(device)}, torch {where['torch']}; {limits}. Images: {images.name}. "
    head += f"Most memory taken on the device: {peak / 2**30:.2f} GiB."
    text = f"# {name}\n\n{head}\n\n{table('posterior engine on the device', found)}"
    lines = [asdict(row) | {"share_of_limit": row.share_of_limit} for row in found]
    content = {"environment": where, "limits": asdict(limits), "most_device_memory": peak, "rows": lines}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    return text


if __name__ == "__main__":
    print(keep())
