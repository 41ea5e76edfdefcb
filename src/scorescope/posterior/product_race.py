"""Which way of multiplying is the fastest on this processor, found by trying: a few milliseconds, once a process.

Nothing is concluded from the processor's name: one library has no kernel for what another processor of the same kind does
well. Results do not depend on the choice (`product_ways`), so it may fall differently from one run to the next.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from scorescope.posterior.product_ways import BYTE_BITS, BYTES, WAYS, WHOLE_BITS, Way

Kind = Literal["rows", "columns"]

# Terms, and rows or columns of bytes: a first problem that even a slow way does in milliseconds, and a telling one.
_FIRST, _SECOND = (512, 64), (2048, 1024)
# The same for few rows, where reading the bytes is what takes time.
_FIRST_FEW, _SECOND_FEW = (1024, 256), (1024, 4096)
FEW = 4
# A way that takes so many times as long as the best on the first problem is not tried on the second.
_HOPELESS = 4.0
_LEAD = 0.7
# Bytes this many times slower than floats, or faster, have instructions of their own.
_INSTRUCTIONS = 2.5
# Runs of each, fewer where they take long; the least time counts, as other programs can only add to it.
_RUNS, _LONG = 24, 10e-3


@dataclass(frozen=True)
class Race:
    """What was found for one shape of problem.

    Attributes:
        kind: whether integers are multiplied with the rows of bytes or with their columns.
        rows: how many rows of integers were tried.
        bits: of the integers.
        winner: the fastest way.
        seconds: what the ways took that came to the second problem, by name.
        float32: what one float32 product of that size took, which rounds.
    """

    kind: Kind
    rows: int
    bits: int
    winner: Way
    seconds: dict[str, float]
    float32: float

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {seconds / self.float32:.2g}" for name, seconds in self.seconds.items())
        return (
            f"{self.bits}-bit × {self.kind}, {self.rows} rows: {self.winner.name} (times a float32 product: {shares})"
        )


@functools.cache
def race(kind: Kind, few: bool, bits: int) -> Race:
    """Try the ways with few rows of integers or with many; once a process.

    Bytes are either about as fast as a float32 product on a small problem, and faster on large ones, or seventy times slower,
    without instructions for them. So the small problem decides, which other programs disturb least, and where bytes are
    fast no other way is tried, nor loaded.
    """
    rows, easy, telling = (1, _FIRST_FEW, _SECOND_FEW) if few else (64, _FIRST, _SECOND)
    if BYTES.exact():
        seconds, float32 = _seconds(kind, rows, bits, easy, [BYTES])
        if seconds[BYTES.name] <= _INSTRUCTIONS * float32:
            return Race(kind, rows, bits, BYTES, seconds, float32)
    exact = [way for way in WAYS if way.exact()]
    seconds, _ = _seconds(kind, rows, bits, easy, exact)
    best = min(seconds.values())
    left = [way for way in exact if seconds[way.name] <= _HOPELESS * best]
    seconds, float32 = _seconds(kind, rows, bits, telling, left)
    # The byte product needs no digits of our own and is the simplest: others must be clearly faster.
    winner = min(left, key=lambda way: seconds[way.name] * (_LEAD if way is BYTES else 1.0))
    return Race(kind, rows, bits, winner, seconds, float32)


def fastest_way(kind: Kind, rows: int, bits: int) -> Way:
    """The fastest exact way for so many rows of integers of so many bits, with bytes' rows or columns."""
    return race(kind, rows <= FEW, bits).winner


def races() -> list[Race]:
    """What is chosen on this processor for the products of the engine, for one image and for many, and for covariances."""
    kinds: tuple[Kind, Kind] = ("rows", "columns")
    whole = [race(kind, few, WHOLE_BITS) for few in (False, True) for kind in kinds]
    return [*whole, race("columns", False, BYTE_BITS)]


def _seconds(
    kind: Kind, rows: int, bits: int, size: tuple[int, int], ways: list[Way]
) -> tuple[dict[str, float], float]:
    """Least seconds of each way on one problem, and of a float32 product; all in turn, so that a disturbance hits all."""
    terms, others = size
    rng = np.random.default_rng(0)
    whole = rng.integers(-(1 << (bits - 2)), 1 << (bits - 2), (rows, terms)).astype(np.int32)
    matrix = np.resize(rng.integers(-128, 128, 4099).astype(np.int8), (others, terms) if kind == "rows" else size)
    floats, by = torch.from_numpy(whole).float(), torch.from_numpy(matrix).float()
    tasks: dict[str, Callable[[], Any]] = {"": (lambda: floats @ by.T) if kind == "rows" else (lambda: floats @ by)}
    for way in ways:
        digits = way.digits(whole, bits)
        tasks[way.name] = functools.partial(way.rows if kind == "rows" else way.columns, digits, matrix)
    least, spent = dict.fromkeys(tasks, np.inf), dict.fromkeys(tasks, 0.0)
    for turn in range(_RUNS + 1):
        for name, task in tasks.items():
            if spent[name] > _LONG:
                continue
            start = time.perf_counter()
            task()
            seconds = time.perf_counter() - start
            if turn:  # the first wakes threads and loads what was compiled
                least[name], spent[name] = min(least[name], seconds), spent[name] + seconds
        if turn > 2 and ways == [BYTES] and least[BYTES.name] < least[""] / 2:
            break
    return {way.name: least[way.name] for way in ways}, least[""]
