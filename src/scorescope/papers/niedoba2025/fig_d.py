"""Figures of appendix D: figures 3, 4 and 7 for each other network, and whether they all tell the same.

What a mechanism explains of one network may be an accident of its architecture. Here several networks, trained on the same
images, are measured in the same way, and the order in which the training-free denoisers explain them is compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.stats import spearmanr

from scorescope.lenses.against import KINDS, Against, compare
from scorescope.lenses.inputs import IN_WORDS
from scorescope.lenses.locality import concentrations, describe_heatmaps, show_concentration
from scorescope.lenses.mechanisms import describe
from scorescope.lenses.rivals import Builder, MechanismConfig
from scorescope.papers.niedoba2025 import fig3, fig4, fig7
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS, open_comparison
from scorescope.papers.niedoba2025.fig4 import Fig4Config
from scorescope.study.base import Study, study
from scorescope.study.charts import heat_table
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SOURCE = "niedoba2025, appendix D"
SUMMARY = "Do the networks agree on what explains them?"
FEWEST_DENOISERS = 4


class FigDConfig(Fig4Config):
    """Settings of the figures of appendix D: those of figures 3 and 4, and the denoisers of figure 7.

    Attributes:
        mechanisms: the training-free denoisers; heatmaps are averaged over `heatmap_images`, whatever they say.
    """

    mechanisms: MechanismConfig = MechanismConfig()


@study
class FigD(Study[FigDConfig]):
    """Figures 3, 4 and 7 for several networks."""

    name = "niedoba2025/figD"
    title = "The same of other networks"
    question = "Do networks of other architectures look, and deviate from the optimal denoiser, in the same way?"
    paper = f"{PAPER}, appendix D"
    Config = FigDConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **TINY_SETTINGS,
            "levels": 3,
            "inputs": 2,
            "sigma_min": 0.05,
            "sigma_max": 20.0,
            "heatmap_images": 1,
            "shares": (0.5, 1.0),
            "share_inputs": 1,
            "mechanisms": {
                "names": ("gaussian", "closed-form", "pspc-square", "pspc-flex", "pca-locality"),
                "everywhere_images": 100,
                "stacked_images": 16,
            },
        },
        "small": {"levels": 9, "training": {"architectures": ("ddpm++", "dit", "mlp")}},
        "paper": {
            **PAPER_SETTINGS,
            "heatmap_images": 100,
            "share_inputs": 100,
            "mechanisms": {"everywhere_images": 50_000},
        },
    }

    def run(self, config: FigDConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        comparison = open_comparison(config, workspace)
        mechanisms = config.mechanisms.model_copy(update={"heatmap_images": config.heatmap_images})
        looks = concentrations(comparison, config.heatmap_images, workspace)
        patches = fig4.measure(comparison, config, workspace)
        found, built = compare(comparison, Builder(comparison, mechanisms, workspace), workspace)
        results = comparison.page(self.name, self.title, workspace)
        results.headline = _headline(found)
        _order(results, found)
        show_concentration(results, looks, config.heatmap_images, fig3.SENSITIVITY)
        fig4.show(results, patches, config.inputs)
        for one in comparison.networks:
            fig7.show(results, [each for each in found if each.network == one.name], config.inputs)
        fig7.add_tables(results, found)
        _claim(results, found, comparison.too_few())
        fig3.add_claims(results, looks, fig3.too_few(comparison, config.heatmap_images))
        fig4.add_claims(results, patches, comparison.too_few())
        fig7.add_claims(results, found, comparison.too_few())
        comparison.describe(results, SUMMARY)
        describe_heatmaps(results, config.heatmap_images)
        describe(results, built)
        return results


def _shares(one: Against, found: Sequence[Against]) -> dict[str, float]:
    """Explained deviation of every training-free denoiser over all levels."""
    networks = {each.network for each in found}
    return {name: float(one.overall(name).value[0]) for name in one.names if name not in networks}


def _headline(found: Sequence[Against]) -> str:
    agreements = _agreements(found)
    if not agreements:
        return fig7.headline(found)
    lowest = min(agreements.values())
    return (
        f"Rank correlation of what explains one network with what explains another: {lowest:.2f} or more, over"
        f" {len(agreements)} pairs of networks and kinds of inputs. {fig7.headline(found)}"
    )


def _order(results: Results, found: Sequence[Against]) -> None:
    """A table of denoisers by networks, shaded, for each kind of inputs."""
    for kind in KINDS:
        rows = [one for one in found if one.kind == kind]
        if not rows:
            continue
        shares = [_shares(one, found) for one in rows]
        names = sorted(shares[0], key=lambda name: -float(np.nan_to_num([each[name] for each in shares]).mean()))
        results.add_chart(
            f"order-{kind}",
            f"What explains each network, {kind} inputs",
            f"Explained deviation over all noise levels together, on {IN_WORDS[kind]}: 1, the denoiser is the network; 0, it is"
            " no better than the optimal one. Shades from −0.5 to 1.",
            SUMMARY,
            heat_table(
                [[each[name] for each in shares] for name in names],
                names,
                [one.network for one in rows],
                value_range=(-0.5, 1.0),
            ),
        )


def _agreements(found: Sequence[Against]) -> dict[str, float]:
    """Rank correlation of the denoisers' explained deviations, for every pair of networks and kind of inputs."""
    numbers = {}
    for kind in KINDS:
        rows = {one.network: _shares(one, found) for one in found if one.kind == kind}
        for first, second in itertools.combinations(rows, 2):
            shared = [
                name
                for name in rows[first]
                if name in rows[second] and np.isfinite([rows[first][name], rows[second][name]]).all()
            ]
            if len(shared) >= FEWEST_DENOISERS:
                values = [[rows[network][name] for name in shared] for network in (first, second)]
                numbers[f"{first} and {second} on {IN_WORDS[kind]}"] = float(spearmanr(*values).statistic)
    return {case: value for case, value in numbers.items() if np.isfinite(value)}


def _claim(results: Results, found: Sequence[Against], few: str) -> None:
    results.claims.append(
        decided(
            "Other networks show the same trends.",
            SOURCE,
            "lowest rank correlation between two networks of how much each training-free denoiser explains of them",
            _agreements(found),
            min,
            Rule(at_least=0.8, because="nearly the same order"),
            few,
            f"it takes two networks and {FEWEST_DENOISERS} denoisers",
        )
    )
