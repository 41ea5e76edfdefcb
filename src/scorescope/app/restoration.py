"""Restore images of which only linear measurements are known, with the prior of any denoiser."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.app.choices import check_problem
from scorescope.app.denoising import first_shown
from scorescope.app.drawn import Drawn
from scorescope.app.opening import Asked, Images, chosen
from scorescope.app.opening import images as opened_images
from scorescope.app.output import batch_size, shown_columns
from scorescope.data import ImageSet
from scorescope.denoisers import Denoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.subject import mean_intensity
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
from scorescope.study.pictures import Sheet, grid

_SHOWN_EACH, _SHOWN_COLUMNS = 16, 32
BLOCK, SHARES = 4, {"missing-pixels": 0.7, "compressive-sensing": 0.1}
# In units of [-1, 1], the paper's 1 and 0.05 on [0, 1]; networks that were not trained there use their own range.
SIGMA_START, SIGMA_END = 2.0, 0.1


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
class Restorations:
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


@dataclass(frozen=True)
class Restored(Drawn):
    """What came of many restorations.

    Attributes:
        found: errors, and the first images.
        problem: one of `scorescope.app.choices.PROBLEMS`.
        known: what is known of every image, in words.
        count: how many images were restored.
        each: how many times each.
        word: the denoiser's name.
        origin: a sentence that says what it is.
    """

    found: Restorations
    problem: str
    known: str
    count: int
    each: int
    word: str
    origin: str

    def sheet(self) -> Sheet:
        """The first images, what is measured of them, and what came of them."""
        labels = [
            "image",
            "measured",
            *(f"restored {number}" for number in range(1, self._shown_each + 1)),
            "their mean",
        ]
        return grid(self.found.rows.numpy(), row_labels=labels)

    def numbers(self) -> dict[str, Any]:
        """See `Drawn.numbers`."""
        one, mean, known = self._psnr()
        return {
            "denoiser": self.word,
            "problem": self.problem,
            "images": self.count,
            "each": self.each,
            "psnr of one": one,
            "psnr of their mean": mean,
            "psnr of the measurements": known,
            "converged": self.found.converged,
            "most steps": self.found.steps,
            "measurements off by": self.found.off,
        }

    def words(self, where: str = "") -> str:
        """See `Drawn.words`."""
        one, mean, known = self._psnr()
        shown = first_shown(self.found.rows.shape[1], self.count)
        shown_each = first_shown(self._shown_each, self.each).replace("of them", "of each")
        lines = [
            self.origin,
            f"{self.problem} with {self.word}: {self.known}.",
            f"PSNR {one:.2f} dB for one restored image, {mean:.2f} dB for the mean of {self.each}, {known:.2f} dB for the"
            f" measurements over mean intensity; {self.count} images{shown}{shown_each}.",
        ]
        if not mean >= known:
            lines.append(f"Worse than the measurements over mean intensity: what {self.word} adds to them is wrong.")
        lines.append(
            f"{self.found.converged:.0%} converged, in {self.found.steps} steps at most; measurements kept to"
            f" {self.found.off:.1g}{where}"
        )
        return "\n".join(lines)

    @property
    def _shown_each(self) -> int:
        return int(self.found.rows.shape[0]) - 3

    def _psnr(self) -> tuple[float, float, float]:
        one, mean, known = (
            float(psnr(torch.tensor(mse))) for mse in (self.found.one, self.found.mean, self.found.known)
        )
        return one, mean, known


def restore(
    denoiser: Asked,
    images: Images,
    problem: str,
    *,
    amount: float | None = None,
    count: int = 6,
    each: int = 3,
    seed: int = 0,
    h: float = 0.01,
    beta: float = 0.1,
    constant_step: bool = False,
    device: str = "cpu",
) -> Restored:
    """Measure images and draw images that have those measurements, in batches; test images where there are any.

    Args:
        denoiser: the prior: opened, or a name, or a checkpoint.
        images: training images of a named denoiser, and the images that are measured where there are no test images.
        problem: one of `scorescope.app.choices.PROBLEMS`.
        amount: how much is measured, see `measurement_of`.
        count: how many images.
        each: how many restored images for each.
        seed: of everything that is drawn.
        h: first step size of the ascent, in (0, 1].
        beta: share of a step that lowers the noise, in (0, 1].
        constant_step: whether the step size stays as it is.
        device: where a network runs that is opened here.

    Raises:
        UserError: for an unknown problem, an amount that it does not allow, and as `scorescope.app.opening.chosen`.
    """
    split = opened_images(images)
    measurement, words = measurement_of(problem, amount, split.train.image_shape, seed)
    asked = chosen(denoiser, split.train, device)
    low, high = asked.network.sigma_range if asked.network is not None else (0.0, SIGMA_START)
    settings = {"sigma_start": min(SIGMA_START, high), "sigma_end": max(SIGMA_END, low)}
    ascent = Ascent(
        asked.denoiser,
        measurement,
        mean_intensity(split.train, seed),
        {**settings, "h": h, "beta": beta, "h_grows": not constant_step},
    )
    found = restore_all(ascent, split.test or split.train, count, each, seed)
    known = f"{words}; {measurement.count} of {math.prod(measurement.image_shape)} values are known"
    return Restored(found, problem, known, count, each, asked.word, asked.origin)


def restore_all(ascent: Ascent, images: ImageSet, count: int, each: int, seed: int) -> Restorations:
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
    return Restorations(
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
