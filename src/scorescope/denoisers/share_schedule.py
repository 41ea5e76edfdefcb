"""How large a share of its heatmap a pixel's mask holds, as a function of the noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scorescope.foundation import UserError
from scorescope.noise import edm_sigmas

# Niedoba et al. 2025: λ for 32×32 images at the 18 EDM levels, high to low noise.
PAPER_SHARES = (1.0,) * 7 + (0.7, 0.7, 0.5) + (0.4,) * 4 + (0.3,) * 4


@dataclass(frozen=True)
class ShareSchedule:
    """Shares λ at some noise levels; between them the level nearest in log σ decides.

    Args:
        sigmas: noise levels in units of [-1, 1].
        shares: above 0, at most 1, one a level; 1 means the whole image.

    Raises:
        UserError: none given, different numbers of them, a level that is not positive and finite, a share outside (0, 1].
    """

    sigmas: tuple[float, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.shares or len(self.sigmas) != len(self.shares):
            raise UserError(
                f"a schedule has one share a level, found {len(self.sigmas)} levels, {len(self.shares)} shares"
            )
        if not all(math.isfinite(sigma) and sigma > 0 for sigma in self.sigmas):
            raise UserError(f"a schedule's levels are positive and finite, found {self.sigmas}")
        if not all(0 < share <= 1 for share in self.shares):
            raise UserError(f"shares of a heatmap are above 0 and at most 1, found {self.shares}")

    @classmethod
    def constant(cls, share: float) -> ShareSchedule:
        """One share at every level."""
        return cls((1.0,), (share,))

    @classmethod
    def paper(cls) -> ShareSchedule:
        """The schedule of Niedoba et al. 2025; shares have no unit, so it serves images of any size."""
        return cls(tuple(edm_sigmas(len(PAPER_SHARES)).tolist()), PAPER_SHARES)

    def share(self, sigma: float) -> float:
        """The share at the level nearest to sigma in the logarithm."""
        nearest = min(range(len(self.shares)), key=lambda k: abs(math.log(self.sigmas[k] / sigma)))
        return self.shares[nearest]
