"""The Wiener filter of a training set as a matrix: the best linear denoiser, and what it looks at.

``W(σ) = C (C + σ² I)⁻¹ = U diag(s / (s + σ²)) Uᵀ`` for the covariance ``C = U diag(s) Uᵀ``. Row p says how much every
pixel-channel of the noisy image counts for pixel-channel p of the denoised one. Solving with the covariance at every noise
level takes less time than its eigenvectors take once.
"""

from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt
import torch

from scorescope.data.images import ImageSet
from scorescope.posterior.moments import covariance
from scorescope.posterior.processes import process_count
from scorescope.posterior.units import LEVELS_PER_UNIT

Floats = npt.NDArray[np.float64]

# Of the covariance's trace: smaller noise would leave a matrix that is positive only up to rounding.
_LEAST_NOISE = 1e-12


class WienerFilter:
    """The Wiener filter of a training set at any noise level.

    Args:
        images: the training set.

    Attributes:
        constant: which pixel-channels never vary, bool (d,).

    Raises:
        UserError: images too large for a covariance matrix.
    """

    def __init__(self, images: ImageSet) -> None:
        _, self._covariance = covariance(images)
        variances = self._covariance.diagonal() * LEVELS_PER_UNIT**2
        # Bytes that vary at all have a variance of at least (1 − 1/N)/N squared grey levels: less is rounding.
        self.constant: npt.NDArray[np.bool_] = variances < 0.25 / len(images)
        self._covariance[self.constant] = 0.0
        self._covariance[:, self.constant] = 0.0

    def matrix(self, sigma: float) -> Floats:
        """``W(σ)``, float64 (d, d), at a noise level in units of [-1, 1]; exactly 0 in rows and columns that never vary.

        Noise below a millionth of the images' own spread counts as that much.
        """
        known = torch.from_numpy(self._covariance)
        noise = max(sigma**2, _LEAST_NOISE * float(known.trace()))
        blurred = known.clone()
        blurred.diagonal().add_(noise)
        matrix: Floats = torch.cholesky_solve(known, torch.linalg.cholesky(blurred, out=blurred)).numpy()
        return matrix


_filters: weakref.WeakKeyDictionary[ImageSet, dict[int, WienerFilter]] = weakref.WeakKeyDictionary()


def wiener_filter(images: ImageSet) -> WienerFilter:
    """The Wiener filter of a training set; its covariance is computed once as long as the set is in use."""
    # Processes compute it together: one that has found it while working alone must not stay away.
    found = _filters.setdefault(images, {})
    if process_count() not in found:
        found[process_count()] = WienerFilter(images)
    return found[process_count()]
