"""The command that restores images of which only linear measurements are known, with the prior of any denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from scorescope.app.models import ModelChoice, open_denoiser, word_for
from scorescope.app.networks import write_once
from scorescope.app.plugins import load_plugins
from scorescope.data import load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.measurements import chosen, mean_intensity
from scorescope.posterior.processes import check_same_images
from scorescope.probes.errors import psnr
from scorescope.sampling import (
    BlockAverages,
    Inpainting,
    Measurement,
    RandomDirections,
    constrained_ascent,
    last,
    start_of,
)
from scorescope.study.pictures import grid
from scorescope.study.workspace import available_device

PROBLEMS = ("inpainting", "missing-pixels", "super-resolution", "compressive-sensing")
BLOCK, SHARES = 4, {"missing-pixels": 0.7, "compressive-sensing": 0.1}
# In units of [-1, 1], the paper's 1 and 0.05 on [0, 1]; networks that were not trained there use their own range.
SIGMA_START, SIGMA_END = 2.0, 0.1


def restore(
    choice: str | ModelChoice,
    data: str,
    problem: str,
    amount: float | None,
    out: Path,
    count: int,
    each: int,
    seed: int,
    h: float,
    beta: float,
    h_grows: bool,
    device: str,
    plugins: Sequence[Path],
) -> str:
    """Measure images of a data set and draw images that have those measurements, into a PNG file.

    Raises UserError for an unknown problem, an amount that it does not allow, and as `open_denoiser`.
    """
    load_plugins(plugins)
    images = load_images(data)
    check_same_images(images.train)
    measurement, words = measurement_of(problem, amount, images.train.image_shape, seed)
    denoiser, origin = open_denoiser(choice, images.train, available_device(device))
    low, high = denoiser.sigma_range if isinstance(denoiser, NetworkDenoiser) else (0.0, SIGMA_START)
    clean = chosen(images.test or images.train, count, seed)
    centre = mean_intensity(images.train, seed)
    measured = measurement.measure(clean)
    repeated = measured.repeat_interleave(each, 0)
    sigma_start = min(SIGMA_START, high)
    generator = torch.Generator().manual_seed(seed)
    states = constrained_ascent(
        denoiser,
        measurement,
        repeated,
        start_of(measurement, repeated, centre, sigma_start, generator),
        generator,
        sigma_start=sigma_start,
        sigma_end=max(SIGMA_END, low),
        h=h,
        beta=beta,
        h_grows=h_grows,
    )
    final = last(track(states, "restoring"))
    samples = final.denoised.reshape(count, each, *measurement.image_shape)
    guess = measurement.impose(torch.full_like(clean, centre), measured)
    average = samples.mean(1, keepdim=True)
    rows = np.stack([image.numpy() for image in (clean, guess, *samples.unbind(1), average[:, 0])])
    labels = ["image", "measured", *(f"restored {number}" for number in range(1, each + 1)), "their mean"]
    write_once(out, grid(rows, row_labels=labels).png())
    off = (measurement.measure(final.denoised) - repeated).abs().max().item()
    one, mean, known = (psnr((found - clean[:, None]).square().mean()) for found in (samples, average, guess[:, None]))
    return (
        f"{origin}\n{problem} with {word_for(choice)}: {words}; {measurement.count} of {clean[0].numel()} values are known.\n"
        f"PSNR {one:.2f} dB for one restored image, {mean:.2f} dB for the mean of {each}, {known:.2f} dB for the measurements"
        f" over mean intensity; {count} images.\n"
        f"{final.converged.float().mean():.0%} converged, in {int(final.steps.max())} steps at most; measurements kept to"
        f" {off:.1g}: {out}"
    )


def measurement_of(
    problem: str, amount: float | None, image_shape: tuple[int, int, int], seed: int
) -> tuple[Measurement, str]:
    """What is known of images (C, H, W) in one of `PROBLEMS`, and that in words.

    The amount is the side of a hidden square in the middle (by default half the image's), the share of missing pixels, the
    side of blocks whose averages are known, or the share of as many random measurements as there are values.

    Raises UserError for an unknown problem, or an amount that it does not allow.
    """
    channels, height, width = image_shape
    generator = torch.Generator().manual_seed(seed)
    if problem == "inpainting":
        side = _whole(amount if amount is not None else min(height, width) // 2, problem)
        if not 1 <= side < min(height, width):
            raise UserError(
                f"a hidden square of side {side}: between 1 and {min(height, width) - 1} in {height}×{width} pixels"
            )
        known = torch.ones(height, width, dtype=torch.bool)
        top, left = (height - side) // 2, (width - side) // 2
        known[top : top + side, left : left + side] = False
        return Inpainting(known, channels), f"a square of side {side} is hidden"
    if problem == "super-resolution":
        side = _whole(amount if amount is not None else BLOCK, problem)
        return BlockAverages(image_shape, side), f"averages of {side}×{side} blocks are known"
    if problem not in PROBLEMS:
        raise UserError(f"there is no problem {problem!r}: choose of {', '.join(PROBLEMS)}")
    share = amount if amount is not None else SHARES[problem]
    if not 0 < share < 1:
        raise UserError(f"--amount {share:g}: {problem} takes a share between 0 and 1")
    if problem == "missing-pixels":
        order = torch.randperm(height * width, generator=generator)
        missing = min(max(round(share * height * width), 1), height * width - 1)
        known = torch.ones(height * width, dtype=torch.bool)
        known[order[:missing]] = False
        return Inpainting(known.reshape(height, width), channels), f"{share:.0%} of the pixels are missing"
    values = channels * height * width
    count = min(max(round(share * values), 1), values - 1)
    return RandomDirections(image_shape, count, generator), f"{count} random measurements are known"


def _whole(amount: float, problem: str) -> int:
    if not float(amount).is_integer():
        raise UserError(f"--amount {amount:g}: {problem} takes a whole number of pixels")
    return int(amount)
