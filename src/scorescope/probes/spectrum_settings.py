"""How much is measured of a Jacobian: settings, which can be read without importing what measures."""

from __future__ import annotations

import pydantic


class SpectrumSettings(pydantic.BaseModel):
    """How much is measured of a Jacobian.

    Attributes:
        eigenpairs: how many of the leading eigenvectors are kept and measured, where there are so many.
        exact_up_to: images of up to so many values have their whole Jacobian computed and decomposed.
        tolerance: residual norm of the eigenpairs of larger images.
        most_products: products after which the eigenpairs of larger images are given up; None for as many as it takes.
        products: products with the Jacobian for each estimate on larger images.
        rotations: random rotations that harmonicity is compared with.
        finite_differences: step for denoisers that are not differentiable; without one they are refused.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    eigenpairs: int = pydantic.Field(64, ge=2)
    exact_up_to: int = pydantic.Field(1600, ge=0)
    tolerance: float = pydantic.Field(1e-3, gt=0)
    most_products: pydantic.PositiveInt | None = None
    products: int = pydantic.Field(60, ge=6)
    rotations: int = pydantic.Field(50, ge=2)
    finite_differences: pydantic.PositiveFloat | None = None
