"""Anonymous memory of the engine: it must not grow with the training set or the batch.

``RssAnon`` of ``/proc/self/status`` leaves out pages of the mapped store, which the kernel can drop at any time. Every case
runs in a process of its own; the level after imports is subtracted.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.data import fifty_thousand, one_million
from benchmarks.harness import RESULTS
from scorescope.denoisers import OptimalDenoiser, SquarePatchDenoiser

WANTED = 500
CASES = [
    ("optimal", "50k", 1),
    ("optimal", "50k", 64),
    ("optimal", "50k", 4096),
    ("optimal", "1M", 64),
    ("pspc-square", "50k", 4),
    ("pspc-square", "50k", 64),
    ("pspc-square", "1M", 4),
]


@dataclass(frozen=True)
class MemoryRow:
    """One line: what ran, most anonymous memory above the start in MB, seconds a million pairs of images."""

    case: str
    megabytes: float
    seconds: float
    per_million: float


def rows() -> Iterator[MemoryRow]:
    """Every case in a process of its own."""
    for name, size, batch in CASES:
        call = [sys.executable, "-m", "benchmarks.memory", name, size, str(batch)]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        megabytes, seconds, pairs = (float(word) for word in done.stdout.split()[-3:])
        yield MemoryRow(f"{name}, {size} images, batch {batch}", megabytes, seconds, seconds / pairs * 1e6)


def table(found: list[MemoryRow]) -> str:
    """As Markdown."""
    lines = [
        "### Memory",
        "",
        f"| case | most RssAnon above the start (wanted ≤ {WANTED} MB) | time | a million pairs |",
    ]
    lines.append("| --- | ---: | ---: | ---: |")
    for row in found:
        lines.append(f"| {row.case} | {row.megabytes:.0f} MB | {row.seconds:.2f} s | {row.per_million:.2f} s |")
    return "\n".join(lines) + "\n"


def keep() -> str:
    """Measure; the table, which is also written into ``results/``."""
    lines = table(list(rows()))
    (RESULTS / "memory.md").write_text(lines, encoding="utf-8")
    return lines


def anonymous_megabytes() -> float:
    """RssAnon now."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))


@contextlib.contextmanager
def watched() -> Iterator[list[float]]:
    """The most memory above the start while the block runs: one number, in megabytes, read every 2 ms."""
    start, found, running = anonymous_megabytes(), [0.0], threading.Event()

    def watch() -> None:
        while not running.wait(0.002):
            found[0] = max(found[0], anonymous_megabytes() - start)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        running.set()
        watcher.join()


def _measure(name: str, size: str, batch: int) -> None:
    images = fifty_thousand() if size == "50k" else one_million()
    with watched() as peak:
        denoiser = OptimalDenoiser(images) if name == "optimal" else SquarePatchDenoiser(images, 7)
        noisy = torch.randn(batch, *images.image_shape, generator=torch.Generator().manual_seed(0))
        denoiser(noisy, 1.0)
        began = time.perf_counter()
        denoiser(noisy, 1.0)
        seconds = time.perf_counter() - began
    print(peak[0], seconds, batch * len(images))


if __name__ == "__main__":
    _measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))
