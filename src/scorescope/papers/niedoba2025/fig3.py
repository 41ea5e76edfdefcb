"""Figure 3: where networks look. Sensitivity heatmaps over the noise level, and how concentrated they are.

``G(p, σ) = E Σ_c |∂D(y, σ)_{p,c} / ∂y|`` for every output pixel p, exact derivatives, averaged over noisy training images. The
paper finds that networks of every architecture look at a small neighbourhood where noise is low and at more of the image as it
grows: that is what makes patches a candidate for what they compute.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pydantic
from scipy.stats import spearmanr

from scorescope.foundation import UserError
from scorescope.papers.niedoba2025 import concentration as measures
from scorescope.papers.niedoba2025.compared import (
    PAPER,
    PAPER_SETTINGS,
    TINY_SETTINGS,
    ComparedConfig,
    Comparison,
    open_comparison,
)
from scorescope.papers.niedoba2025.concentration import SHARES, Concentration
from scorescope.papers.niedoba2025.deciding import decided, key_of
from scorescope.papers.niedoba2025.network_heatmaps import measured_heatmaps
from scorescope.study.base import Study, study
from scorescope.study.claims import Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SOURCE = "niedoba2025, figure 3"
SENSITIVITY = "Where the networks look"
FEWEST_LEVELS, FEWEST_IMAGES = 6, 2
WIENER = "gaussian"


class Fig3Config(ComparedConfig):
    """Settings of figure 3.

    Attributes:
        heatmap_images: noisy training images that each heatmap is averaged over; as many as `pspc-flex` uses by default, so
            that both share them.
    """

    heatmap_images: int = pydantic.Field(3, ge=1)


@study
class Fig3(Study[Fig3Config]):
    """Sensitivity heatmaps and their concentration."""

    name = "niedoba2025/fig3"
    title = "Where networks look"
    question = "At how large a part of the noisy image does a network look to make one pixel, at which noise level?"
    paper = f"{PAPER}, figure 3"
    Config = Fig3Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {**TINY_SETTINGS, "levels": 5, "sigma_min": 0.05, "sigma_max": 20.0, "heatmap_images": 1},
        "small": {},
        "paper": {**PAPER_SETTINGS, "heatmap_images": 100},
    }

    def run(self, config: Fig3Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        comparison = open_comparison(config, workspace)
        found = measure(comparison, config.heatmap_images, workspace)
        results = Results(study=self.name, title=self.title)
        results.headline = headline(found)
        show(results, found, config.heatmap_images)
        add_claims(results, found, too_few(comparison, config.heatmap_images))
        comparison.describe(results, SENSITIVITY)
        del results.methods["Inputs"], results.methods["Intervals"]
        describe(results, config.heatmap_images)
        return results


def measure(comparison: Comparison, images: int, workspace: Workspace) -> list[Concentration]:
    """Concentration of every network's heatmaps at the levels that it was trained on, and of the Wiener filter's."""
    found = []
    for one in comparison.networks:
        sigmas = [comparison.sigmas[place] for place in one.within(comparison.sigmas)]
        if sigmas:
            heatmaps = measured_heatmaps(one, sigmas, images, comparison.config.seed, workspace)
            size = one.denoiser.image_shape[1:]
            compute = functools.partial(measures.concentration, one.name, heatmaps, sigmas, size)
            found.append(_stored(f"concentration/{one.name}", compute, workspace))
    training = comparison.networks[0].training
    with contextlib.suppress(UserError):  # images too large for a covariance matrix: the page then says so
        compute = functools.partial(measures.of_the_wiener_filter, training, comparison.sigmas)
        found.append(_stored(f"concentration/{WIENER}", compute, workspace))
    return found


def _stored(cell: str, compute: Any, workspace: Workspace) -> Concentration:
    return Concentration(**workspace.computed(cell, lambda: dict(vars(compute()))))


def too_few(comparison: Comparison, images: int) -> str:
    """Why no claim is decided; empty if there is enough."""
    levels = len(comparison.sigmas)
    if levels >= FEWEST_LEVELS and images >= FEWEST_IMAGES:
        return ""
    return f"{levels} noise levels and {images} images; at least {FEWEST_LEVELS} and {FEWEST_IMAGES} are asked for"


def headline(found: Sequence[Concentration]) -> str:
    """How far each network looks at the lowest and at the highest level."""
    parts = []
    for one in found:
        if one.name != WIENER:
            sides = one.mean(SHARES[1])
            parts.append(
                f"{one.name}: {sides[-1]:.1f} at σ = {one.sigmas[-1]:.2g}, {sides[0]:.1f} at σ = {one.sigmas[0]:.2g}"
            )
    if not parts:
        return "No noise level lies where a network was trained."
    return (
        f"Side in pixels of the square that holds {SHARES[1]:.0%} of an output pixel's sensitivity. {'; '.join(parts)}."
    )


def show(results: Results, found: Sequence[Concentration], images: int) -> None:
    """The curves, a sheet for every network, the table."""
    wiener = (
        "Dashed: the training set's Wiener filter, the best linear denoiser."
        if any(one.name == WIENER for one in found)
        else "The Wiener filter is left out: these images are too large for their covariance matrix."
    )
    results.add_chart(
        "concentration",
        "How far around a pixel the networks look",
        "Side of the square around an output pixel that holds a share of its sensitivity, averaged over all output pixels"
        f" (bands: the middle half of them). Heatmaps are averages over {images} noisy training images; of a square that"
        f" goes past the border only what is inside counts. {wiener}",
        SENSITIVITY,
        measures.chart(found),
    )
    for one in found:
        results.add_sheet(
            f"heatmaps-{key_of(one.name)}",
            f"Heatmaps of {one.name if one.name != WIENER else 'the Wiener filter'}",
            "Sensitivity of one output pixel (row, column) to every input pixel, noise falling from left to right; square root,"
            " each scaled to its own largest value.",
            SENSITIVITY,
            measures.sheet(one),
        )
    results.add_table(
        "concentration",
        "Sides of the squares",
        "In pixels, averaged over all output pixels; of squares that go past the border only the inside counts.",
        measures.table(found),
        formats={f"{share:.0%}": ".1f" for share in SHARES},
    )


def add_claims(results: Results, found: Sequence[Concentration], few: str) -> None:
    """Sensitivity spreads as noise grows."""
    numbers = {}
    for one in found:
        if one.name != WIENER and len(one.sigmas) >= FEWEST_LEVELS:
            for share in SHARES:
                rank = spearmanr(one.sigmas, one.mean(share)).statistic
                if np.isfinite(rank):
                    numbers[f"{one.name}, {share:.0%}"] = float(rank)
    results.claims.append(
        decided(
            "The part of the image that a network looks at grows with the noise level.",
            SOURCE,
            "lowest rank correlation, over networks and shares, between σ and the side that holds the share",
            numbers,
            min,
            Rule(at_least=0.9, because="hardly a step back"),
            few,
            f"no network was trained on {FEWEST_LEVELS} of the levels",
        )
    )


def describe(results: Results, images: int) -> None:
    """How heatmaps were measured and where they are."""
    results.methods["Heatmaps"] = (
        f"Exact derivatives by batched vector-Jacobian products, absolute values summed over channels, averaged over {images}"
        " noisy training images a level. They are kept in heatmaps/KEY/sigma=VALUE.npy in the cache of networks"
        " ($SCORESCOPE_CACHE, else ~/.cache/scorescope), one file a noise level, float32 (H, W, H, W), output pixel first;"
        " pspc-flex takes its masks from the same files, and StoredHeatmaps(folder) opens them."
    )
