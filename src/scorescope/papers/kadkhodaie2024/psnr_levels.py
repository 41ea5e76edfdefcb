"""Noise levels at equal steps of input PSNR, and the part of them over which slopes are fitted: settings that studies share."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
import pydantic

FEWEST_FOR_SLOPE = 3


class PsnrLevels(pydantic.BaseModel):
    """Which noise levels.

    Attributes:
        levels: noise levels, at equal steps of input PSNR over `psnr_range`.
        psnr_range: lowest and highest input PSNR that is measured, dB.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    levels: int = pydantic.Field(13, ge=2)
    psnr_range: tuple[float, float]

    @pydantic.model_validator(mode="after")
    def _increasing(self) -> Self:
        if not self.psnr_range[0] < self.psnr_range[1]:
            raise ValueError(f"psnr_range must increase: found {self.psnr_range}")
        return self

    @property
    def input_psnr(self) -> npt.NDArray[np.float64]:
        """The levels as input PSNR, increasing, dB (S,)."""
        return np.linspace(*self.psnr_range, self.levels)

    @property
    def sigmas(self) -> list[float]:
        """The same levels as σ."""
        return [sigma_of(value) for value in self.input_psnr]


class FittedLevels(PsnrLevels):
    """Noise levels, and those over which a slope is fitted.

    Attributes:
        fit_range: lowest and highest input PSNR that slopes are fitted over, dB.
    """

    levels: int = pydantic.Field(13, ge=3)
    fit_range: tuple[float, float]

    @pydantic.model_validator(mode="after")
    def _enough_for_a_slope(self) -> Self:
        (low, high), (first, last) = self.psnr_range, self.fit_range
        if not low <= first < last <= high:
            raise ValueError(f"fit_range must lie within psnr_range: found {self.fit_range} and {self.psnr_range}")
        inside = int(((self.input_psnr >= first) & (self.input_psnr <= last)).sum())
        if inside < FEWEST_FOR_SLOPE:
            raise ValueError(
                f"a slope needs {FEWEST_FOR_SLOPE} levels within fit_range, {inside} of the {self.levels} are: raise levels"
            )
        return self


def sigma_of(input_psnr: float) -> float:
    """The noise level of an input PSNR."""
    return float(2 * 10 ** (-input_psnr / 20))
