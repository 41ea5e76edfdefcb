"""Figure 1: output against input PSNR on training and on held-out images, for networks trained on more and more of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from scorescope.denoisers import denoisers
from scorescope.lenses.memorization import Arrays, psnr_of_images
from scorescope.lenses.subject import Trained, chosen
from scorescope.papers.kadkhodaie2024.charts_transition import over_sizes, said
from scorescope.papers.kadkhodaie2024.psnr_gaps import RULE, THRESHOLD, Gaps, level_curves, psnr_gaps
from scorescope.papers.kadkhodaie2024.trained import (
    PAPER,
    PUBLISHED,
    TINY,
    Material,
    TrainedConfig,
    open_material,
    trained_pair,
    training_methods,
)
from scorescope.probes.errors import denoising_psnr
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.landmarks import landmarks_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

CURVES, GAP = "Seen and unseen images", "The transition"
# The error of rounding to 8 bits: a denoiser that gives a training image back is not asked to do better.
HIGHEST_PSNR = 20 * np.log10(255) + 10 * np.log10(12)
SCATTER = 0.2  # dB


class Fig1Config(TrainedConfig):
    """Settings of figure 1.

    Attributes:
        gap_threshold: PSNR gap in dB below which seen and unseen images count as denoised alike.
        compared: denoisers without training, by name, that are measured on the images of the first network.
    """

    gap_threshold: float = pydantic.Field(THRESHOLD, gt=0)
    compared: tuple[str, ...] = ("optimal", "gaussian")


@study
class Fig1(Study[Fig1Config]):
    """PSNR on seen and on unseen images for growing N, and the N at which they meet."""

    name = "kadkhodaie2024/fig1"
    paper = PAPER
    title = "Denoising seen and unseen images"
    question = (
        "From how many training images on does a network denoise images that it has not seen as well as those it has?"
    )
    Config = Fig1Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": TINY, "small": {}, "paper": PUBLISHED}

    def run(self, config: Fig1Config, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError for sizes that the data do not allow."""
        for name in config.compared:
            denoisers[name]  # an unknown name is refused before anything is trained
        material = open_material(config, workspace)
        found, landmarks = [], {}
        for size in config.sizes:
            trained = trained_pair(material, size, config, workspace)
            measured = _measure(trained, config, workspace, f"N={size}")
            found.append(measured)
            landmarks[""] = landmarks_of(trained.first_training, workspace, f"N={size}/landmarks", f"N = {size:,}")
        gaps = psnr_gaps(config.sizes, found, config.gap_threshold)
        results = Results(
            study=self.name, title=self.title, question=self.question, paper=self.paper, landmarks=landmarks
        )
        self._fill(results, config, material, gaps, found)
        return results

    def _fill(self, results: Results, config: Fig1Config, material: Material, gaps: Gaps, found: list[Arrays]) -> None:
        _, height, width = material.images.image_shape
        results.headline = (
            f"On {material.whole.name} at {height}×{width} pixels {gaps.transition.words()}: the gap between seen and unseen"
            f" images falls from {gaps.gap[0]:.1f} dB at N = {gaps.sizes[0]:,} to {gaps.gap[-1]:.2f} dB at"
            f" N = {gaps.sizes[-1]:,}."
        )
        _curves(results, gaps, found, config)
        _gap(results, gaps, found, config)
        _tables(results, gaps, found)
        results.claims += _claims(gaps, config.untested)
        results.methods |= material.methods | training_methods(config) | _methods(config)


def _methods(config: Fig1Config) -> dict[str, str]:
    what = config.measurement
    return {
        "Measurement": f"{what.psnr_images} training images of each network (a smaller set is repeated, with other noise) and"
        f" as many held-out images, {what.psnr_levels} noise levels; PSNR = 10 log10(4 / MSE) for images in [−1, 1]. Denoisers"
        f" without training: up to {HIGHEST_PSNR:.1f} dB, the error of 8 bits.",
        "Rule": RULE.format(threshold=config.gap_threshold),
        "Seed": f"{what.seed} for all noise and choices of the measurements.",
    }


def _measure(trained: Trained, config: Fig1Config, workspace: Workspace, key: str) -> Arrays:
    """PSNRs of the networks as `psnr_of_images` gives them, and of each NAME of ``compared``: ``train/NAME``, ``test/NAME``."""
    arrays: Arrays = dict(workspace.computed(f"{key}/psnr", lambda: psnr_of_images(trained, config.measurement)))
    for name in config.compared:
        arrays |= workspace.computed(f"{key}/{name}", functools.partial(_without_training, name, trained, config))
    return arrays


def _without_training(name: str, trained: Trained, config: Fig1Config) -> Arrays:
    """PSNRs of a training-free denoiser of the first network's images, on the same images and noise, (S, B) each."""
    what = config.measurement
    denoiser = denoisers[name].build(trained.first_training)
    sigmas = trained.sigmas(what.psnr_levels)
    kinds = {"train": trained.first_training, "test": trained.held_out}
    return {
        f"{kind}/{name}": np.minimum(
            denoising_psnr(denoiser, chosen(images, what.psnr_images, what.seed), sigmas, what.seed), HIGHEST_PSNR
        )
        for kind, images in kinds.items()
        if images is not None
    }


def _curves(results: Results, gaps: Gaps, found: list[Arrays], config: Fig1Config) -> None:
    panels = []
    for kind, title in (("train", "training images"), ("test", "held-out images")):
        series = []
        for size, one, colour in zip(gaps.sizes, found, palette.sequence(len(found)), strict=True):
            x, y = level_curves(one, kind)
            series.append(charts.Series(f"N = {size:,}", x, y, colour=colour))
        panels.append(charts.Panel(series, "output PSNR (dB)", title))
    results.add_chart(
        "psnr",
        "Output against input PSNR",
        "With few training images a network denoises those very well (left) and others badly (right); as N grows the left"
        " curves fall and the right ones rise, until both are the same curve. Means over"
        f" {config.measurement.psnr_images} images and two networks; dashed: output equals input.",
        CURVES,
        charts.psnr_in_out(panels, columns=2),
    )


def _gap(results: Results, gaps: Gaps, found: list[Arrays], config: Fig1Config) -> None:
    network = charts.Series("network", gaps.sizes, gaps.gap, gaps.low, gaps.high)
    panels = [charts.Panel([network], "gap (dB)", levels={gaps.threshold: f"{gaps.threshold:g} dB"})]
    held_out = [charts.Series("network", gaps.sizes, gaps.test)]
    caption = (
        f"{said(gaps.transition)}. Above: PSNR on training images less that on held-out"
        " ones, averaged over noise levels; the band is the 95 % interval over images."
    )
    if config.compared:
        others = [
            charts.Series(name, gaps.sizes, [_mean_gap(one, name) for one in found], dashed=True)
            for name in config.compared
        ]
        panels.append(charts.Panel([charts.Series("network", gaps.sizes, gaps.gap), *others], "gap (dB)"))
        held_out += [
            charts.Series(name, gaps.sizes, [_mean(one, f"test/{name}") for one in found], dashed=True)
            for name in config.compared
        ]
        caption += (
            " Middle: the same beside denoisers without training, of the first network's images; the optimal denoiser is"
            " perfect memorization."
        )
    panels.append(charts.Panel(held_out, "held-out PSNR (dB)"))
    figure = over_sizes(panels, [gaps.transition, *[None] * (len(panels) - 1)])
    results.add_chart(
        "gap", "The gap between seen and unseen images", f"{caption} Below: PSNR on held-out images.", GAP, figure
    )
    x = level_curves(found[0], "train")[0]
    colours = palette.sequence(len(found))
    levels = [
        charts.Series(f"N = {size:,}", x, row, colour=colour)
        for size, row, colour in zip(gaps.sizes, gaps.level_gap, colours, strict=True)
    ]
    results.add_chart(
        "gap-by-level",
        "Where the gap is",
        "PSNR on training images less that on held-out ones at every noise level, from strong noise (left) to weak; means"
        f" over {config.measurement.psnr_images} images and two networks.",
        GAP,
        charts.lines(
            charts.Panel(levels, "train − held-out (dB)", levels={0.0: "seen and unseen alike"}),
            charts.INPUT_PSNR,
            x_log=False,
        ),
    )


def _tables(results: Results, gaps: Gaps, found: list[Arrays]) -> None:
    results.add_table(
        "gaps",
        "PSNR and gap for every N",
        "Averaged over noise levels, images and the two networks; interval: 95 %, over images.",
        pd.DataFrame(
            {
                "N": gaps.sizes,
                "train": gaps.train,
                "held-out": gaps.test,
                "gap": gaps.gap,
                "gap from": gaps.low,
                "gap to": gaps.high,
            }
        ),
        formats=dict.fromkeys(("train", "held-out", "gap", "gap from", "gap to"), ".2f"),
        units=dict.fromkeys(("train", "held-out", "gap", "gap from", "gap to"), "dB"),
    )
    rows = []
    for size, one in zip(gaps.sizes, found, strict=True):
        x, seen = level_curves(one, "train")
        _, unseen = level_curves(one, "test")
        for sigma, *values in zip(one["sigma"].astype(float), x, seen, unseen, strict=True):
            rows.append({"N": size, "σ": sigma, "input": values[0], "train": values[1], "held-out": values[2]})
    results.add_table(
        "levels",
        "PSNR at every noise level",
        "Averaged over images and the two networks.",
        pd.DataFrame(rows),
        formats=dict.fromkeys(("input", "train", "held-out"), ".2f"),
        units=dict.fromkeys(("input", "train", "held-out"), "dB"),
    )


def _claims(gaps: Gaps, untested: str) -> list[Claim]:
    unmoved = Rule(at_most=SCATTER, because="what two trainings of one network differ by")
    return [
        Claim(
            "With growing N the PSNR on training images falls.",
            "kadkhodaie2024, figure 1",
            "largest rise of the mean train PSNR from one N to the next",
            None if untested else float(np.diff(gaps.train).max()),
            unmoved,
            unit="dB",
            note=untested,
        ),
        Claim(
            "With growing N the PSNR on held-out images rises.",
            "kadkhodaie2024, figure 1",
            "largest fall of the mean held-out PSNR from one N to the next",
            None if untested else float(-np.diff(gaps.test).min()),
            unmoved,
            unit="dB",
            note=untested,
        ),
        Claim(
            "In the end both are the same: the network generalizes.",
            "kadkhodaie2024, figure 1",
            f"train − held-out PSNR at N = {gaps.sizes[-1]}, averaged over noise levels",
            None if untested else float(gaps.gap[-1]),
            Rule(at_most=0.3, because="the curves are one to the eye"),
            unit="dB",
            interval=None if untested else (float(gaps.low[-1]), float(gaps.high[-1])),
            note=untested or f"at N = {gaps.sizes[0]} the gap is {gaps.gap[0]:.1f} dB",
        ),
    ]


def _mean(one: Arrays, key: str) -> float:
    values: npt.NDArray[np.float64] = one[key].astype(np.float64)
    return float(values.mean())


def _mean_gap(one: Arrays, name: str) -> float:
    return _mean(one, f"train/{name}") - _mean(one, f"test/{name}")
