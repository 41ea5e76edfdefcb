"""Figure 4: networks on C^α images reach nearly the slope that only a basis adapted to the contour can reach.

Images are C^α on both sides of a C^α contour. A denoiser that shrinks in a basis of functions that oscillate along the
contour and in the regular regions (bandlets) attains the optimal PSNR slope ``α/(α+1)``; one that shrinks in wavelets does
not. The paper trains a UNet on each class, finds slopes of 0.46, 0.61, 0.75 and 0.83 for α = 1, 2, 3 and 5, where 0.50,
0.67, 0.75 and 0.83 are optimal, and shows eigenvectors of its Jacobian that oscillate along the contour. The networks of preset
small stay below the optimum; whether that is for want of size and training is measured in `trends`.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from scorescope.papers.kadkhodaie2024.c_alpha import CAlphaConfig, MeasuredCase, measure_cases
from scorescope.papers.kadkhodaie2024.c_alpha_rates import fill
from scorescope.papers.kadkhodaie2024.class_networks import SHORT_RUN
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

PUBLISHED_SLOPES = {1.0: 0.46, 2.0: 0.61, 3.0: 0.75, 5.0: 0.83}
TINY: Mapping[str, Any] = {
    "size": 16,
    "images": 200,
    "test_images": 16,
    "levels": 7,
    "eigen_images": 2,
    "shown": (1, 2, 3, 9),
    "network": {"arguments": {"width": 8}, "training": {"steps": 60, "batch": 16}},
}
PAPER: Mapping[str, Any] = {
    "contours": (1.0, 2.0, 3.0, 4.0, 5.0),
    "size": 80,
    "images": 100_000,
    "test_images": 1000,
    "levels": 31,
    "network": {
        "arguments": {"width": 64},
        "training": {"steps": 200_000, "batch": 512, "learning_rate": 1e-3},
    },
}
SMALL_TRAINING: Mapping[str, Any] = {"steps": 4500, "batch": 16, "objective": SHORT_RUN}
SMALL_UNET: Mapping[str, Any] = {"arguments": {"width": 16}, "training": SMALL_TRAINING}


@study
class Fig4(Study[CAlphaConfig]):
    """PSNR slopes on C^α images."""

    name = "kadkhodaie2024/fig4"
    title = "PSNR slopes on C^α images"
    question = "Do networks denoise images of known regularity at the best rate that is possible?"
    paper = "Kadkhodaie et al. 2024, figure 4"
    Config = CAlphaConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {**TINY, "contours": (1.0, 4.0)},
        "small": {"network": SMALL_UNET},
        "paper": PAPER,
    }

    def run(self, config: CAlphaConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        found = measure_cases(config, workspace)
        results = Results(study=self.name, title=self.title)
        fill(results, found, config, "figure 4", PUBLISHED_SLOPES)
        results.claims.append(growth_claim(found, config, "figure 4"))
        return results


def growth_claim(found: Sequence[MeasuredCase], config: CAlphaConfig, source: str) -> Claim:
    """The slope grows with the regularity of the images, by its smallest step."""
    order = sorted(found, key=lambda one: one.case.optimal)
    steps = [after.slope.value - before.slope.value for before, after in itertools.pairwise(order)]
    few = config.too_small or ("" if steps else "it takes two classes")
    said = f"smallest step {min(steps):.2f}" if steps else ""
    return Claim(
        "The more regular the images, the steeper the slope.",
        f"kadkhodaie2024, {source}",
        "smallest step of the slope from one class to the next more regular one",
        None if few else min(steps),
        Rule(above=0.0),
        note="; ".join(part for part in (few, said if few else "") if part),
    )
