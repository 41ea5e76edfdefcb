"""The command that restores images of which only linear measurements are known, with the prior of any denoiser."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.app.choices import ModelChoice, check_problem, word_for
from scorescope.app.models import open_denoiser
from scorescope.app.networks import first_shown
from scorescope.app.output import PictureFile, batch_size, shown_columns
from scorescope.app.plugins import load_plugins
from scorescope.data import ImageSet, load_images
from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.subject import mean_intensity
from scorescope.posterior.processes import check_same_images
from scorescope.probes.errors import psnr, squared_error
from scorescope.sampling import (
    BlindState,
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

_SHOWN_EACH, _SHOWN_COLUMNS = 16, 32
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
    force: bool = False,
) -> str:
    """Measure images of a data set and draw images that have those measurements, in batches; the first go into a picture.

    Raises UserError for an unknown problem, an amount that it does not allow, and as `open_denoiser`.
    """
    file = PictureFile(out, force)
    load_plugins(plugins)
    images = load_images(data)
    check_same_images(images.train)
    measurement, words = measurement_of(problem, amount, images.train.image_shape, seed)
    denoiser, origin = open_denoiser(choice, images.train, available_device(device))
    low, high = denoiser.sigma_range if isinstance(denoiser, NetworkDenoiser) else (0.0, SIGMA_START)
    ascent = Ascent(
        denoiser,
        measurement,
        mean_intensity(images.train, seed),
        {
            "sigma_start": min(SIGMA_START, high),
            "sigma_end": max(SIGMA_END, low),
            "h": h,
            "beta": beta,
            "h_grows": h_grows,
        },
    )
    of = images.test or images.train
    found = restore_all(ascent, of, count, each, seed)
    shown_each = found.rows.shape[0] - 3
    labels = ["image", "measured", *(f"restored {number}" for number in range(1, shown_each + 1)), "their mean"]
    file.write(grid(found.rows.numpy(), row_labels=labels))
    one, mean, known = (psnr(torch.tensor(mse)).item() for mse in (found.one, found.mean, found.known))
    worse = ""
    if not mean >= known:
        worse = f"Worse than the measurements over mean intensity: what {word_for(choice)} adds to them is wrong.\n"
    return (
        f"{origin}\n{problem} with {word_for(choice)}: {words}; {measurement.count} of"
        f" {math.prod(measurement.image_shape)} values are known.\n"
        f"PSNR {one:.2f} dB for one restored image, {mean:.2f} dB for the mean of {each}, {known:.2f} dB for the measurements"
        f" over mean intensity; {count} images{first_shown(found.rows.shape[1], count)}"
        f"{first_shown(shown_each, each).replace('of them', 'of each')}.\n"
        f"{worse}{found.converged:.0%} converged, in {found.steps} steps at most; measurements kept to {found.off:.1g}: {out}"
    )


@dataclass(frozen=True)
class Ascent:
    """How images are drawn that have given measurements.

    Attributes:
        denoiser: the prior.
        measurement: what is known of every image.
        centre: mean intensity, where nothing is known.
        settings: of `constrained_ascent`.
    """

    denoiser: Denoiser
    measurement: Measurement
    centre: float
    settings: Mapping[str, Any]

    def draw(self, measured: Tensor, generator: torch.Generator) -> BlindState:
        """The last state of one ascent for every row of `measured`, (B, m)."""
        start = start_of(self.measurement, measured, self.centre, self.settings["sigma_start"], generator)
        states = constrained_ascent(self.denoiser, self.measurement, measured, start, generator, **self.settings)
        final: BlindState = last(track(states, "restoring"))
        return final


@dataclass
class Restored:
    """What came of many ascents: mean squared errors, and the first images.

    Attributes:
        one: mean squared error of one restored image.
        mean: that of the mean of those that share an image.
        known: that of the measurements over mean intensity.
        converged: share of the ascents that reached the lowest noise level.
        steps: the most that one took.
        off: largest difference of a restored image's measurements from those given.
        rows: image, measurements, restored images and their mean, (R, K, C, H, W).
    """

    one: float
    mean: float
    known: float
    converged: float
    steps: int
    off: float
    rows: Tensor


def restore_all(ascent: Ascent, images: ImageSet, count: int, each: int, seed: int) -> Restored:
    """Restore `count` of the images `each` times, in batches whose memory does not grow with either number."""
    measurement = ascent.measurement
    size = batch_size(measurement.image_shape)
    order = np.random.default_rng(seed).permutation(images.stored)
    shown_each = min(each, _SHOWN_EACH)
    columns = shown_columns(measurement.image_shape, shown_each + 3, count, _SHOWN_COLUMNS)
    generator = torch.Generator().manual_seed(seed)
    one = mean = known = converged = off = 0.0
    steps = 0
    shown: list[Tensor] = []
    at_once = max(1, size // each)
    starts: Iterable[int] = range(0, count, at_once)
    if count > at_once:
        starts = track(starts, "restoring in batches", -(-count // at_once))
    for start in starts:
        clean = images.tensor(order[np.arange(start, min(start + at_once, count)) % images.stored])
        measured = measurement.measure(clean)
        guess = measurement.impose(torch.full_like(clean, ascent.centre), measured)
        total, first = torch.zeros_like(clean), []
        for repeated in range(0, each, size):
            times = min(size, each - repeated)
            final = ascent.draw(measured.repeat_interleave(times, 0), generator)
            off = max(
                off, float((measurement.measure(final.denoised) - measured.repeat_interleave(times, 0)).abs().max())
            )
            converged += float(final.converged.sum())
            steps = max(steps, int(final.steps.max()))
            samples = final.denoised.reshape(len(clean), times, *measurement.image_shape)
            one += float((samples - clean[:, None]).double().square().mean((2, 3, 4)).sum())
            total += samples.sum(1)
            first += list(samples[:, : max(0, shown_each - repeated)].unbind(1))
        average = total / each
        mean += float(squared_error(average, clean).sum())
        known += float(squared_error(guess, clean).sum())
        if start < columns:
            shown.append(torch.stack([clean, guess, *first, average])[:, : columns - start])
    return Restored(
        one / (count * each), mean / count, known / count, converged / (count * each), steps, off, torch.cat(shown, 1)
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
    check_problem(problem)
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
    if not (float(amount).is_integer() and abs(amount) < 1e6):
        raise UserError(f"--amount {amount:g}: {problem} takes a whole number of pixels, within the image")
    return int(amount)
