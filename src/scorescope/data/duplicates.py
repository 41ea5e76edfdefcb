"""Images that are there more than once: byte for byte, or nearly, mirrored too; within a set, and between two.

*Equal* images have the same bytes. *Near* ones have a similarity (the cosine of the images less their own means, so neither
brightness nor contrast counts) of at least a stated number: 0.995 is what a JPEG of usual quality keeps, and what few images
reach by chance.

No pair is missed. Two unit vectors of similarity s lie ``√(2 − 2s)`` apart, and no farther in any orthonormal projection: so
images are compared in their 8×8 lowest cosine waves first, cut into slabs along the widest direction of these and sorted along
the next, and only pairs that are near enough there are compared pixel by pixel. Memory is 64 numbers an image and a block of
pairs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.data.images import ImageSet, Pixels
from scorescope.foundation import UserError, track

SIMILARITY = 0.995
WAVES = 8
BLOCK, TILE = 2048, 512
"""Images that are read, and whose waves are compared with those of as many, at a time: a tile stays in a core's cache."""
FLAT = 0.13
"""Standard deviation in grey levels of 255 up to which an image counts as constant."""

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that are alike; the first is of one set, the second of another or of the same.

    Attributes:
        first: int64 (n,).
        second: int64 (n,).
        similarity: float32 (n,).
        mirrored: whether the second is like the mirror image of the first, bool (n,).
        equal: whether they are the same byte for byte (mirrored, if so), bool (n,).
    """

    first: Indices
    second: Indices
    similarity: Floats
    mirrored: npt.NDArray[np.bool_]
    equal: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)

    def swapped(self) -> Pairs:
        """The same pairs, the second image of each first."""
        return dataclasses.replace(self, first=self.second, second=self.first)


@dataclass(frozen=True)
class Duplicates:
    """What there is more than once in a set.

    Attributes:
        equal: groups of images that are the same byte for byte, each in ascending order.
        near: groups of images that are alike at `similarity`, equal ones among them.
        pairs: the pairs of different images that are alike, at least one for every image of a group.
        similarity: from which two count as near.
        mirrored: whether mirror images count.
    """

    equal: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    pairs: Pairs
    similarity: float
    mirrored: bool

    @property
    def superfluous(self) -> Indices:
        """All images of a group but its first, ascending."""
        return np.array(sorted(member for group in self.near for member in group[1:]), dtype=np.int64)

    @property
    def equal_superfluous(self) -> Indices:
        """All images but the first of every group of equal ones, ascending."""
        return np.array(sorted(member for group in self.equal for member in group[1:]), dtype=np.int64)


def find_duplicates(images: ImageSet, similarity: float = SIMILARITY, *, mirrored: bool = False) -> Duplicates:
    """Equal and near images within a set; its flips are not looked at, `mirrored` says whether mirror images count.

    Raises UserError for a similarity outside of (0, 1).
    """
    _check(similarity)
    equal = _equal_groups(images, mirrored)
    # Of equal images one is searched for; the others follow it.
    superfluous = {member for group in equal for member in group[1:]}
    kept = np.array([place for place in range(images.stored) if place not in superfluous], dtype=np.int64)
    pairs = _near_pairs(images, kept, None, kept, similarity, mirrored)
    near = _joined([*equal, *zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)])
    return Duplicates(equal, near, pairs, similarity, mirrored)


def find_common(images: ImageSet, others: ImageSet, similarity: float = SIMILARITY, *, mirrored: bool = False) -> Pairs:
    """Pairs of an image of one set and one of another that are equal or near.

    Raises UserError for a similarity outside of (0, 1), or sets of images of different shapes.
    """
    _check(similarity)
    if images.image_shape != others.image_shape:
        raise UserError(
            f"{images.name} holds images of shape {images.image_shape} and {others.name} of {others.image_shape}:"
            " import both with the same --size and --grey or --color"
        )
    all_first, all_second = np.arange(images.stored), np.arange(others.stored)
    return _near_pairs(images, all_first, others, all_second, similarity, mirrored)


class AlikeImages:
    """What `find_duplicates` and `find_common` find, each search made once however often it is asked for.

    Args:
        similarity: from which two count as near.
        mirrored: whether mirror images count.
    """

    def __init__(self, similarity: float = SIMILARITY, *, mirrored: bool = False) -> None:
        self.similarity = similarity
        self.mirrored = mirrored
        # The sets are kept with what was found: the number of one that is gone could be given to another.
        self._within: dict[int, tuple[ImageSet, Duplicates]] = {}
        self._between: dict[tuple[int, int], tuple[ImageSet, ImageSet, Pairs]] = {}

    def within(self, images: ImageSet) -> Duplicates:
        """See `find_duplicates`."""
        key = id(images)
        if key not in self._within:
            self._within[key] = images, find_duplicates(images, self.similarity, mirrored=self.mirrored)
        return self._within[key][1]

    def between(self, images: ImageSet, others: ImageSet) -> Pairs:
        """See `find_common`."""
        key = id(images), id(others)
        if key[::-1] in self._between:
            return self._between[key[::-1]][2].swapped()
        if key not in self._between:
            found = find_common(images, others, self.similarity, mirrored=self.mirrored)
            self._between[key] = images, others, found
        return self._between[key][2]


def digest(pixels: Pixels) -> bytes:
    """Sixteen bytes that two images share if, and practically only if, they are the same byte for byte."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()


def _check(similarity: float) -> None:
    if not 0 < similarity < 1:
        raise UserError(f"a similarity from which images are near lies between 0 and 1, found {similarity:g}")


def _equal_groups(images: ImageSet, mirrored: bool) -> tuple[tuple[int, ...], ...]:
    found: dict[bytes, list[int]] = {}
    for start in track(range(0, images.stored, BLOCK), "reading images"):
        for place, pixels in enumerate(images.read(start, min(start + BLOCK, images.stored)), start):
            key = digest(pixels)
            found.setdefault(min(key, digest(pixels[..., ::-1])) if mirrored else key, []).append(place)
    return tuple(tuple(group) for group in found.values() if len(group) > 1)


def _near_pairs(
    images: ImageSet, first: Indices, others: ImageSet | None, second: Indices, similarity: float, mirrored: bool
) -> Pairs:
    """Pairs of `first` of `images` and `second` of `others`, or of `images` itself, each pair once."""
    own = others is None
    theirs = images if others is None else others
    mine = _waves_of(images, first)
    yours = mine if own else _waves_of(theirs, second)
    radius = math.sqrt(2 - 2 * similarity) + 1e-4
    found: list[tuple[Indices, Indices, Floats, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]] = []
    for turned in (False, True) if mirrored else (False,):
        asked = mine * _turned() if turned else mine
        for rows, columns in track(_candidates(asked, yours, radius), "comparing images"):
            if own:  # each pair comes once, in either order; or in both, where one of the two is mirrored
                once = rows < columns if turned else np.ones(len(rows), bool)
                rows, columns = np.minimum(rows, columns)[once], np.maximum(rows, columns)[once]
            if not len(rows):
                continue
            left, right = images.take(first[rows]), theirs.take(second[columns])
            left = left[..., ::-1] if turned else left
            value = _similarity(left, right)
            alike = value >= similarity
            equal = (left[alike] == right[alike]).all((1, 2, 3))
            marks = np.full(int(alike.sum()), turned)
            found.append((first[rows[alike]], second[columns[alike]], value[alike], marks, equal))
    if not found:
        none = np.zeros(0, np.int64)
        return Pairs(none, none, np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, bool))
    a, b, value, marks, equal = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((b, a))
    return Pairs(a[order], b[order], value[order], marks[order], equal[order])


def _candidates(mine: Floats, yours: Floats, radius: float) -> Iterator[tuple[Indices, Indices]]:
    """Places of all pairs that are within `radius` in the waves, a tile of rows at a time, no more than a few at once.

    Where `mine` is `yours`, every pair of two different rows once. Images are cut into slabs along the widest direction and
    sorted along the second widest within each: a pair lies in one slab or in two neighbours, and not far apart there.
    """
    own = mine is yours
    spread = yours - yours.mean(0)
    axes = np.linalg.eigh(spread.T @ spread)[1][:, -2:].astype(np.float32)
    my_slab, along_mine, order_mine = _slabs(mine @ axes, radius)
    slab, along, order = _slabs(yours @ axes, radius)
    sorted_yours = yours[order]
    half = (sorted_yours**2).sum(1) / 2
    for number in np.unique(my_slab):
        first, last = np.searchsorted(my_slab, (number, number + 1))
        for start in range(int(first), int(last), TILE):
            here = slice(start, min(start + TILE, int(last)))
            rows = order_mine[here]
            block = mine[rows]
            least = ((block**2).sum(1) - radius**2) / 2
            for beside in (number, number + 1) if own else (number - 1, number, number + 1):
                begin, end = np.searchsorted(slab, (beside, beside + 1))
                if own and beside == number:
                    begin = start
                low = begin + np.searchsorted(along[begin:end], along_mine[here][0] - radius)
                high = begin + np.searchsorted(along[begin:end], along_mine[here][-1] + radius, side="right")
                for left in range(int(low), int(high), TILE):
                    part = slice(left, min(left + TILE, int(high)))
                    near = block @ sorted_yours[part].T - half[part] >= least[:, None]
                    i, j = np.nonzero(near)
                    if own and left < start + len(rows) and beside == number:
                        later = left + j > start + i
                        i, j = i[later], j[later]
                    for few in range(0, len(i), BLOCK):
                        yield rows[i[few : few + BLOCK]], order[left + j[few : few + BLOCK]]


def _slabs(along: Floats, width: float) -> tuple[Indices, Floats, Indices]:
    """Slabs of the second column and places along the first, both in the order of places that comes last."""
    slab = np.floor(along[:, 1] / (1.001 * width)).astype(np.int64)
    order = np.lexsort((along[:, 0], slab))
    return slab[order], along[order, 0], order


def _waves_of(images: ImageSet, chosen: Indices) -> Floats:
    """The lowest cosine waves of the directions of images, mean over colours: float32 (n, WAVES² + 1)."""
    _, channels, height, width = (1, *images.image_shape)
    down, across = _cosines(height), _cosines(width)
    rows = np.empty((len(chosen), down.shape[0] * across.shape[0] + 1), np.float32)
    for start in track(range(0, len(chosen), BLOCK), "reading images"):
        part = chosen[start : start + BLOCK]
        unit, flat = _directions(images.take(part))
        grey = unit.reshape(len(part), channels, height, width).sum(1) / math.sqrt(channels)
        rows[start : start + len(part), :-1] = (down @ grey @ across.T).reshape(len(part), -1)
        rows[start : start + len(part), -1] = flat
    padded = np.zeros((len(chosen), WAVES * WAVES + 1), np.float32)
    places = [row * WAVES + column for row in range(down.shape[0]) for column in range(across.shape[0])]
    padded[:, [*places, WAVES * WAVES]] = rows
    return padded


def _turned() -> Floats:
    """Signs of the waves of a mirror image."""
    signs = np.where(np.arange(WAVES) % 2, -1.0, 1.0)
    return np.append(np.tile(signs, WAVES), 1.0).astype(np.float32)


def _cosines(length: int) -> Floats:
    """The lowest waves of a discrete cosine transform (type 2, orthonormal): (waves, length)."""
    wave, place = np.arange(min(WAVES, length))[:, None], np.arange(length)[None]
    basis = np.cos(np.pi * wave * (place + 0.5) / length) * math.sqrt(2 / length)
    basis[0] /= math.sqrt(2)
    return basis.astype(np.float32)


def _directions(pixels: Pixels) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Images less their means at length one, (n, C·H·W), zero where constant; and which are constant."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1)
    constant = length <= FLAT * math.sqrt(flat.shape[1])
    flat /= np.where(constant, 1, length)[:, None]
    flat[constant] = 0
    return flat, constant


def _similarity(left: Pixels, right: Pixels) -> Floats:
    (mine, flat), (yours, other) = _directions(left), _directions(right)
    return np.asarray(np.where(flat & other, 1.0, (mine * yours).sum(1, dtype=np.float64)), dtype=np.float32)


def _joined(groups: list[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Groups that share a member as one, members and groups ascending."""
    leader: dict[int, int] = {}

    def first_of(member: int) -> int:
        while leader.setdefault(member, member) != member:
            leader[member] = leader[leader[member]]
            member = leader[member]
        return member

    for group in groups:
        for member in group[1:]:
            one, two = sorted((first_of(group[0]), first_of(member)))
            leader[two] = one
    found: dict[int, list[int]] = {}
    for member in sorted(leader):
        found.setdefault(first_of(member), []).append(member)
    return tuple(tuple(group) for group in found.values() if len(group) > 1)
