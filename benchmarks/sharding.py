"""``python -m benchmarks.sharding [1 2 …]``: how much faster several one-thread processes are than one.

Starts itself under torchrun with each number of processes, and writes ``results/sharding.md``. Every process has
one thread; what is timed includes the collectives. The processor time of the busiest process tells what the ratio
would be on a machine that does nothing else. The machine's limit is what the same processes reach that do the whole
work each, at the same time and without a word to one another: they still share caches and memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import data
from benchmarks.harness import RESULTS
from scorescope.denoisers import denoisers
from scorescope.foundation import launch
from scorescope.foundation.processes import from_all, working_alone
from scorescope.noise import add_noise, edm_sigmas
from scorescope.sampling import heun, last
from scorescope.study.environment import environment

RUNS = 5


def cases() -> dict[str, Callable[[], object]]:
    """What is timed: one call each, on 50,000 images of 3×32×32."""
    images = data.fifty_thousand()
    clean = images.tensor(np.arange(0, len(images), len(images) // 64)[:64])
    noisy = add_noise(clean, 0.5, torch.Generator().manual_seed(0))
    start = torch.randn((4, *images.image_shape), generator=torch.Generator().manual_seed(1))
    optimal, square = (denoisers[name].build(images) for name in ("optimal", "pspc-square"))
    return {
        "optimal, batch 64, σ = 0.5": lambda: optimal(noisy, 0.5),
        "optimal, batch 256, σ = 0.5": lambda: optimal(noisy.repeat(4, 1, 1, 1), 0.5),
        "pspc-square, batch 4, σ = 0.5": lambda: square(noisy[:4], 0.5),
        "pspc-square, batch 4, σ = 5": lambda: square(noisy[:4], 5.0),
        "pspc-square, 6 Heun steps, batch 4": lambda: last(heun(square, 80 * start, edm_sigmas(6, 0.002, 80.0))),
    }


@dataclass(frozen=True)
class Timing:
    """One case with one number of processes; the best of a few runs, in seconds.

    Attributes:
        elapsed: until the slowest process has the result.
        busy: processor time of the busiest process.
        apart: until the slowest process has the result if each does the whole work.
    """

    elapsed: float
    busy: float
    apart: float


def measure(target: Path) -> None:
    """Be one process of a job: time all cases together with the others."""
    torch.set_num_threads(1)
    launch.join()
    found: dict[str, Timing] = {}
    for name, task in cases().items():
        together = [timed(task) for _ in range(RUNS + 1)][1:]
        apart = [timed(task, alone=True) for _ in range(RUNS)]
        found[name] = Timing(*map(min, zip(*together, strict=True)), min(apart)[0])
    if not launch.is_silent():
        target.write_text(json.dumps({name: asdict(timing) for name, timing in found.items()}), encoding="utf-8")
    launch.leave(0)


def timed(task: Callable[[], object], alone: bool = False) -> tuple[float, float]:
    """Longest time and longest processor time of any process, all starting together."""
    from_all(None)
    started, before = time.perf_counter(), time.process_time()
    with working_alone() if alone else contextlib.nullcontext():
        task()
    own = time.perf_counter() - started, time.process_time() - before
    elapsed, busy = zip(*from_all(own), strict=True)
    return max(elapsed), max(busy)


def launched(processes: int) -> dict[str, Timing]:
    """Time all cases with so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "found.json"
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        words = [sys.executable, *launcher, "-m", "benchmarks.sharding", str(target)]
        subprocess.run(words, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return {name: Timing(**timing) for name, timing in json.loads(target.read_text(encoding="utf-8")).items()}


def table(found: dict[int, dict[str, Timing]]) -> str:
    """All cases and numbers of processes as a Markdown table, with ratios to the first number."""
    where = environment()
    lines = [
        "# sharding",
        "",
        f"{where['processor']}, {where['cores']} cores, torch {where['torch']}; one thread a process.",
    ]
    lines += ["Load of the machine at the end: " + ", ".join(f"{load:.1f}" for load in os.getloadavg()) + ".", ""]
    lines += ["| case | processes | time | ratio | processor time of the busiest | ratio | machine's limit |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    least = next(iter(found))
    for name, one in found[least].items():
        for processes, timings in found.items():
            now = timings[name]
            limit = processes / least * one.elapsed / now.apart
            lines.append(
                f"| {name} | {processes} | {now.elapsed:.3f} s | {one.elapsed / now.elapsed:.2f}× | {now.busy:.3f} s |"
                f" {one.busy / now.busy:.2f}× | {limit:.2f}× |"
            )
    return "\n".join(lines) + "\n"


def keep(counts: Sequence[int] = (1, 2)) -> str:
    """Time jobs of so many processes; the table, which is also written into ``results/``."""
    data.fifty_thousand()  # made before processes could race for it
    lines = table({count: launched(count) for count in counts})
    (RESULTS / "sharding.md").write_text(lines, encoding="utf-8")
    return lines


if __name__ == "__main__":
    if len(sys.argv) == 2 and not sys.argv[1].isdigit():
        measure(Path(sys.argv[1]))  # one process of a job
    print(keep([int(word) for word in sys.argv[1:]] or (1, 2)))
