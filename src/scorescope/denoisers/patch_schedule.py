"""How large a part of the image a patch denoiser looks at, as a function of the noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scorescope.foundation import UserError
from scorescope.noise import edm_sigmas

PAPER_SIZE = 32
# Niedoba et al. 2025: window sides for 32×32 images at the 18 EDM levels, high to low noise.
PAPER_SIDES = (32,) * 7 + (23, 15, 11, 7, 5) + (3,) * 6


@dataclass(frozen=True)
class WindowSchedule:
    """Window sides at some noise levels; between them the level nearest in log σ decides.

    Args:
        sigmas: noise levels in units of [-1, 1].
        sides: window sides in pixels, one a level.

    Raises:
        UserError: none given, different numbers of them, a level that is not positive and finite, a side below 1.
    """

    sigmas: tuple[float, ...]
    sides: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sides or len(self.sigmas) != len(self.sides):
            raise UserError(
                f"a window schedule has one side a level, found {len(self.sigmas)} levels, {len(self.sides)} sides"
            )
        if not all(math.isfinite(sigma) and sigma > 0 for sigma in self.sigmas):
            raise UserError(f"a window schedule's levels are positive and finite, found {self.sigmas}")
        if min(self.sides) < 1:
            raise UserError(f"a window's side is at least 1 pixel, found {min(self.sides)}")

    @classmethod
    def constant(cls, side: int) -> WindowSchedule:
        """One side at every level."""
        return cls((1.0,), (side,))

    @classmethod
    def paper(cls) -> WindowSchedule:
        """The schedule of Niedoba et al. 2025 for 32×32 images."""
        return cls(tuple(edm_sigmas(len(PAPER_SIDES)).tolist()), PAPER_SIDES)

    @classmethod
    def for_images(cls, height: int, width: int) -> WindowSchedule:
        """The paper's schedule for images of another size: sides in proportion, odd, at least 3; the whole stays the whole."""
        edge = min(height, width)

        def scaled(side: int) -> int:
            if side >= PAPER_SIZE:
                return max(height, width)
            return max(3, 2 * round((side * edge / PAPER_SIZE - 1) / 2) + 1)

        paper = cls.paper()
        return cls(paper.sigmas, tuple(scaled(side) for side in paper.sides))

    def side(self, sigma: float) -> int:
        """The side at the level nearest to sigma in the logarithm."""
        nearest = min(range(len(self.sides)), key=lambda k: abs(math.log(self.sigmas[k] / sigma)))
        return self.sides[nearest]


def as_schedule(schedule: WindowSchedule | int | None, image_shape: tuple[int, int, int]) -> WindowSchedule:
    """A schedule as it is, a constant side, or, for None, the paper's in proportion to the image."""
    if schedule is None:
        return WindowSchedule.for_images(*image_shape[1:])
    return WindowSchedule.constant(schedule) if isinstance(schedule, int) else schedule
