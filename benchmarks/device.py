"""``python -m benchmarks.device``: the posterior engine on a CUDA device, on 50,000 colour images of 32×32.

Every line is measured beside the device's own limits in the same run: how fast it multiplies float32 matrices, reads its
memory, and copies from page-locked memory. Results go to ``benchmarks/results/device-NAME``. Without a device it says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import fifty_thousand
from benchmarks.harness import RESULTS, Row, table, timed
from scorescope.data import ImageSet
from scorescope.posterior.device import DeviceEngine
from scorescope.posterior.units import LEVELS_PER_UNIT
from scorescope.posterior.windows import Window
from scorescope.study.environment import device_name, environment

SIDES = (3, 7, 15, 23)
BATCH = 4


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
    resident = DeviceEngine(images, device)
    for batch in (1, 64):
        for sigma in (0.5, 80.0):
            yield _whole_image("resident", resident, batch, sigma, limits)
    streamed = DeviceEngine(images, device, resident_bytes=0)
    yield _whole_image("streamed", streamed, 64, 0.5, limits)
    pairs = BATCH * len(images)
    for sigma in (0.1, 1.0):
        for side in SIDES:
            question = _question(images, BATCH, sigma, device)
            windows = [Window.inside(side, *images.image_shape[1:])] * BATCH
            seconds = _seconds(lambda: resident.windows.mean(*question, windows), device)  # noqa: B023 - called at once
            # Two passes, in each of which a float32 for each pixel of a pair is written and read at least once.
            limit = 2 * 2 * 4 * pairs * np.prod(images.image_shape[1:]) / limits.bytes_read
            case = f"pspc-square, window {side}, batch {BATCH}, σ = {sigma:g}"
            yield Row(case, seconds, limit=float(limit), note="limit: two floats a pixel and pair, twice")


def _whole_image(kind: str, engine: DeviceEngine, batch: int, sigma: float, limits: Limits) -> Row:
    images, device = engine.store.images, engine.store.device
    question, size = _question(images, batch, sigma, device), len(images) * engine.whole_image.dimension
    seconds = _seconds(lambda: engine.whole_image.mean(*question), device)
    if kind == "streamed":
        limit, note = size / limits.bytes_copied, "limit: copying the bytes once"
    elif batch == 1:
        limit, note = size / limits.bytes_read, "limit: reading the bytes once"
    else:
        limit, note = 4 * batch * size / limits.flops, "limit: 4·B·N·d operations as float32 products"
    return Row(f"optimal, {kind}, batch {batch}, σ = {sigma:g}", seconds, limit=limit, note=note)


def _question(images: ImageSet, batch: int, sigma: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first images with noise, as the engine takes them."""
    noise = torch.randn(batch, *images.image_shape, generator=torch.Generator().manual_seed(0))
    noisy = (images.tensor(range(batch)) + sigma * noise).double() * LEVELS_PER_UNIT - 0.5
    return noisy.flatten(1).to(device), torch.full(
        (batch,), sigma * LEVELS_PER_UNIT, dtype=torch.float64, device=device
    )


def _seconds(task: Callable[[], object], device: torch.device) -> float:
    """Least seconds of a task, the device's work included."""

    def finished() -> None:
        task()
        torch.cuda.synchronize(device)

    return timed(finished, runs=7)


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
