"""Rows of a benchmark table: how long, against what reference, against which limit of the machine."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from scorescope.study.environment import environment

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        case: what was measured.
        seconds: how long it took, the least of the runs.
        reference: seconds of the plain reference, if there is one.
        limit: seconds that the machine's own limit would allow, if there is one.
        wanted: what was asked for, in words.
        note: what the reader must know, such as which part of the reference was measured.
    """

    case: str
    seconds: float
    reference: float | None = None
    limit: float | None = None
    wanted: str = ""
    note: str = ""

    @property
    def times_faster(self) -> float | None:
        """Reference over ours."""
        return None if self.reference is None else self.reference / self.seconds

    @property
    def share_of_limit(self) -> float | None:
        """Limit over ours: 1 is as fast as the machine; above 1 where less work is done than the limit counts."""
        return None if self.limit is None else self.limit / self.seconds


def timed(task: Callable[[], object], *, runs: int = 3, warm_up: bool = True) -> float:
    """Least seconds of a few runs, after one that is not counted: what other programs add is left out."""
    if warm_up:
        task()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def raced(task: Callable[[], object], reference: Callable[[], object], *, runs: int = 5) -> tuple[float, float]:
    """Least seconds of two tasks that take turns, so that what disturbs one disturbs the other."""
    task(), reference()
    turns = [(timed(task, runs=1, warm_up=False), timed(reference, runs=1, warm_up=False)) for _ in range(runs)]
    return min(own for own, _ in turns), min(other for _, other in turns)


@dataclass(frozen=True)
class Machine:
    """What the machine can do, as measured now.

    Attributes:
        flops: float32 operations a second in a large matrix product, all threads.
        bytes_read: bytes a second when summing a large array in memory, all threads.
    """

    flops: float
    bytes_read: float

    @classmethod
    def measure(cls) -> Machine:
        """With PyTorch's threads."""
        size = 3072
        a, b = torch.randn(size, size), torch.randn(size, size)
        product = timed(lambda: a @ b)
        array = torch.ones(2**28, dtype=torch.uint8).view(torch.int64)
        reading = timed(lambda: array.sum())
        return cls(2 * size**3 / product, array.numel() * 8 / reading)


def table(title: str, rows: Iterable[Row]) -> str:
    """Rows as a Markdown table."""
    lines = [f"### {title}", "", "| case | time | plain reference | ratio | share of limit | wanted | note |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | --- | --- |")
    for row in rows:
        ratio = "" if row.times_faster is None else f"{row.times_faster:.{1 if row.times_faster >= 3 else 2}f}×"
        share = "" if row.share_of_limit is None else f"{row.share_of_limit:.0%}"
        reference = "" if row.reference is None else _time(row.reference)
        lines.append(
            f"| {row.case} | {_time(row.seconds)} | {reference} | {ratio} | {share} | {row.wanted} | {row.note} |"
        )
    return "\n".join(lines) + "\n"


def save(name: str, machine: Machine, tables: dict[str, list[Row]], notes: Iterable[str] = ()) -> None:
    """Write results/NAME.json and results/NAME.md, the notes, one a line, above the tables."""
    RESULTS.mkdir(exist_ok=True)
    where = environment()
    rows = {
        title: [asdict(row) | {"times_faster": row.times_faster, "share_of_limit": row.share_of_limit} for row in found]
        for title, found in tables.items()
    }
    busy = os.getloadavg()[0]
    notes = [f"{busy:.0f} processes wanted the processor when this ended: only ratios count"] * (busy > 4) + list(notes)
    content = {"environment": where, "machine": asdict(machine), "notes": notes, "tables": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    head = f"# {name}\n\n{where['processor']}, {where['threads used by torch']} threads, torch {where['torch']}, "
    head += f"{platform.system()}; float32 matrix products at {machine.flops / 1e9:.0f} Gflop/s, "
    head += f"memory read at {machine.bytes_read / 1e9:.1f} GB/s.\n\n"
    head += "".join(f"- {note}\n" for note in notes) + ("\n" if notes else "")
    (RESULTS / f"{name}.md").write_text(head + "\n".join(table(*item) for item in tables.items()), encoding="utf-8")


def _time(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1e3:.2g} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.0f} s"
