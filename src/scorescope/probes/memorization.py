"""Does a model memorize or generalize? The evidence, and the rule that turns it into a verdict.

Three observations, all relative to images that the model has not seen:

- *PSNR gap*: how much better it denoises its training images than held-out images (Kadkhodaie et al. 2024, figure 1).
- *Copied share*: how many of its samples are nearer to a training image than 95 % of the held-out images are. A model
  that samples the distribution itself has 5 % of such samples; one that copies has nearly all.
- *Agreement*: whether a second network, trained on other images, makes the same samples from the same noise, more
  similar to each other than to any training image (the same paper, figure 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CHANCE = 0.05
COPIED_MANY, COPIED_FEW = 0.5, 0.1
GAP_LARGE, GAP_SMALL = 1.0, 0.3

RULE = (
    "undecided: averaged over sigma the model denoises its training images no better than leaving them noisy;"
    f" memorizes: at least {COPIED_MANY:.0%} of the samples are copies and the PSNR gap is at least {GAP_LARGE:g} dB; "
    f"generalizes: at most {COPIED_FEW:.0%} of the samples are copies, the PSNR gap is at most {GAP_SMALL:g} dB and, where "
    "there are two networks, their samples are more similar to each other than to the nearest training image; in "
    f"transition: anything else. A copy is nearer to a training image than {1 - CHANCE:.0%} of the held-out images are. "
    "Evidence that could not be measured is left out of the rule, and the report says so."
)


@dataclass(frozen=True)
class Evidence:
    """What was measured on one model, or two trained on disjoint sets.

    Attributes:
        gain: PSNR of denoised minus that of noisy training images in dB, averaged over sigma.
        psnr_gap: train − held-out PSNR in dB, averaged over sigma; None without held-out images.
        copied: share of samples nearer to a training image than 95 % of the reference images are.
        nearest: mean similarity of a sample to its nearest training image.
        agreement: mean similarity of the two networks' samples from the same noise; None with one network.
    """

    gain: float
    psnr_gap: float | None
    copied: float
    nearest: float
    agreement: float | None

    def verdict(self) -> str:
        """``memorizes``, ``in transition``, ``generalizes`` or ``undecided``, by `RULE`."""
        if not self.gain > 0:
            return "undecided"
        gap = self.psnr_gap
        if self.copied >= COPIED_MANY and (gap is None or gap >= GAP_LARGE):
            return "memorizes"
        agrees = self.agreement is None or self.agreement > self.nearest
        if self.copied <= COPIED_FEW and (gap is None or gap <= GAP_SMALL) and agrees:
            return "generalizes"
        return "in transition"


def copied_share(samples: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> float:
    """Share of `samples` above the 95 % quantile of `reference`, both similarities to the nearest training image, (n,)."""
    return float((samples > np.quantile(reference, 1 - CHANCE)).mean())
