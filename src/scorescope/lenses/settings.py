"""How much is measured: the settings that jobs and figures share, and those of the lenses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

from scorescope.probes.spectrum_settings import SpectrumSettings

MORE_IMAGES = 4
"""How many times as many images the PSNR of a second look at a verdict is averaged over."""


class MeasurementConfig(pydantic.BaseModel):
    """How much is measured.

    Attributes:
        psnr_levels: noise levels of the PSNR curves.
        psnr_images: training images and held-out images, each, that they are averaged over.
        samples: samples drawn from each network.
        more_samples: how many more, once, where those leave the verdict undecided and more can decide; then PSNR is
            averaged over four times as many images as well.
        sampler_h: first step of the blind ascent.
        sampler_h_grows: whether its steps grow (see `blind_ascent`); otherwise all are as large as the first.
        sampler_beta: share of a step of the blind ascent that lowers the noise.
        sigma_end: noise level at which the blind ascent stops, in units of [-1, 1].
        flow_steps: sigmas of the flow, for networks that are told sigma.
        deviation_levels: noise levels at which denoisers are compared.
        deviation_inputs: forward inputs, and reverse trajectories, a level.
        example_levels: noise levels of the denoised examples.
        seed: of every noise that is drawn.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    psnr_levels: int = pydantic.Field(9, ge=2)
    psnr_images: int = pydantic.Field(384, ge=1)
    samples: int = pydantic.Field(64, ge=2)
    more_samples: int = pydantic.Field(0, ge=0)
    sampler_h: float = pydantic.Field(0.01, gt=0, le=1)
    sampler_h_grows: bool = True
    sampler_beta: float = pydantic.Field(0.1, gt=0, le=1)
    sigma_end: float = pydantic.Field(0.05, gt=0)
    flow_steps: int = pydantic.Field(18, ge=2)
    deviation_levels: int = pydantic.Field(10, ge=2)
    deviation_inputs: int = pydantic.Field(16, ge=1)
    example_levels: int = pydantic.Field(4, ge=2)
    seed: int = pydantic.Field(0, ge=0)


TINY: Mapping[str, Any] = {
    "psnr_levels": 4,
    "psnr_images": 32,
    "samples": 8,
    "sampler_beta": 0.5,
    "sigma_end": 0.3,
    "deviation_levels": 4,
    "deviation_inputs": 4,
    "example_levels": 2,
}
PAPER: Mapping[str, Any] = {"samples": 1000, "psnr_images": 1000, "deviation_inputs": 100, "deviation_levels": 20}
"""What the presets of that name measure."""


class LensSettings(MeasurementConfig):
    """How much the lenses of `explain` measure, besides.

    Attributes:
        deviation_inputs: fewer by default than where only cheap denoisers are compared.
        costly_mechanisms: whether denoisers that take long are compared without being named.
        everywhere_images: training images of the denoisers that look in every place of them.
        stacked_images: held-out images that the mixture of denoisers is fitted on.
        heatmap_images: noisy training images that sensitivity heatmaps are averaged over.
        heatmap_pixels: output pixels of the heatmaps, on a grid; None for all of them, which `pspc-flex` needs.
        patch_inputs: states a level on which patches of every side are compared.
        patch_sides: how many sides; None for all odd ones.
        flows: trajectories at most along which the target's variance is measured.
        spectrum_images: noisy images at which the derivative is decomposed.
        spectrum_levels: at how many noise levels.
        explorer_images: noisy images of each kind that the explorer shows, as far as a page of 15 MB has room for them.
        explorer_pixels: output pixels of each, on a grid, that it knows the origin of.
        explorer_sides: sides of the windows around them.
        explorer_patches: training patches behind each.
        spectrum: how much of each; images of more values than `exact_up_to` are decomposed from `most_products` products.
    """

    deviation_inputs: int = pydantic.Field(10, ge=1)
    costly_mechanisms: bool = True
    everywhere_images: int = pydantic.Field(500, ge=1)
    stacked_images: int = pydantic.Field(64, ge=1)
    heatmap_images: int = pydantic.Field(2, ge=1)
    heatmap_pixels: pydantic.PositiveInt | None = None
    patch_inputs: int = pydantic.Field(4, ge=1)
    patch_sides: int | None = pydantic.Field(None, ge=2)
    flows: int = pydantic.Field(16, ge=1)
    spectrum_images: int = pydantic.Field(3, ge=1)
    spectrum_levels: int = pydantic.Field(4, ge=1)
    explorer_images: int = pydantic.Field(2, ge=1)
    explorer_pixels: int = pydantic.Field(36, ge=1)
    explorer_sides: int = pydantic.Field(6, ge=2)
    explorer_patches: int = pydantic.Field(4, ge=1)
    spectrum: SpectrumSettings = SpectrumSettings(
        eigenpairs=32, exact_up_to=1024, tolerance=1e-2, most_products=160, products=30, rotations=30
    )
