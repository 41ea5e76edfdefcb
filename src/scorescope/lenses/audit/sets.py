"""Which images are compared: training images once each, control and calibration images that are none of them.

Before anything is measured, duplicates go: of equal and near training images one is kept for the searches; unseen images that
are equal or near to a training image are left out, and if they are as many as a third, the sets are refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scorescope.data import ImageSet
from scorescope.data.duplicates import Pairs, find_common, find_duplicates
from scorescope.data.store import name_of
from scorescope.foundation import UserError

COMMON_AT_MOST = 1 / 3
LEAST_CALIBRATION = 5000
NAMED = 3
LOSSY, LOOKED_AT = 0.98, 300
CONTROL_AT_LEAST = 500


@dataclass(frozen=True)
class AuditSets:
    """What samples are compared with.

    Attributes:
        training: T, each image once, with mirror images if they count.
        given: the training images as given, which names are taken from.
        kept: for every image of T its place in `given`.
        control: C, with mirror images if they count; None without enough unseen images.
        calibration: H: unseen images, or T itself, of which each is compared with the others.
        own: where T calibrates itself, the entries of T that each calibration image passes over, (h, 1 or 2); else None.
        equal: how many training images are equal to an earlier one.
        near: how many more are near to one.
        notes: what was done, in sentences.
    """

    training: ImageSet
    given: ImageSet
    kept: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    control: ImageSet | None
    calibration: ImageSet
    own: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | None
    equal: int
    near: int
    notes: tuple[str, ...]

    @property
    def leave_one_out(self) -> bool:
        """Whether T calibrates itself, for want of unseen images."""
        return self.control is None

    @property
    def few(self) -> str:
        """Why so few training images tell nothing; empty if they do."""
        if self.leave_one_out and len(self.kept) < 3:
            return f"with so few different training images ({len(self.kept)}) and no unseen ones nothing can be told"
        return ""

    @property
    def flat(self) -> bool:
        """Whether every training image is of one colour."""
        return all((block == block[..., :1, :1]).all() for _, block in self.training.chunks(4096))

    def name(self, entry: int) -> str:
        """Where entry `entry` of T came from."""
        return name_of(self.given, int(self.kept[entry % len(self.kept)]))


def audit_sets(
    training: ImageSet,
    unseen: ImageSet | None,
    *,
    near: float,
    flips: bool,
    calibration: int,
    seed: int,
    control: ImageSet | None = None,
) -> AuditSets:
    """Choose T, C and H.

    Args:
        training: the training images, without mirror images.
        unseen: images of the same kind that the model has not seen; None if there are none.
        near: similarity from which images are near-duplicates.
        flips: whether mirror images count.
        calibration: calibration images at most.
        seed: of the split of unseen images into C and H.
        control: control images apart from `unseen`, where they are known; else they are drawn from `unseen`.

    Raises:
        UserError: a third or more of the unseen images are training images, or nothing is left of them.
    """
    notes = []
    twice = find_duplicates(training, near, mirrored=flips)
    left_out = twice.superfluous
    kept = np.setdiff1d(np.arange(training.stored), left_out)
    equal = len(twice.equal_superfluous)
    if len(left_out):
        notes.append(
            f"{equal} of the {training.stored} training images are equal to an earlier one and {len(left_out) - equal} near to"
            f" one (similarity at least {near:g}); each counts once"
        )
    searched = training.subset(kept)
    seen = searched.with_flips() if flips else searched
    parts = [one for one in (unseen, control) if one is not None]
    cleaned = [_apart(training, one, near, flips, notes) for one in parts]
    order = np.random.default_rng(seed)
    if control is not None and unseen is not None:
        against, left = cleaned[1], cleaned[0]
        left = left.subset(np.sort(order.permutation(left.stored)[:calibration]))
    elif unseen is not None and cleaned[0].stored >= 2:
        mixed = order.permutation(cleaned[0].stored)
        # As many control images as training images, or more for a small set, if that leaves half of all to calibrate with.
        many = max(1, min(max(len(kept), CONTROL_AT_LEAST), cleaned[0].stored // 2))
        against = cleaned[0].subset(np.sort(mixed[:many]))
        left = cleaned[0].subset(np.sort(mixed[many : many + calibration]))
    else:
        notes.append(
            "there are no unseen images: each training image is compared with the others instead, which is weaker, and leakage"
            " cannot be measured"
        )
        chosen = np.sort(order.permutation(len(kept))[:calibration])
        own = np.stack([chosen, chosen + len(kept)] if flips else [chosen], axis=1)
        alone = searched.subset(chosen)
        return AuditSets(seen, training, kept, None, alone, own, equal, len(left_out) - equal, tuple(notes))
    return AuditSets(
        seen,
        training,
        kept,
        against.with_flips() if flips else against,
        left,
        None,
        equal,
        len(left_out) - equal,
        tuple(notes),
    )


def _apart(training: ImageSet, unseen: ImageSet, near: float, flips: bool, notes: list[str]) -> ImageSet:
    """The unseen images that are no training images, each once."""
    common = find_common(training, unseen, near, mirrored=flips)
    shared = np.unique(common.second)
    if len(shared) < COMMON_AT_MOST * unseen.stored:
        # Strong compression leaves few images above `near`, and most of them far above what chance makes alike.
        looked = np.unique(np.linspace(0, unseen.stored - 1, LOOKED_AT).astype(np.int64))
        lossy = find_common(training, unseen.subset(looked), min(near, LOSSY), mirrored=flips)
        if len(np.unique(lossy.second)) >= COMMON_AT_MOST * len(looked):
            common = dataclasses.replace(lossy, second=looked[lossy.second])
            raise _refused(training, unseen, common, len(looked), min(near, LOSSY))
    else:
        raise _refused(training, unseen, common, unseen.stored, near)
    twice = find_duplicates(unseen, near, mirrored=flips).superfluous
    if len(shared):
        exact = len(np.unique(common.second[common.equal]))
        named = ", ".join(name_of(unseen, int(place)) for place in shared[:NAMED])
        notes.append(
            f"{len(shared)} of the {unseen.stored} images of {unseen.name} are training images ({exact} of them equal byte for"
            f" byte) and were left out: {named}{' and others' if len(shared) > NAMED else ''}"
        )
    return unseen.subset(np.setdiff1d(np.arange(unseen.stored), np.union1d(shared, twice)))


def _refused(training: ImageSet, unseen: ImageSet, common: Pairs, looked_at: int, near: float) -> UserError:
    named = ", ".join(
        f"{name_of(unseen, second)} = {name_of(training, first)}"
        for first, second in _first_of_each(common.first.tolist(), common.second.tolist())[:NAMED]
    )
    return UserError(
        f"{len(np.unique(common.second))} of {looked_at} images of {unseen.name} are training images, equal or nearly"
        f" (similarity at least {near:g}): {named}; held-out images must be ones that the model has not seen"
    )


def _first_of_each(first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    found: dict[int, int] = {}
    for one, two in zip(first, second, strict=True):
        found.setdefault(two, one)
    return [(one, two) for two, one in found.items()]
