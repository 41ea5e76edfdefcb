"""How much an attribution measures."""

from __future__ import annotations

import pydantic


class AttributionSettings(pydantic.BaseModel):
    """Settings of what is measured of one sample.

    Attributes:
        flow_steps: noise levels of the flow that draws a sample.
        lowest: levels below this one are not looked at: what the picture shows is decided by then.
        every: of the levels above it every so many-th is looked at, from the highest on; the last always.
        sides: sides of windows; some from 3 pixels to nearly the whole image by default.
        top: training images that are kept for every pixel, and shown for every method.
        everywhere_images: training images, those most like the sample, in which all places are looked at; 0 for none.
        everywhere_side: side of the windows there, at most; the schedule of pspc-square, at most half the image, by default.
        left_out: training images that are left out at every level, those with the largest share.
        embedded_images: training images, those most like the sample in pixels, of which features are taken; 0 for none.
        gradient_images: training images, those most like the sample, of which gradients are taken; 0 for none.
        gradient_levels: noise levels of the gradients.
        familiar: training images whose denoising error is compared with that of an image that was given.
        low_match: match below which the attribution is said not to be that of the model.
        seed: of all noise, and of the sample that is drawn.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    flow_steps: int = pydantic.Field(18, ge=2, le=1000)
    lowest: float = pydantic.Field(0.1, gt=0)
    every: int = pydantic.Field(2, ge=1)
    sides: tuple[pydantic.PositiveInt, ...] = ()
    top: int = pydantic.Field(8, ge=1, le=64)
    everywhere_images: int = pydantic.Field(1000, ge=0)
    everywhere_side: pydantic.PositiveInt | None = None
    left_out: int = pydantic.Field(3, ge=0, le=64)
    embedded_images: int = pydantic.Field(10_000, ge=0)
    gradient_images: int = pydantic.Field(256, ge=0)
    gradient_levels: int = pydantic.Field(4, ge=1, le=64)
    familiar: int = pydantic.Field(32, ge=8)
    low_match: float = pydantic.Field(0.55, gt=0, lt=1)
    seed: int = pydantic.Field(0, ge=0)


SIDES = (3, 5, 7, 11, 15, 23, 31, 47)


def sides_for(settings: AttributionSettings, height: int, width: int) -> list[int]:
    """Sides of windows for images of a size: those that were asked for, or the usual ones that are smaller than the image."""
    chosen = settings.sides or SIDES
    return sorted({side for side in chosen if side < max(height, width)}) or [1]
