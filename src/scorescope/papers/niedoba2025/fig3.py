"""Figure 3: where networks look. Sensitivity heatmaps over the noise level, and how concentrated they are.

``G(p, σ) = E Σ_c |∂D(y, σ)_{p,c} / ∂y|`` for every output pixel p, exact derivatives, averaged over noisy training images. The
paper finds that networks of every architecture look at a small neighbourhood where noise is low and at more of the image as it
grows: that is what makes patches a candidate for what they compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pydantic
from scipy.stats import spearmanr

from scorescope.lenses.comparison import Comparison
from scorescope.lenses.locality import WIENER, concentrations, describe_heatmaps, show_concentration
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS, ComparedConfig, open_comparison
from scorescope.probes.concentration import SHARES, Concentration
from scorescope.study.base import Study, study
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SOURCE = "niedoba2025, figure 3"
SENSITIVITY = "Where the networks look"
FEWEST_LEVELS, FEWEST_IMAGES = 6, 2


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
        found = concentrations(comparison, config.heatmap_images, workspace)
        results = comparison.page(self.name, self.title, workspace)
        results.headline = headline(found)
        show_concentration(results, found, config.heatmap_images, SENSITIVITY)
        add_claims(results, found, too_few(comparison, config.heatmap_images))
        comparison.describe(results, SENSITIVITY)
        del results.methods["Inputs"], results.methods["Intervals"]
        describe_heatmaps(results, config.heatmap_images)
        return results


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
