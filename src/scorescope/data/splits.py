"""Which images go where: disjoint subsets, train and test, near-duplicates left out; all from a seed, as index lists.

Two networks that learn from *disjoint* images and still agree have learned the distribution, not the images (Kadkhodaie
et al. 2024, figure 2). Subsets of growing size are nested, so that a larger one adds images and exchanges none.
Near-duplicates are found by cosine similarity and removed first, or the subsets would not be disjoint in substance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pydantic

from scorescope.data.images import ImageSet, Indices
from scorescope.foundation import UserError, track
from scorescope.foundation.files import write_text

_BLOCK = 2048
Centre = Literal["set", "own", "none"]
Origin = npt.NDArray[np.float32] | np.float32 | None


def disjoint_subsets(total: int, size: int, *, count: int = 2, seed: int) -> list[Indices]:
    """Random index lists without a common index.

    The `total` indices are shuffled and dealt into `count` equal shares; a subset is the beginning of its share. With
    the same total, count and seed, the k-th subset of a smaller size is therefore the beginning of that of a larger
    size, and disjoint from every other subset of any size.

    Args:
        total: number of images to choose from.
        size: number of images in each subset, at least 1.
        count: number of subsets, at least 1.
        seed: of the shuffle, ≥ 0.

    Returns:
        `count` int64 arrays (size,).

    Raises:
        UserError: more images asked for than there are.
    """
    if size < 1 or count < 1:
        raise UserError(f"subsets need size ≥ 1 and count ≥ 1, found {size} and {count}")
    share = total // count
    if size > share:
        if count == 1:
            raise UserError(f"a subset of {size} images was asked for, there are {total}")
        raise UserError(
            f"{count} disjoint subsets of {size} need {count * size} images, there are {total}: at most {share} each"
        )
    order = np.random.default_rng(seed).permutation(total)
    return [order[k * share : k * share + size] for k in range(count)]


def train_test_split(total: int, test: int, *, seed: int) -> tuple[Indices, Indices]:
    """Random (train, test) index lists, each in ascending order, that share the `total` images.

    Raises UserError unless 1 ≤ test < total.
    """
    if not 1 <= test < total:
        raise UserError(f"{test} test images asked for, of {total}: between 1 and {total - 1} can be")
    order = np.random.default_rng(seed).permutation(total)
    return np.sort(order[test:]), np.sort(order[:test])


class NearDuplicates(pydantic.BaseModel):
    """What `find_near_duplicates` found.

    Attributes:
        kept: indices of the images to keep, ascending.
        removed: indices of the others, ascending.
        twin: for every removed image, the kept image that it is most similar to.
        similarity: for every removed image, its cosine similarity to its twin.
    """

    model_config = pydantic.ConfigDict(frozen=True, arbitrary_types_allowed=True)

    kept: npt.NDArray[np.int64]
    removed: npt.NDArray[np.int64]
    twin: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]


def find_near_duplicates(images: ImageSet, threshold: float = 0.95, *, centre: Centre = "set") -> NearDuplicates:
    """Images whose cosine similarity to an earlier kept image exceeds a threshold; mirror images are not looked at.

    Going through the images in order, one is kept if no image kept so far is more similar than `threshold`. Computed as
    products of blocks; memory is that of a few blocks, whatever the number of images. Time grows with its square.

    Args:
        images: where to look.
        threshold: between -1 and 1.
        centre: what the cosine is taken of. ``set``: the differences from the mean image, in which images that share a
            background are not alike for that alone; ``own``: each image less its own mean, so that neither brightness
            nor contrast counts, as in Kadkhodaie et al. 2024; ``none``: the images themselves, as values in [-1, 1].

    Raises:
        UserError: a threshold outside (-1, 1).
    """
    if not -1 < threshold < 1:
        raise UserError(f"a cosine similarity threshold lies between -1 and 1, found {threshold}")
    origin: Origin = None
    if centre != "own":
        origin = _mean_image(images) if centre == "set" else np.float32(127.5)
    kept = np.zeros(0, dtype=np.int64)
    removed, twins, similarities = [], [], []
    for start in track(range(0, images.stored, _BLOCK), "finding near-duplicates"):
        rows = np.arange(start, min(start + _BLOCK, images.stored))
        block = _directions(images, rows, origin)
        best, twin = _most_similar(images, block, kept, origin)
        own = block @ block.T
        alive: list[int] = []
        for i, row in enumerate(rows):
            if alive:
                j = alive[int(np.argmax(own[i, alive]))]
                if own[i, j] > best[i]:
                    best[i], twin[i] = own[i, j], rows[j]
            if best[i] > threshold:
                removed.append(int(row))
                twins.append(int(twin[i]))
                similarities.append(float(best[i]))
            else:
                alive.append(i)
        kept = np.concatenate([kept, rows[alive]])
    return NearDuplicates(
        kept=kept,
        removed=np.array(removed, dtype=np.int64),
        twin=np.array(twins, dtype=np.int64),
        similarity=np.array(similarities, dtype=np.float32),
    )


class IndexList(pydantic.BaseModel):
    """A chosen subset that can be written down and found again.

    Attributes:
        schema_version: of the file.
        made_by: how it was chosen, in words with every number ("half 0 of 2, size 1000, seed 3").
        images: name of the set it counts in.
        total: how many images that set has, without mirror images.
        fingerprint: of that set (`ImageSet.fingerprint`).
        indices: the chosen images, in order.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    made_by: str
    images: str
    total: pydantic.PositiveInt
    fingerprint: str
    indices: tuple[pydantic.NonNegativeInt, ...]

    @classmethod
    def of(cls, images: ImageSet, indices: Sequence[int] | Indices, made_by: str) -> IndexList:
        """The list of `indices` in `images`. Raises UserError if one is outside."""
        images.subset(indices)
        return cls(
            made_by=made_by,
            images=images.name,
            total=images.stored,
            fingerprint=images.fingerprint(),
            indices=tuple(int(index) for index in indices),
        )

    def choose(self, images: ImageSet) -> ImageSet:
        """The subset of `images`. Raises UserError if these are not the images that the list counts in."""
        if images.stored != self.total or images.fingerprint() != self.fingerprint:
            raise UserError(
                f"this list of indices ({self.made_by}) counts in {self.images} ({self.total} images); "
                f"{images.name} ({images.stored} images) holds others"
            )
        return images.subset(np.array(self.indices, dtype=np.int64))

    def save(self, path: Path | str) -> None:
        """Write as JSON, atomically."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> IndexList:
        """Read what `save` wrote. Raises UserError if there is no such file or it is of another form."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except FileNotFoundError as error:
            raise UserError(f"there is no list of indices at {path}") from error
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise UserError(f"{path} is not a list of indices: {where}: {first['msg']}") from error


def _mean_image(images: ImageSet) -> npt.NDArray[np.float32]:
    total = np.zeros(images.image_shape, dtype=np.float64)
    for start in range(0, images.stored, _BLOCK):
        total += images.read(start, min(start + _BLOCK, images.stored)).sum(0, dtype=np.float64)
    return (total / images.stored).astype(np.float32)


def _directions(images: ImageSet, rows: Indices, origin: Origin) -> npt.NDArray[np.float32]:
    """Images minus `origin`, flat and of unit length, and one more entry: 1 for an image that *is* the origin.

    Without an origin every image has its own mean taken away.

    An image at the origin has no direction; the extra entry makes it similar to others like it and to nothing else.
    """
    pixels = images.take(rows)
    own = pixels.mean((1, 2, 3), keepdims=True, dtype=np.float32) if origin is None else origin
    flat = (pixels - own).reshape(len(rows), -1)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    none = norm < 1e-3 * np.sqrt(flat.shape[1])
    return np.hstack([np.where(none, 0, flat / np.where(none, 1, norm)), none]).astype(np.float32)


def _most_similar(
    images: ImageSet, block: npt.NDArray[np.float32], kept: Indices, origin: Origin
) -> tuple[npt.NDArray[np.float32], Indices]:
    """For every row of `block`, the largest similarity to a kept image and that image's index; (-inf, -1) if none."""
    best = np.full(len(block), -np.inf, dtype=np.float32)
    twin = np.full(len(block), -1, dtype=np.int64)
    for start in range(0, len(kept), _BLOCK):
        rows = kept[start : start + _BLOCK]
        similar = block @ _directions(images, rows, origin).T
        nearest = similar.argmax(1)
        value = similar[np.arange(len(block)), nearest]
        better = value > best
        best[better], twin[better] = value[better], rows[nearest[better]]
    return best, twin
