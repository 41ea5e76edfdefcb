"""Masks taken apart into rectangles, so that a sum over a mask costs little more than its outline.

A sum over a mask of pixels is a sum over the rectangles that it is made of. Tables hold, for every place, the sum over
the rectangle of 1×2, 1×4, 2×2, … 8×8 pixels that begins there; each table is two shifted copies of a smaller one added up,
and all masks share the tables. Sums over masks then take one addition a rectangle. Unlike with summed-area tables nothing
is ever subtracted, which at low noise would leave only rounding errors.

Spreading a weight over a mask is the same the other way round: add it once a rectangle, then hand every table's weights
down to the two halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from scorescope.posterior.vector import LANES

Bools = npt.NDArray[np.bool_]

# Kernels read so many rectangles at a time; lists are filled up with a place that holds nothing.
STRIDE = 4
# Rectangles (rows, columns), each after the half that it is made of. More tables find larger rectangles, but have to be made.
_SHAPES = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2), (2, 4), (1, 16), (4, 4), (4, 8), (8, 8))
_CHOICES = ((0,), (0, 1), (0, 1, 2), (0, 1, 4, 5), (0, 1, 2, 3), (0, 1, 2, 3, 4, 5, 6), tuple(range(len(_SHAPES))))
# The choice among them is made from so many of the masks.
_SAMPLE = 64
# Making an entry of a table takes about as long as adding so many rectangles.
_TABLE_COST = 1.5


class Plan(NamedTuple):
    """What the kernels need of some masks. Tables lie one after the other, each with all places; table 0 is the pixels.

    Attributes:
        places: of a table.
        doublings: table k + 1 is table a plus table a shifted, int64 (tables − 1, 2): a, shift in places.
        starts: where each mask's rectangles start, int64 (masks + 1,); multiples of `STRIDE`.
        pieces: 16 times the place of each rectangle, counted through all tables, int32.
    """

    places: int
    doublings: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    pieces: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Masks:
    """Some masks over the pixels of an image, or over its pixel-channels.

    Attributes:
        plan: what they are made of.
        shape: (planes, height, width): one plane if a pixel's channels belong together, else one a channel.
        covered: how many of the masks hold each place, int64 (planes·height·width,).
    """

    plan: Plan
    shape: tuple[int, int, int]
    covered: npt.NDArray[np.int64]

    @classmethod
    def of(cls, members: Bools) -> Masks:
        """Take masks apart.

        Args:
            members: bool (masks, planes, height, width), one plane for whole pixels.
        """
        members = np.ascontiguousarray(members)
        tables = _choose(members)
        counts = _cover(members, tables, np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
        starts = np.zeros(len(members) + 1, dtype=np.int64)
        np.cumsum(-(-counts // STRIDE) * STRIDE, out=starts[1:])
        places = members[0].size
        nothing = len(tables) * places * LANES
        pieces = np.full(starts[-1], nothing, dtype=np.int32)
        _cover(members, tables, pieces, starts)
        plan = Plan(places, _doublings(tables, members.shape[3]), starts, pieces)
        planes, height, width = members.shape[1:]
        covered = members.reshape(len(members), -1).sum(0, dtype=np.int64)
        return cls(plan, (planes, height, width), covered)

    @property
    def room(self) -> int:
        """How many float32 values the tables take, the place that holds nothing included."""
        return ((len(self.plan.doublings) + 1) * self.plan.places + 1) * LANES

    def __len__(self) -> int:
        return len(self.plan.starts) - 1


def _choose(members: Bools) -> npt.NDArray[np.int64]:
    """The rectangles, (tables, 2), with which sums over these masks are fastest."""
    some = np.ascontiguousarray(members[:: -(-len(members) // _SAMPLE)])
    best, least = _tables(_CHOICES[0]), np.inf
    for choice in _CHOICES:
        tables = _tables(choice)
        counts = _cover(some, tables, np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int64))
        cost = counts.mean() * len(members) + _TABLE_COST * (len(choice) - 1) * members[0].size
        if cost < least:
            best, least = tables, cost
    return best


def _tables(choice: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.array([_SHAPES[k] for k in choice], dtype=np.int64)


def _doublings(tables: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.int64]:
    shapes = [(int(rows), int(columns)) for rows, columns in tables]
    found = []
    for rows, columns in shapes[1:]:
        wide = columns > rows
        half = (rows, columns // 2) if wide else (rows // 2, columns)
        found.append((shapes.index(half), half[1] if wide else half[0] * width))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


@nb.njit(nogil=True, cache=True)
def _cover(members, tables, pieces, starts):  # type: ignore[no-untyped-def]
    """Cover each mask by rectangles, the largest first; each place once. Returns how many each takes, int64 (masks,).

    If `pieces` is not empty, they are written there, each mask's from its start on.
    """
    masks, planes, height, width = members.shape
    counts = np.zeros(masks, dtype=np.int64)
    left = np.empty((planes, height, width), dtype=np.bool_)
    for mask in range(masks):
        left[:] = members[mask]
        for table in np.argsort(-tables[:, 0] * tables[:, 1], kind="mergesort"):
            rows, columns = tables[table]
            for plane in range(planes):
                for top in range(height - rows + 1):
                    for first in range(width - columns + 1):
                        if not _fits(left[plane], top, first, rows, columns):
                            continue
                        left[plane, top : top + rows, first : first + columns] = False
                        if len(pieces):
                            place = table * planes * height * width + (plane * height + top) * width + first
                            pieces[starts[mask] + counts[mask]] = place * LANES
                        counts[mask] += 1
    return counts


@nb.njit(nogil=True, cache=True)
def _fits(left, top, first, rows, columns):  # type: ignore[no-untyped-def]
    for row in range(top, top + rows):
        for column in range(first, first + columns):
            if not left[row, column]:
                return False
    return True
