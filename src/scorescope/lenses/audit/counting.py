"""How many of some samples are copies: the audit's calibrated count in pixels, for many runs that share a training set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data.duplicates import AlikeImages
from scorescope.data.images import ImageSet, to_uint8
from scorescope.lenses.audit.nearness import nearness, searched
from scorescope.lenses.audit.sets import audit_sets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.probes.audit.copies import Statistic
from scorescope.probes.audit.search import Directions
from scorescope.probes.proportions import Interval

CALIBRATION, PLANTED = 2000, 40


@dataclass(frozen=True)
class Copies:
    """Which samples are nearer to a training image than all but 1 % of unseen images are.

    Attributes:
        share: of the samples that are copies, with its 95 % interval: those above the level, less what chance puts there.
        above: whether each sample lies above the level, bool (n,).
        chance: share of calibration images that do.
        nearest: place of the most similar training image, in the set as it was given, int64 (n,).
        distance: to the training image that is nearest in pixels, root mean square a pixel, (n,).
        statistic: which was chosen.
    """

    share: Interval
    above: npt.NDArray[np.bool_]
    chance: float
    nearest: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    statistic: Statistic


class CopyCounter:
    """Counts copies of one training set.

    Args:
        training: images that samples may be copies of, without mirror images.
        unseen: images of the same kind that no network was trained on; half of them at most are control images.
        seed: of the choices.

    Raises:
        UserError: as `audit_sets`.
    """

    def __init__(self, training: ImageSet, unseen: ImageSet, seed: int = 0) -> None:
        self.settings = AuditSettings(
            features=("pixels",), planted=PLANTED, calibration=CALIBRATION, seed=seed, regions=False
        )
        alike = AlikeImages(self.settings.near, mirrored=False)
        self.sets = audit_sets(training, unseen, alike=alike, calibration=CALIBRATION, seed=seed)
        self.training = training

    def count(self, samples: Tensor) -> Copies:
        """Samples (n, C, H, W) in [-1, 1]; values beyond are cut, those that are no numbers are 0."""
        pixels = to_uint8(torch.nan_to_num(samples))
        arrays = searched(ImageSet(pixels, name="samples"), self.sets, Directions(), self.settings, "searching")
        near = nearness(arrays, "pixels", self.sets.control is not None, False, self.settings)
        nearest = self.sets.kept[near.index]
        own = self.training.tensor().flatten(1)
        rows = torch.nan_to_num(samples).float().clamp(-1, 1).flatten(1)
        distance = torch.cdist(rows, own).min(1).values / rows.shape[1] ** 0.5
        above = near.t > near.copied.level
        return Copies(near.copied.share, above, near.copied.chance, nearest, distance.double().numpy(), near.statistic)
