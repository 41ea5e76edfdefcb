"""Denoisers from before networks (BM3D, wavelets) asked to denoise at every level of a diffusion model.

A denoiser is useful at a level as long as it does better than two answers that need no skill: the noisy image itself, and the
mean training image. Where it does worse than the mean image it *fails* there, and a sampler that starts there starts with
an answer that is worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.data.images import ImageSet, to_float
from scorescope.lenses.inputs import HELD_OUT, IN_WORDS, TRAIN, ForwardInputs, forward, outputs
from scorescope.papers.niedoba2025.samples import Cast
from scorescope.probes.distances import squared_difference
from scorescope.probes.errors import RANGE
from scorescope.probes.intervals import Estimate, mean_over_images
from scorescope.study import charts, palette, pictures
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided, series_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

CLASSICAL = "BM3D and wavelets at every noise level"
SOURCE = "niedoba2025, asked for by its reviewers"
CLASSICAL_NAMES = ("bm3d", "wavelet")
MEAN_IMAGE, NOISY = "mean image", "noisy image"
ENOUGH_IMAGES, COLUMNS = 8, 9
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Squared errors at every level.

    Attributes:
        kind: of the inputs.
        sigmas: (S,).
        errors: name -> (S, B), the noisy image and the mean image among the names.
        pictures: name -> what it makes of the first image at every level, (S, C, H, W).
    """

    kind: str
    sigmas: Floats
    errors: dict[str, Floats]
    pictures: dict[str, npt.NDArray[np.floating]]

    def failing(self, name: str) -> list[float]:
        """Levels at which a denoiser is worse than the mean image."""
        worse = self.errors[name].mean(1) > self.errors[MEAN_IMAGE].mean(1)
        return [float(sigma) for sigma in self.sigmas[worse]]


def mean_image(images: ImageSet) -> Floats:
    """The mean of a training set, (C, H, W), streamed."""
    total = np.zeros(images.image_shape)
    for _, pixels in images.chunks(4096):
        total += to_float(pixels).double().sum(0).numpy()
    return np.asarray(total / len(images))


def classical_errors(cast: Cast, workspace: Workspace) -> Errors:
    """Errors of the first network, the Gaussian, BM3D and wavelets as far as they are there; on held-out images if possible."""
    kind = HELD_OUT if cast.comparison.held_out is not None else TRAIN
    inputs = forward(cast.comparison, cast.first, kind)
    assert isinstance(inputs, ForwardInputs)
    clean = inputs.clean.numpy()[None]
    names = [cast.first.name, *(name for name in ("gaussian", *CLASSICAL_NAMES) if name in cast.denoisers)]
    noisy = np.stack([inputs.at(level).numpy() for level in range(len(cast.sigmas))])
    made: dict[str, npt.NDArray[np.floating]] = {NOISY: noisy}
    for name in names:
        made[name] = outputs(name, cast.denoisers[name], inputs, workspace)
    made[MEAN_IMAGE] = np.broadcast_to(mean_image(cast.first.training), noisy.shape)
    errors = {name: squared_difference(each, np.broadcast_to(clean, each.shape)) for name, each in made.items()}
    shown = {name: each[:, 0] for name, each in made.items()}
    return Errors(kind, np.array(cast.sigmas), errors, shown)


def show_classical(results: Results, cast: Cast, found: Errors) -> None:
    """Curves, pictures, a table, and the claim that BM3D fails at high noise."""
    count = found.errors[NOISY].shape[1]
    series = []
    for name, values in found.errors.items():
        colour = {MEAN_IMAGE: palette.RED, NOISY: palette.GOLD}.get(name)
        estimate = _in_decibels(mean_over_images(values))
        series.append(series_of(name, found.sigmas, estimate, colour=colour))
    results.add_chart(
        "classical",
        "Denoising error at every level",
        f"PSNR on {count} {IN_WORDS[found.kind]}; higher is better. Below the line of the mean training image a denoiser"
        " answers worse than one that does not look at the input. Bands: 95 % intervals over images.",
        CLASSICAL,
        charts.lines(charts.Panel(series, "PSNR (dB)", y_range=(_floor(found), None))),
    )
    places = sorted({int(place) for place in np.linspace(0, len(found.sigmas) - 1, COLUMNS).round()})
    results.add_sheet(
        "classical-pictures",
        "One image at every level",
        "What each makes of the same noisy image, noise falling from left to right. Sampling starts at the left.",
        CLASSICAL,
        pictures.grid(
            np.stack([each[places] for name, each in found.pictures.items() if name != MEAN_IMAGE]),
            row_labels=[name for name in found.pictures if name != MEAN_IMAGE],
            column_labels=[f"σ = {found.sigmas[place]:.2g}" for place in places],
        ),
    )
    frame = {"σ": found.sigmas}
    for name, values in found.errors.items():
        frame[f"{name} (dB)"] = 10 * np.log10(RANGE**2 / values.mean(1))
    results.add_table(
        "classical",
        "PSNR at every level",
        f"Mean squared error over {count} {IN_WORDS[found.kind]}, in dB; range 2.",
        pd.DataFrame(frame),
        formats={name: ".2f" for name in frame if name != "σ"},
    )
    results.introductions[CLASSICAL] = _said(found)
    _claim(results, found, count)


def _said(found: Errors) -> str:
    parts = []
    for name in CLASSICAL_NAMES:
        if name not in found.errors:
            parts.append(f"{name} does not take these images")
        elif levels := found.failing(name):
            parts.append(
                f"{name} is worse than the mean training image at {len(levels)} of {len(found.sigmas)} levels, from"
                f" σ = {min(levels):.2g} to {max(levels):.2g}"
            )
        else:
            parts.append(f"{name} is better than the mean training image at every level")
    return f"Where they fail: {'; '.join(parts)}."


def _claim(results: Results, found: Errors, count: int) -> None:
    ratio: Mapping[str, float] = {
        name: float(found.errors[name][0].mean() / found.errors[MEAN_IMAGE][0].mean())
        for name in ("bm3d",)
        if name in found.errors
    }
    results.claims.append(
        decided(
            "BM3D fails as a diffusion denoiser at high noise.",
            SOURCE,
            f"its squared error over that of the mean training image at σ = {found.sigmas[0]:.3g}",
            ratio,
            min,
            Rule(above=1.0, because="worse than not looking at the input"),
            "" if count >= ENOUGH_IMAGES else f"{count} images; at least {ENOUGH_IMAGES} are asked for",
            "bm3d does not take these images, or was not named",
        )
    )


def _in_decibels(errors: Estimate) -> Estimate:
    value, low, high = (
        10 * np.log10(RANGE**2 / np.maximum(each, 1e-12)) for each in (errors.value, errors.high, errors.low)
    )
    return Estimate(value, low, high)


def _floor(found: Errors) -> float:
    """Where the chart ends: the noisy image would pull it down without end."""
    kept = [values.mean(1).max() for name, values in found.errors.items() if name != NOISY]
    return float(10 * np.log10(RANGE**2 / max(kept)) - 2)
