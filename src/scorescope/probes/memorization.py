"""Copied share: how many samples are nearer to a training image than nearly all unseen images are, as the papers count it.

Similarity is high for any smooth image, so this says little by itself: verdicts rest on `scorescope.probes.audit`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CHANCE = 0.05


def copied_share(samples: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> float:
    """Share of `samples` above the 95 % quantile of `reference`, both similarities to the nearest training image, (n,)."""
    return float((samples > np.quantile(reference, 1 - CHANCE)).mean())
