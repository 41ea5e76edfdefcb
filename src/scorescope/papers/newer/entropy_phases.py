"""Where local memorization ends: the entropy of the posterior over patch side, noise level and number of training images.

A denoiser that sees a patch memorizes as long as its noisy patch tells which training image it comes from. Hunt, Kamb &
Ganguli (arXiv 2607.08041): what a patch tells, I, belongs to the data and not to how many images there are, so that the
entropy of the posterior is ``S = max(0, ln N − I)`` and the boundary of memorization lies at ``I = ln N``; there the side of
the patch grows in proportion to ``σ √ln N``.

Measured here on squares in the middle of training images, of N images each time, with the exact posterior. For comparison the
boundary that a Gaussian with the patches' covariance would have, ``½ Σ ln(1 + s_k/σ²) = ln N``, and, for whole images, the two
levels of Biroli et al. (arXiv 2402.18491): speciation and collapse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from scorescope.data import ImageSet, load_images
from scorescope.denoisers import OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.noise import log_spaced_sigmas
from scorescope.posterior.moments import principal_components
from scorescope.probes.posterior_entropy import (
    collapse_level,
    gaussian_information,
    middle,
    posterior_entropy,
    speciation_level,
)
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.landmarks import landmarks_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
BIRD, BIROLI = "hunt2026", "biroli2024"
SECTION, LEVELS = "Which patches memorize", "Two noise levels of a training set"
BOUNDARY = math.log(2)  # the posterior is two images, on average
BOTH_ABOVE, ENOUGH_POINTS, ENOUGH_INPUTS = 1.0, 6, 16


class EntropyPhasesConfig(pydantic.BaseModel):
    """Settings.

    Attributes:
        data: a store, or the name of a built-in data set.
        sizes: numbers of training images, each set part of the next; those that the data has.
        sides: of the squares in pixels; those that fit.
        levels: noise levels.
        sigma_min: the lowest, in units of [-1, 1].
        sigma_max: the highest.
        inputs: noisy training images that each entropy is averaged over.
        seed: of the images and the noise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    sizes: tuple[pydantic.PositiveInt, ...] = pydantic.Field((100, 1000, 10_000, 60_000), min_length=2)
    sides: tuple[pydantic.PositiveInt, ...] = pydantic.Field((2, 3, 4, 5, 7, 9, 12, 16, 20, 28), min_length=2)
    levels: int = pydantic.Field(12, ge=2)
    sigma_min: pydantic.PositiveFloat = 0.05
    sigma_max: pydantic.PositiveFloat = 20.0
    inputs: int = pydantic.Field(64, ge=1)
    seed: int = pydantic.Field(0, ge=0)


@study
class EntropyPhases(Study[EntropyPhasesConfig]):
    """Entropy of the posterior over patch side, noise level and number of training images."""

    name = "newer/entropy-phases"
    title = "Which patches memorize"
    question = (
        "At which noise level, patch side and number of training images does a patch still name its training image?"
    )
    paper = "Hunt, Kamb & Ganguli 2026, arXiv 2607.08041; Biroli et al. 2024, arXiv 2402.18491"
    Config = EntropyPhasesConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"data": "digits", "sizes": (30, 100, 300), "sides": (2, 4, 8), "levels": 5, "inputs": 8},
        "small": {},
        "paper": {"data": "cifar10", "sizes": (100, 1000, 10_000, 50_000), "levels": 24, "inputs": 256},
    }

    def run(self, config: EntropyPhasesConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        images = load_images(config.data).train
        order = np.random.default_rng(config.seed).permutation(images.stored)
        sizes = sorted({size for size in config.sizes if size <= images.stored})
        sides = sorted({side for side in config.sides if side <= min(images.image_shape[1:])})
        if len(sizes) < 2 or len(sides) < 2:
            raise UserError(
                f"{images.name} has {images.stored} images {images.image_shape[1:]}: name two sizes and two sides within that"
            )
        sigmas = log_spaced_sigmas(config.levels, config.sigma_min, config.sigma_max).numpy()
        sets = {size: images.subset(order[:size]) for size in sizes}
        entropy = np.stack(
            [
                np.stack([self._entropies(sets[size], side, sigmas, config, workspace) for side in sides])
                for size in track(sizes, "posterior entropies")
            ]
        )  # (sizes, sides, levels, inputs)
        predicted = np.stack([self._information(sets[sizes[-1]], side, sigmas, workspace) for side in sides])
        landmarks = workspace.computed("levels", lambda: _landmarks(sets, config))
        results = Results(study=self.name, title=self.title)
        largest = f"N = {sizes[-1]:,}"
        results.landmarks[""] = landmarks_of(sets[sizes[-1]], workspace, of=largest)
        results.arrays |= {"entropy": entropy, "sigma": sigmas, "gaussian information": predicted}
        _show(results, entropy, predicted, sizes, sides, sigmas)
        _show_landmarks(results, landmarks, sizes)
        _claims(results, entropy, landmarks, sizes, sides, sigmas, config)
        results.headline = _headline(landmarks, entropy, sizes, sides, sigmas)
        results.methods["Posterior"] = (
            f"Squares in the middle of {config.inputs} training images of {images.name}, the same for every N, plus noise;"
            " entropy of the exact posterior over the same squares of N training images, each set part of the next."
        )
        results.methods["Boundary"] = "Where the mean entropy is ln 2: two images on average; linear between sides."
        results.methods["Seed"] = f"{config.seed} for images and noise."
        return results

    def _entropies(
        self, images: ImageSet, side: int, sigmas: Floats, config: EntropyPhasesConfig, workspace: Workspace
    ) -> Floats:
        """(levels, inputs) for one number of images and one side."""

        def measured() -> Floats:
            denoiser = OptimalDenoiser(middle(images, side))
            entries = np.resize(np.arange(min(config.sizes)), config.inputs)
            return np.stack(
                [posterior_entropy(denoiser, entries, float(s), config.seed + k) for k, s in enumerate(sigmas)]
            )

        found: Floats = workspace.computed(f"entropy/{len(images)}/{side}", measured)
        return found

    def _information(self, images: ImageSet, side: int, sigmas: Floats, workspace: Workspace) -> Floats:
        """What a patch would tell if patches were Gaussian, nats, (levels,)."""

        def measured() -> Floats:
            variances = principal_components(middle(images, side)).variances
            return np.array([gaussian_information(variances, float(sigma)) for sigma in sigmas])

        found: Floats = workspace.computed(f"information/{side}", measured)
        return found


def _landmarks(sets: Mapping[int, ImageSet], config: EntropyPhasesConfig) -> dict[str, list[float]]:
    return {
        "speciation": [speciation_level(images) for images in sets.values()],
        "collapse": [collapse_level(images, count=config.inputs, seed=config.seed) for images in sets.values()],
    }


def crossing(places: npt.ArrayLike, values: npt.ArrayLike, level: float) -> float:
    """Where falling values first reach a level, linear between places; NaN where they do not, or start below it."""
    x, y = np.asarray(places, dtype=np.float64), np.asarray(values, dtype=np.float64)
    below = np.flatnonzero(y <= level)
    if not below.size or below[0] == 0:
        return math.nan
    k = int(below[0])
    return float(x[k - 1] + (y[k - 1] - level) / (y[k - 1] - y[k]) * (x[k] - x[k - 1]))


def boundary(entropy: Floats, sides: list[int]) -> Floats:
    """The side at which the mean entropy falls to ln 2, (sizes, levels), from (sizes, sides, levels, inputs)."""
    mean = entropy.mean(3)
    return np.array(
        [[crossing(sides, mean[n, :, k], BOUNDARY) for k in range(mean.shape[2])] for n in range(len(mean))]
    )


def _show(
    results: Results, entropy: Floats, predicted: Floats, sizes: list[int], sides: list[int], sigmas: Floats
) -> None:
    mean = entropy.mean(3)
    results.add_chart(
        "phases",
        f"What is left to know, of {sizes[-1]:,} images",
        "Entropy of the posterior over ln N: 0, the noisy patch names its training image; 1, it tells nothing.",
        SECTION,
        charts.heat_table(
            mean[-1].T / math.log(sizes[-1]),
            [f"σ = {sigma:.2g}" for sigma in sigmas],
            [str(side) for side in sides],
            x_label="side of the patch, pixels",
            value_range=(0.0, 1.0),
        ),
    )
    found = boundary(entropy, sides)
    colours = palette.sequence(len(sizes))
    lines = [charts.Series(f"N = {size:,}", sigmas, found[n], colour=colours[n]) for n, size in enumerate(sizes)]
    gaussian = [crossing(sides, -predicted[:, k], -math.log(sizes[-1])) for k in range(len(sigmas))]
    lines.append(charts.Series(f"Gaussian, N = {sizes[-1]:,}", sigmas, gaussian, colour=palette.INK, dashed=True))
    results.add_chart(
        "boundary",
        "The boundary of memorization",
        "The side from which on a noisy patch names its training image, for each number of images; dashed: where patches that"
        " were Gaussian would, ½ Σ ln(1 + s/σ²) = ln N. Below a line patches generalize.",
        SECTION,
        charts.lines([charts.Panel(lines, "side of the patch, pixels", "Entropy ln 2")]),
    )
    rows = [
        {
            "N": size,
            "side": side,
            "σ": float(sigma),
            "entropy": mean[n, s, k],
            "ln N − entropy": math.log(size) - mean[n, s, k],
        }
        for n, size in enumerate(sizes)
        for s, side in enumerate(sides)
        for k, sigma in enumerate(sigmas)
    ]
    results.add_table("entropies", "Entropy of the posterior", "Mean over noisy patches, in nats.", pd.DataFrame(rows))


def _show_landmarks(results: Results, landmarks: Mapping[str, list[float]], sizes: list[int]) -> None:
    results.add_chart(
        "levels",
        "Speciation and collapse",
        "Above the upper level a noisy image does not tell its kind, below the lower one it names its training image.",
        LEVELS,
        charts.lines(
            [
                charts.Panel(
                    [charts.Series(name, sizes, values) for name, values in landmarks.items()],
                    "noise level σ",
                    "Whole images",
                    y_log=True,
                )
            ],
            x_label="training images",
        ),
    )
    results.add_table("levels", "The two levels", "In units of [−1, 1].", pd.DataFrame({"N": sizes, **landmarks}))


def growth_of_entropy(entropy: Floats, sizes: list[int]) -> Floats:
    """Growth of the mean entropy a unit of ln N, where it is above 1 nat for both numbers of images: 1 if I is the data's."""
    mean, slopes = entropy.mean(3), []
    for n in range(len(sizes) - 1):
        both = (mean[n] > BOTH_ABOVE) & (mean[n + 1] > BOTH_ABOVE)
        slopes.append((mean[n + 1] - mean[n])[both] / math.log(sizes[n + 1] / sizes[n]))
    return np.concatenate(slopes)


def exponent_of_side(found: Floats, sizes: list[int], sigmas: Floats) -> tuple[float, int]:
    """The exponent of ``σ √ln N`` in the boundary's side, by least squares in logarithms, and of how many points."""
    drive = np.log(sigmas)[None] + 0.5 * np.log(np.log(sizes))[:, None]
    known = np.isfinite(found)
    if known.sum() < 2:
        return math.nan, int(known.sum())
    return float(np.polyfit(drive[known], np.log(found[known]), 1)[0]), int(known.sum())


def _claims(
    results: Results,
    entropy: Floats,
    landmarks: Mapping[str, list[float]],
    sizes: list[int],
    sides: list[int],
    sigmas: Floats,
    config: EntropyPhasesConfig,
) -> None:
    few = "" if config.inputs >= ENOUGH_INPUTS else f"{config.inputs} inputs; at least {ENOUGH_INPUTS} are asked for."
    growth = growth_of_entropy(entropy, sizes)
    exponent, points = exponent_of_side(boundary(entropy, sides), sizes, sigmas)
    ratios = [a / b for a, b in zip(landmarks["speciation"], landmarks["collapse"], strict=True)]
    falls = [math.log(b / a) for a, b in zip(landmarks["collapse"], landmarks["collapse"][1:], strict=False)]
    tests: list[tuple[str, str, str, float, Rule, str]] = [
        (
            "What a noisy patch tells of its training image does not depend on how many there are: S = max(0, ln N − I).",
            BIRD,
            "median growth of the entropy a unit of ln N, where it is above 1 nat",
            float(np.median(growth)) if len(growth) else math.nan,
            Rule(at_least=0.8, at_most=1.2, because="0.2 around 1"),
            "" if len(growth) >= ENOUGH_POINTS else f"{len(growth)} places with entropies above 1 nat.",
        ),
        (
            "The side at which patches begin to memorize grows in proportion to σ √ln N.",
            BIRD,
            "exponent of the boundary's side over σ √ln N",
            exponent,
            Rule(at_least=0.75, at_most=1.25, because="a quarter around 1"),
            "" if points >= ENOUGH_POINTS else f"the boundary lies within the sides at {points} places only.",
        ),
        (
            "Speciation happens at a higher noise level than collapse.",
            BIROLI,
            "lowest ratio of the two levels over the numbers of images",
            min(ratios),
            Rule(above=1.0),
            "",
        ),
        (
            "The more training images, the lower the level of collapse.",
            BIROLI,
            "largest change of ln σ_C from one number of images to the next",
            max(falls),
            Rule(below=0.0),
            "",
        ),
    ]
    for sentence, source, quantity, value, rule, reason in tests:
        note = few or reason
        results.claims.append(Claim(sentence, source, quantity, None if note else value, rule, note=note))


def _headline(
    landmarks: Mapping[str, list[float]], entropy: Floats, sizes: list[int], sides: list[int], sigmas: Floats
) -> str:
    exponent, _ = exponent_of_side(boundary(entropy, sides), sizes, sigmas)
    grows = f"the side from which patches memorize grows as (σ √ln N)^{exponent:.2f}" if math.isfinite(exponent) else ""
    levels = (
        f"of {sizes[-1]:,} whole images the kind is settled at σ = {landmarks['speciation'][-1]:.2g}, the training image at"
        f" σ = {landmarks['collapse'][-1]:.2g}"
    )
    said = "; ".join(filter(None, [levels, grows]))
    return f"{said[0].upper()}{said[1:]}."
