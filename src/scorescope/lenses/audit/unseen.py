"""Unseen images that are unseen: what is a training image, equal or nearly, goes before anything is measured on them.

Near-duplicates that nobody made are no leak: of a family with few parameters, such as disks, most images have a near twin among
other draws. How many there would be by chance the unseen images say themselves: if a share r of n of them is near to another
one, about ``1 − (1 − r)^(N / (n − 1))`` are near to one of N training images. Where that accounts for at least half of what was
found, near ones stay (leaving them out would keep the images that are farthest from the training set) and equal ones go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from scorescope.data import DataSplit, ImageSet
from scorescope.data.duplicates import AlikeImages, Duplicates, Indices, Pairs, find_common, find_duplicates
from scorescope.data.store import name_of
from scorescope.foundation import UserError

COMMON_AT_MOST = 1 / 3
FEW = 0.05
"""Share of the unseen images up to which leaving out near ones changes nothing that is measured on the others."""
REMARKABLE = 0.01
"""Share of images that are there twice from which it is told: each counts once in any case."""
NAMED = 3
LOSSY, LOOKED_AT = 0.98, 300


class SeenImagesError(UserError):
    """Images that were said to be unseen are training images."""


@dataclass(frozen=True)
class Unseen:
    """Unseen images, each once, none of them a training image.

    Attributes:
        images: what is left.
        alike: whether images of this kind are near to each other by chance, so that near ones were kept.
        notes: what was done, in sentences.
    """

    images: ImageSet
    alike: bool
    notes: tuple[str, ...]


def unseen_images(training: ImageSet, given: ImageSet, alike: AlikeImages | None = None) -> Unseen:
    """The images of `given` that are no training images.

    Args:
        training: what a network was trained on.
        given: images that it has not seen, as far as anybody says.
        alike: what counts as alike, and what is known of it; by default the usual similarity, and mirror images where
            `training` has them.

    Raises:
        SeenImagesError: a third or more of them are training images.
        UserError: nothing is left; images of another shape.
    """
    alike = alike or AlikeImages(mirrored=training.flips)
    near, mirrored = alike.similarity, alike.mirrored
    common, twice = alike.between(training, given), alike.within(given)
    shared, equal = np.unique(common.second), np.unique(common.second[common.equal])
    by_chance = len(shared) - len(equal) > FEW * given.stored and _by_chance(twice, given, training, len(shared))
    if len(equal if by_chance else shared) >= COMMON_AT_MOST * given.stored:
        raise _refused(training, given, common, given.stored, near)
    _check_lossy(training, given, min(near, LOSSY), mirrored)
    notes = []
    gone = equal if by_chance else shared
    if len(gone):
        named = ", ".join(name_of(given, int(place)) for place in gone[:NAMED])
        notes.append(
            f"{len(gone)} of the {given.stored} images of {given.name} are training images, {_alike(gone, equal, near)},"
            f" and were left out: {named}{' and others' if len(gone) > NAMED else ''}"
        )
    if by_chance:
        notes.append(
            f"{len(shared) - len(equal)} of the {given.stored} images of {given.name} are near to a training image"
            f" (similarity at least {near:g}), about as many as chance makes, as images of this kind are near to each other;"
            " these were kept"
        )
    again = np.setdiff1d(twice.equal_superfluous if by_chance else twice.superfluous, gone)
    if len(again) > REMARKABLE * given.stored:
        notes.append(
            f"{len(again)} of the {given.stored} images of {given.name} are equal or near to an earlier one; each counts once"
        )
    kept = np.setdiff1d(np.arange(given.stored), np.union1d(gone, again))
    return Unseen(given if len(kept) == given.stored else given.subset(kept), bool(by_chance), tuple(notes))


def unseen_by_all(training: Iterable[ImageSet], given: ImageSet) -> Unseen:
    """The images of `given` that are training images of no network. Arguments and errors as `unseen_images` has them."""
    left = Unseen(given, False, ())
    for images in _together(training):
        found = unseen_images(images, left.images)
        left = Unseen(found.images, left.alike or found.alike, (*left.notes, *found.notes))
    return left


def _together(training: Iterable[ImageSet]) -> list[ImageSet]:
    """Parts of one set, such as the halves that two networks are trained on, as one: they are searched and told once."""
    found: list[ImageSet] = []
    for images in training:
        for place, other in enumerate(found):
            if other.pixels is images.pixels and other.flips == images.flips:
                found[place] = other.joined(images)
                break
        else:
            found.append(images)
    return found


def apart(images: DataSplit) -> tuple[DataSplit, tuple[str, ...]]:
    """A data set whose test images are no training images, and what was left out, in sentences; errors as `unseen_images`."""
    if images.test is None:
        return images, ()
    found = unseen_images(images.train, images.test)
    return DataSplit(images.train, found.images), found.notes


def sentences(notes: Sequence[str]) -> str:
    """Notes as sentences, each with a capital and a full stop."""
    return " ".join(f"{note[0].upper()}{note[1:]}." for note in notes)


def _alike(gone: Indices, equal: Indices, near: float) -> str:
    """How alike images and training images are, in words."""
    nearly = f"nearly (similarity at least {near:g})"
    if len(equal) == len(gone):
        return "byte for byte"
    return f"{len(equal)} of them byte for byte and the others {nearly}" if len(equal) else nearly


def _check_lossy(training: ImageSet, given: ImageSet, near: float, mirrored: bool) -> None:
    """Strong compression leaves few images above the usual similarity, and most of them far above what chance makes alike."""
    looked = np.unique(np.linspace(0, given.stored - 1, LOOKED_AT).astype(np.int64))
    few = given.subset(looked)
    lossy = find_common(training, few, near, mirrored=mirrored)
    shared = len(np.unique(lossy.second))
    if shared < COMMON_AT_MOST * len(looked):
        return
    if not _by_chance(find_duplicates(few, near, mirrored=mirrored), few, training, shared):
        named = dataclasses.replace(lossy, second=looked[lossy.second])
        raise _refused(training, given, named, len(looked), near)


def _by_chance(twice: Duplicates, given: ImageSet, training: ImageSet, shared: int) -> bool:
    """Whether chance makes at least half as many of the images near to training images as were found."""
    near = np.concatenate([twice.pairs.first, twice.pairs.second])
    different = given.stored - len(twice.equal_superfluous)
    if different < 2:
        return False
    share = len(np.unique(near)) / different
    expected = 1 - (1 - share) ** (training.stored / (different - 1))
    return bool(expected * given.stored >= shared / 2)


def _refused(training: ImageSet, unseen: ImageSet, common: Pairs, looked_at: int, near: float) -> SeenImagesError:
    named = ", ".join(
        f"{name_of(unseen, second)} = {name_of(training, first)}"
        for first, second in _first_of_each(common.first.tolist(), common.second.tolist())[:NAMED]
    )
    return SeenImagesError(
        f"{len(np.unique(common.second))} of {looked_at} images of {unseen.name} are training images, equal or nearly"
        f" (similarity at least {near:g}): {named}; held-out images must be ones that the model has not seen"
    )


def _first_of_each(first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    found: dict[int, int] = {}
    for one, two in zip(first, second, strict=True):
        found.setdefault(two, one)
    return [(one, two) for two, one in found.items()]
