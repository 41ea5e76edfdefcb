"""Exact nearest neighbours with counts: one pass over a set that stays where it is, in blocks of matrix products.

Vectors have unit length, so the similarity of two is their product. Besides the nearest vectors of the set a search tells how
many are more similar than a number that the query brings along: with that count, the chance that a random part of the set
holds none of them is known without drawing a part (`leakage.share_nearer`). Memory is that of the queries and of one block
of the set. Every pair is looked at: nothing is approximated, whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
import torch

from scorescope.data.images import ImageSet, to_float
from scorescope.foundation import track
from scorescope.probes.features import FeatureSpace, PixelFeatures

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
AT_ONCE, QUERIES = 4096, 2048
FEATURES_AT_ONCE = 256
WORTH_THREADS = 1 << 18
FLAT = 1e-3
"""Standard deviation of an image's values, in units of [-1, 1], up to which it counts as constant."""
TIE = 2e-6
"""Similarities that differ by less are equal: products of the same vectors in other blocks are rounded otherwise."""


@dataclass(frozen=True)
class Found:
    """What a search found for n queries.

    Attributes:
        similarity: of the k nearest, decreasing, float32 (n, k); −2 where the set has fewer than k.
        index: their places in the set, int64 (n, k); −1 where there is none.
        above: how many of the set are more similar than the query's own threshold, int64 (n,).
        equal: how many are as similar as the threshold, up to `TIE`, int64 (n,).
    """

    similarity: Vectors
    index: npt.NDArray[np.int64]
    above: npt.NDArray[np.int64]
    equal: npt.NDArray[np.int64]


def directions(vectors: npt.ArrayLike, smallest: float = 1e-6) -> Vectors:
    """Vectors scaled to length one, with one more entry that is 1 for those of no length: float32 (n, F) -> (n, F + 1).

    A constant image has no direction. By the additional entry it is the image of other constant images, and of nothing else.
    """
    rows = np.asarray(vectors, dtype=np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    none = length <= smallest
    return np.hstack([np.where(none, 0, rows / np.where(none, 1, length)), none]).astype(np.float32)


class Directions:
    """Images as unit vectors of a feature space, a batch at a time.

    Args:
        space: the feature space.
        device: where its vectors are computed.
    """

    def __init__(self, space: FeatureSpace | None = None, device: torch.device | str = "cpu") -> None:
        self.space = (space or PixelFeatures()).to(device)
        self.device = device

    @property
    def name(self) -> str:
        """What tables call the space."""
        return self.space.name

    def of(self, images: torch.Tensor) -> Vectors:
        """Unit vectors of images, (n, C, H, W) in [-1, 1] -> (n, F + 1)."""
        parts = []
        with torch.no_grad():
            for batch in torch.split(images, FEATURES_AT_ONCE):
                parts.append(self.space(batch.to(self.device)).float().cpu().numpy())
        vectors = np.concatenate(parts)
        pixels = isinstance(self.space, PixelFeatures)
        return directions(vectors, FLAT * np.sqrt(vectors.shape[1]) if pixels else 1e-6)

    def blocks(self, images: ImageSet) -> Iterator[tuple[int, Vectors]]:
        """All entries of a set in order as (place of the first, unit vectors)."""
        for start, pixels in images.chunks(AT_ONCE):
            yield start, self.of(to_float(pixels))

    def all_of(self, images: ImageSet) -> Vectors:
        """Unit vectors of a whole set."""
        return np.concatenate([vectors for _, vectors in self.blocks(images)])


def blocks_of(vectors: Vectors) -> Iterator[tuple[int, Vectors]]:
    """Vectors in memory as a search reads them."""
    for start in range(0, len(vectors), AT_ONCE):
        yield start, vectors[start : start + AT_ONCE]


def search(
    queries: Vectors,
    blocks: Iterator[tuple[int, Vectors]],
    *,
    k: int = 1,
    threshold: npt.ArrayLike | None = None,
    own: npt.ArrayLike | None = None,
    words: str = "",
    total: int | None = None,
) -> Found:
    """The k nearest vectors of a set to each query, and how many are nearer than a threshold.

    Args:
        queries: unit vectors, float32 (n, F).
        blocks: the set, as `blocks_of` or `Directions.blocks` gives it.
        k: how many of the nearest.
        threshold: (n,) similarities; none are counted without.
        own: for queries that are themselves in the set, a group of places that a query passes over: int (n, g), −1 for none.
        words: what a progress bar says; none is shown without.
        total: number of blocks, for the progress bar.
    """
    count = len(queries)
    similarity = np.full((count, k), -2, np.float32)
    index = np.full((count, k), -1, np.int64)
    above, equal = np.zeros(count, np.int64), np.zeros(count, np.int64)
    bar = np.full(count, 3, np.float32) if threshold is None else np.asarray(threshold, np.float32)
    passed = np.full((count, 0), -1, np.int64) if own is None else np.asarray(own, np.int64).reshape(count, -1)
    held = torch.from_numpy(np.ascontiguousarray(queries))
    for start, vectors in track(blocks, words, total) if words else blocks:
        theirs = torch.from_numpy(np.ascontiguousarray(vectors))
        for first in range(0, count, QUERIES):
            rows = slice(first, min(first + QUERIES, count))
            products = (held[rows] @ theirs.T).numpy()
            keep = _keep_in_threads if products.size > WORTH_THREADS else _keep
            keep(products, start, passed[rows], bar[rows], similarity[rows], index[rows], above[rows], equal[rows])
    return Found(similarity, index, above, equal)


def block_count(images: ImageSet) -> int:
    """How many blocks `Directions.blocks` gives."""
    return -(-len(images) // AT_ONCE)


def gathered(groups: Sequence[Sequence[int]], count: int) -> npt.NDArray[np.int64]:
    """For each of `count` images the group that it is in, as `search` takes ``own``: int64 (count, largest group).

    An image that no group names is a group of its own.
    """
    largest = max((len(group) for group in groups), default=1)
    own = np.full((count, largest), -1, np.int64)
    own[:, 0] = np.arange(count)
    for group in groups:
        for member in group:
            own[member, : len(group)] = group
    return own


# The loop below is bound by reading the products: an entry that is no news costs two comparisons.
def _kept(products, start, passed, bar, similarity, index, above, equal):  # type: ignore[no-untyped-def]
    rows, columns = products.shape
    k = similarity.shape[1]
    for row in numba.prange(rows):
        weakest = similarity[row, k - 1]
        limit = bar[row]
        more, same = 0, 0
        for column in range(columns):
            value = products[row, column]
            if value <= weakest and value < limit - TIE:
                continue
            place = start + column
            mine = False
            for other in passed[row]:
                mine |= other == place
            if mine:
                continue
            more += value > limit + TIE
            same += abs(value - limit) <= TIE
            if value > weakest:
                slot = k - 1
                while slot > 0 and similarity[row, slot - 1] < value:
                    similarity[row, slot] = similarity[row, slot - 1]
                    index[row, slot] = index[row, slot - 1]
                    slot -= 1
                similarity[row, slot] = value
                index[row, slot] = place
                weakest = similarity[row, k - 1]
        above[row] += more
        equal[row] += same


_keep: Callable[..., None] = numba.njit(cache=True, nogil=True)(_kept)
_keep_in_threads: Callable[..., None] = numba.njit(cache=True, nogil=True, parallel=True)(_kept)
