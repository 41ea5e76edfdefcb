"""Figures 16 to 18: the C^α experiment of figure 4 with another network, and with contours unlike what they divide.

- Figure 16 trains BF-CNNs, which have no pooling and see a bounded neighbourhood of a pixel. If the slopes stay, they are
  not the work of the UNet's scales.
- Figure 17 has contours that are less regular than the two sides, figure 18 sides that are less regular than the contour.
  What is left of an error in the end is due to the less regular part, so the optimal slope is ``α/(α+1)`` with
  ``α = min(contour, sides)`` in both, and the eigenvectors should oscillate where that part is: along the contour in figure
  17, away from it in figure 18. A class with both exponents the same stands beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from scorescope.papers.kadkhodaie2024.c_alpha import CAlphaConfig, MeasuredCase, measure_cases
from scorescope.papers.kadkhodaie2024.c_alpha_rates import fill
from scorescope.papers.kadkhodaie2024.fig4 import (
    PAPER,
    PUBLISHED_SLOPES,
    SMALL_TRAINING,
    SMALL_UNET,
    TINY,
    growth_claim,
)
from scorescope.probes.slopes import optimal_slope
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

BF_CNN: Mapping[str, Any] = {"architecture": "bf-cnn", "arguments": {"width": 64, "layers": 21}}
SMALL_BF_CNN: Mapping[str, Any] = {
    "architecture": "bf-cnn",
    "arguments": {"width": 24, "layers": 12},
    "training": {**SMALL_TRAINING, "steps": 3000},
}
REGULAR, MIXED = 5.0, (1.0, 2.0)


@study
class Fig16(Study[CAlphaConfig]):
    """The C^α experiment with networks that have no scales."""

    name = "kadkhodaie2024/fig16"
    title = "PSNR slopes on C^α images, BF-CNN"
    question = "Does a network without pooling denoise images of known regularity at the best possible rate, too?"
    paper = "Kadkhodaie et al. 2024, figure 16"
    Config = CAlphaConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **TINY,
            "contours": (1.0, 4.0),
            "network": {
                "architecture": "bf-cnn",
                "arguments": {"width": 8, "layers": 6},
                "training": {"steps": 60, "batch": 16},
            },
        },
        "small": {"size": 32, "network": SMALL_BF_CNN},
        "paper": {**PAPER, "network": {**PAPER["network"], **BF_CNN}},
    }

    def run(self, config: CAlphaConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        found = measure_cases(config, workspace)
        results = Results(study=self.name, title=self.title)
        fill(results, found, config, "figure 16")
        results.claims.append(growth_claim(found, config, "figure 16"))
        return results


class _Mixed(Study[CAlphaConfig]):
    """Contour and sides of different regularity."""

    figure: ClassVar[str]
    Config = CAlphaConfig

    def run(self, config: CAlphaConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        found = measure_cases(config, workspace)
        results = Results(study=self.name, title=self.title)
        fill(results, found, config, self.figure, PUBLISHED_SLOPES)
        results.claims += [governing_claim(found, config, self.figure), lowering_claim(found, config, self.figure)]
        return results


@study
class Fig17(_Mixed):
    """Irregular contours between regular sides."""

    name = "kadkhodaie2024/fig17"
    title = "PSNR slopes, contours less regular than their sides"
    question = "Which of the two regularities governs a network's error where the contour is the less regular part?"
    paper = "Kadkhodaie et al. 2024, figure 17"
    figure = "figure 17"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {**TINY, "contours": (1.0, 4.0), "backgrounds": (4.0, 4.0)},
        "small": {
            "contours": (*MIXED, REGULAR),
            "backgrounds": (REGULAR, REGULAR, REGULAR),
            "network": SMALL_UNET,
        },
        "paper": {**PAPER, "contours": (1.0, 2.0, 3.0, REGULAR), "backgrounds": (REGULAR,) * 4},
    }


@study
class Fig18(_Mixed):
    """Regular contours between irregular sides."""

    name = "kadkhodaie2024/fig18"
    title = "PSNR slopes, sides less regular than their contour"
    question = "Which of the two regularities governs a network's error where the sides are the less regular part?"
    paper = "Kadkhodaie et al. 2024, figure 18"
    figure = "figure 18"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {**TINY, "contours": (4.0, 4.0), "backgrounds": (1.0, 4.0)},
        "small": {
            "contours": (REGULAR, REGULAR, REGULAR),
            "backgrounds": (*MIXED, REGULAR),
            "network": SMALL_UNET,
        },
        "paper": {**PAPER, "contours": (REGULAR,) * 4, "backgrounds": (1.0, 2.0, 3.0, REGULAR)},
    }


def governing_claim(found: Sequence[MeasuredCase], config: CAlphaConfig, source: str) -> Claim:
    """The less regular part governs: a mixed class's slope is nearer to that part's optimum than to the other's."""
    advantages = {}
    for one in found:
        slope, exponents = one.slope.value, (one.case.contour, one.case.background)
        if one.case.mixed:
            nearer = abs(slope - optimal_slope(max(exponents))) - abs(slope - optimal_slope(min(exponents)))
            advantages[one.case.label] = nearer
    return _lowest(
        "The less regular of contour and sides governs the slope.",
        f"kadkhodaie2024, {source}",
        "distance of the slope to the more regular part's optimum minus that to the less regular part's, lowest",
        Rule(above=0.0, because="nearer to the less regular part's optimum"),
        advantages,
        config.too_small or ("" if advantages else "no class has two different exponents"),
    )


def lowering_claim(found: Sequence[MeasuredCase], config: CAlphaConfig, source: str) -> Claim:
    """A less regular part lowers the slope: beside the class that is as regular throughout, trained the same way.

    Networks that stay below every optimum may be nearer to the less regular part's for that reason alone; this comparison
    does not depend on how good they are.
    """
    throughout = {one.case.contour: one.slope.value for one in found if not one.case.mixed}
    drops = {
        one.case.label: throughout[regular] - one.slope.value
        for one in found
        if one.case.mixed and (regular := max(one.case.contour, one.case.background)) in throughout
    }
    return _lowest(
        "A less regular part lowers the slope.",
        f"kadkhodaie2024, {source}",
        "slope of the class that is as regular throughout minus that of the mixed one, lowest",
        Rule(above=0.0),
        drops,
        config.too_small
        or ("" if drops else "no class with two exponents stands beside one that is regular throughout"),
    )


def _lowest(sentence: str, source: str, quantity: str, rule: Rule, values: Mapping[str, float], few: str) -> Claim:
    """A claim that holds if it does for every class: by the lowest of their values, unless `few` says why not to test it."""
    said = ", ".join(f"{label} {value:+.2f}" for label, value in values.items())
    note = "; ".join(part for part in (few, said) if part)
    return Claim(sentence, source, quantity, None if few else min(values.values()), rule, note=note)
