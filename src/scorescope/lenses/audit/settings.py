"""How much an audit measures, and with what."""

from __future__ import annotations

import pydantic


class AuditSettings(pydantic.BaseModel):
    """Settings of what is measured on samples.

    Attributes:
        features: feature spaces, as `probes.features_opening` names them; the verdict uses the one that finds most planted
            copies.
        flips: whether mirror images of the training images count as such.
        fdr: false discovery rate of the list of copies.
        bound: share of copies, and leakage, up to which a model generalizes.
        allow_wider: whether the verdict may be given at a wider bound, which it says, where samples allow no narrower one.
        calibration: calibration images at most; as many as samples, and at least 5,000, by default.
        planted: copies planted of every kind.
        near: similarity from which two images are near-duplicates.
        regions: whether copied regions are looked for.
        region_images: samples and calibration images, together, in which they are.
        levels: noise levels at which networks denoise.
        denoised: training and unseen images, each, that networks denoise.
        seed: of everything that is drawn.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    features: tuple[str, ...] = pydantic.Field(("pixels", "embedded"), min_length=1)
    flips: bool = False
    fdr: float = pydantic.Field(0.05, gt=0, lt=1)
    bound: float = pydantic.Field(0.1, gt=0, lt=1)
    allow_wider: bool = False
    calibration: int | None = pydantic.Field(None, ge=1)
    planted: int = pydantic.Field(100, ge=5)
    near: float = pydantic.Field(0.995, gt=0, lt=1)
    regions: bool = True
    region_images: int = pydantic.Field(3000, ge=20)
    levels: int = pydantic.Field(9, ge=2)
    denoised: int = pydantic.Field(512, ge=2)
    seed: int = pydantic.Field(0, ge=0)
