"""Figure 7: every training-free denoiser against every network, on forward and reverse inputs.

The optimal denoiser says what a network would do if it memorized. Each other denoiser drops one of its assumptions: the patch
denoisers that a pixel depends on the whole image, the Gaussian all but mean and covariance. Whichever is closest to the
networks says best what they do instead. The paper: patches, and patches that follow the network's sensitivity most of all.

`stacked` is not in the paper: the mixture of training-free denoisers that best denoises unseen images. It never sees a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from scorescope.lenses.against import (
    KINDS,
    Against,
    classes_table,
    compare,
    levels_table,
    overall_table,
)
from scorescope.lenses.inputs import IN_WORDS
from scorescope.lenses.mechanisms import GAUSSIAN, PCA, SQUARE, describe, halves, show_explained
from scorescope.lenses.rivals import FLEX, STACKED, Builder, MechanismConfig
from scorescope.lenses.subject import OPTIMAL
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS, ComparedConfig, open_comparison
from scorescope.probes.intervals import mean_over_images
from scorescope.study import charts
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.deciding import decided, key_of, series_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SOURCE = "niedoba2025, figure 7"
CLOSED_FORM = "closed-form"
MIDDLE = (0.3, 3.0)
TIE = 0.01
LOWEST_SHOWN = 1e-5


class Fig7Config(ComparedConfig):
    """Settings of figure 7.

    Attributes:
        mechanisms: the training-free denoisers.
    """

    mechanisms: MechanismConfig = MechanismConfig()


@study
class Fig7(Study[Fig7Config]):
    """Every training-free denoiser against every network."""

    name = "niedoba2025/fig7"
    title = "Training-free denoisers against networks"
    question = "Which training-free denoiser is closest to what networks compute, at which noise level?"
    paper = f"{PAPER}, figure 7"
    Config = Fig7Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **TINY_SETTINGS,
            "levels": 5,
            "sigma_min": 0.05,
            "sigma_max": 20.0,
            "mechanisms": {"heatmap_images": 1, "everywhere_images": 100, "stacked_images": 16},
        },
        "small": {},
        "paper": {**PAPER_SETTINGS, "mechanisms": {"heatmap_images": 100, "everywhere_images": 50_000}},
    }

    def run(self, config: Fig7Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        comparison = open_comparison(config, workspace)
        found, built = compare(comparison, Builder(comparison, config.mechanisms, workspace), workspace)
        results = comparison.page(self.name, self.title, workspace)
        results.headline = headline(found)
        for one in comparison.networks:
            show(results, [each for each in found if each.network == one.name], config.inputs)
        add_tables(results, found)
        add_claims(results, found, comparison.too_few())
        comparison.describe(results, section(comparison.networks[0].name))
        describe(results, built)
        return results


def section(network: str) -> str:
    """The heading under which a network's charts stand."""
    return f"Against {network}"


def headline(found: Sequence[Against]) -> str:
    """Which denoiser comes closest to each network on held-out inputs, or on those there are, over all levels."""
    parts = []
    for network in dict.fromkeys(one.network for one in found):
        rows = [one for one in found if one.network == network]
        chosen = next((one for one in rows if one.kind == KINDS[1]), rows[0])
        shares = {name: float(chosen.overall(name).value[0]) for name in _training_free(chosen, found)}
        known = {name: share for name, share in shares.items() if np.isfinite(share)}
        if known:
            best = max(known, key=lambda name: known[name])
            parts.append(f"{best} explains {known[best]:.0%} of what {network} does instead of memorizing")
    if not parts:
        return "The networks deviate from the optimal denoiser too little for any mechanism to explain."
    return f"On {IN_WORDS[chosen.kind]}, over all noise levels together: {'; '.join(parts)}."


def show(results: Results, found: Sequence[Against], inputs: int) -> None:
    """The charts and pictures of one network."""
    found = [one for one in found if len(one.sigmas)]
    if not found:
        return
    show_explained(results, found, inputs, section(found[0].network))
    network, key = found[0].network, key_of(found[0].network)
    on = f"{inputs} noisy images a level; bands: 95 % intervals."
    results.add_chart(
        f"mse-{key}",
        f"Distance to {network}",
        f"Mean squared difference a pixel between {network} and each denoiser, images in [−1, 1]: low is close; cut off below"
        f" {LOWEST_SHOWN:g}. {on}",
        section(network),
        _beside(found, lambda one, name: one.distances(name), "mean squared difference", y_log=True),
    )
    results.add_chart(
        f"cosine-{key}",
        f"Similarity to {network}",
        f"Cosine similarity, each image centred by its own mean, between what {network} and each denoiser make. {on}",
        section(network),
        _beside(found, lambda one, name: mean_over_images(one.cosine[name]), "cosine similarity", y_log=False),
    )


def _beside(found: Sequence[Against], estimate: Any, label: str, *, y_log: bool) -> Figure:
    panels = [
        charts.Panel(
            [series_of(name, one.sigmas, estimate(one, name)) for name in [OPTIMAL, *names]],
            label,
            f"{one.kind}, {title}",
            y_log=y_log,
            y_range=(LOWEST_SHOWN, None) if y_log else (-0.25, 1.05),
        )
        for one in found
        for title, names in halves(one).items()
    ]
    return charts.lines(panels, columns=2, heights=[1.75] * len(found))


def add_tables(results: Results, found: Sequence[Against]) -> None:
    """All numbers."""
    results.add_table(
        "overall",
        "Explained deviation over all noise levels",
        "1 minus the summed squared distance to the denoiser over the summed distance to the optimal one, with its 95 %"
        " interval; empty where the gap is negligible.",
        overall_table(found),
    )
    classes = classes_table(found)
    if len(classes):
        results.add_table(
            "classes",
            "The same within each class",
            "Averaged over the images of one class; for reverse inputs that of the training image nearest to the sample.",
            classes,
        )
    results.add_table(
        "levels",
        "Every denoiser at every level",
        "Mean squared difference to the network, cosine similarity and explained deviation, with 95 % intervals.",
        levels_table(found),
    )


def add_claims(results: Results, found: Sequence[Against], few: str) -> None:
    """The paper's claims, each decided by the network and kind of inputs for which it holds least, and our own."""
    negligible = "the gap is negligible, or the denoiser was not compared"

    def claim(
        sentence: str, source: str, quantity: str, numbers: dict[str, float], rule: Rule, missing: str = negligible
    ) -> Claim:
        return decided(sentence, source, quantity, numbers, min, rule, few, missing)

    results.claims += [
        claim(
            "PSPC is closer to the networks than the optimal denoiser is, at every noise level.",
            SOURCE,
            "lowest explained deviation of PSPC-Square and PSPC-Flex over the levels at which they differ from the optimal one",
            _lowest(found, (SQUARE, FLEX), _over_optimal),
            Rule(above=0.0),
        ),
        claim(
            "PSPC is closer to the networks than the smoothed closed form, at every noise level.",
            SOURCE,
            "lowest advantage in mean squared difference over all levels, as a share of the gap",
            _lowest(found, (SQUARE, FLEX), lambda one, name: _advantage(one, name, CLOSED_FORM, one.measurable)),
            Rule(at_least=-TIE, because="a hundredth of the gap is a tie"),
        ),
        claim(
            "PSPC is closer to the networks than the Gaussian denoiser for σ in [0.3, 3].",
            SOURCE,
            "lowest advantage in mean squared difference over the levels in that range, as a share of the gap",
            _lowest(found, (SQUARE, FLEX), lambda one, name: _advantage(one, name, GAUSSIAN, _between(one))),
            Rule(above=0.0),
            "no level in that range, or the denoiser was not compared",
        ),
        claim(
            "PSPC-Flex is closer to the networks than PSPC-Square.",
            SOURCE,
            "explained deviation of PSPC-Flex over all levels together, minus that of PSPC-Square",
            _overall_advantage(found, FLEX, (SQUARE,)),
            Rule(above=0.0),
        ),
        claim(
            "The mixture that best denoises unseen images is closer to the networks than PSPC-Flex, PCA locality and the"
            " Gaussian.",
            "this project",
            "explained deviation of stacked over all levels together, minus that of the best of the three",
            _overall_advantage(found, STACKED, (FLEX, PCA, GAUSSIAN)),
            Rule(above=0.0),
        ),
    ]


def _training_free(one: Against, found: Sequence[Against]) -> list[str]:
    networks = {each.network for each in found}
    return [name for name in one.names if name not in networks]


def _lowest(found: Sequence[Against], names: Sequence[str], number: Any) -> dict[str, float]:
    """Case -> number(one, name), for the networks, inputs and denoisers where it is one."""
    numbers = {}
    for one in found:
        for name in names:
            value = number(one, name) if name in one.distance else None
            if value is not None and np.isfinite(value):
                numbers[f"{name} to {one.network} on {IN_WORDS[one.kind]}"] = float(value)
    return numbers


def _over_optimal(one: Against, name: str) -> float | None:
    """The lowest explained deviation where the denoiser is not the optimal one itself."""
    differs = one.measurable & (np.abs(one.mean(name) - one.gap) > 1e-6 * one.gap)
    return float(one.explained(name).value[differs].min()) if differs.any() else None


def _advantage(one: Against, name: str, rival: str, levels: Any) -> float | None:
    """How much closer a denoiser is than another, over the gap, at the worst of some levels."""
    levels = levels & one.measurable
    if rival not in one.distance or not levels.any():
        return None
    return float(((one.mean(rival) - one.mean(name)) / one.gap)[levels].min())


def _between(one: Against) -> Any:
    return (one.sigmas >= MIDDLE[0]) & (one.sigmas <= MIDDLE[1])


def _overall_advantage(found: Sequence[Against], name: str, rivals: Sequence[str]) -> dict[str, float]:
    numbers = {}
    for one in found:
        others = [float(one.overall(rival).value[0]) for rival in rivals if rival in one.distance]
        if name in one.distance and others and np.isfinite(others).all():
            numbers[f"{one.network} on {IN_WORDS[one.kind]}"] = float(one.overall(name).value[0]) - max(others)
    return {case: value for case, value in numbers.items() if np.isfinite(value)}
