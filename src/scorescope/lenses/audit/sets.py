"""Which images are compared: training images once each, control and calibration images that are none of them.

Before anything is measured, duplicates go: of equal and near training images one is kept for the searches; unseen images that
are training images are left out, or refused (`unseen`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scorescope.data import ImageSet
from scorescope.data.duplicates import AlikeImages
from scorescope.data.store import name_of
from scorescope.lenses.audit.unseen import REMARKABLE, unseen_images

LEAST_CALIBRATION = 5000
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
    kept: npt.NDArray[np.int64]
    control: ImageSet | None
    calibration: ImageSet
    own: npt.NDArray[np.int64] | None
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

    def places(self, entries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where entries of T stand among the images that were given, in the store itself where those are a part of one."""
        found = self.kept[entries % len(self.kept)]
        return found if self.given.indices is None else self.given.indices[found]

    def name(self, entry: int) -> str:
        """Where entry `entry` of T came from."""
        return name_of(self.given, int(self.kept[entry % len(self.kept)]))


def audit_sets(
    training: ImageSet,
    unseen: ImageSet | None,
    *,
    alike: AlikeImages,
    calibration: int,
    seed: int,
    control: ImageSet | None = None,
) -> AuditSets:
    """Choose T, C and H.

    Args:
        training: the training images, without mirror images.
        unseen: images of the same kind that the model has not seen; None if there are none.
        alike: from which similarity images are near-duplicates, and whether mirror images count; each search is made once.
        calibration: calibration images at most.
        seed: of the split of unseen images into C and H.
        control: control images apart from `unseen`, where they are known; else they are drawn from `unseen`.

    Raises:
        UserError: a third or more of the unseen images are training images, or nothing is left of them.
    """
    notes: list[str] = []
    apart = [unseen_images(training, one, alike) for one in (unseen, control) if one is not None]
    cleaned = [one.images for one in apart]
    twice, flips = alike.within(training), alike.mirrored
    left_out = twice.equal_superfluous if any(one.alike for one in apart) else twice.superfluous
    kept = np.setdiff1d(np.arange(training.stored), left_out)
    equal = len(twice.equal_superfluous)
    if len(left_out) > REMARKABLE * training.stored:
        notes.append(
            f"{equal} of the {training.stored} training images are equal to an earlier one and {len(left_out) - equal} near to"
            f" one (similarity at least {alike.similarity:g}); each counts once"
        )
    searched = training.subset(kept)
    seen = searched.with_flips() if flips else searched
    notes += [note for one in apart for note in one.notes]
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
