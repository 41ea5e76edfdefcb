"""Figure 2: how far networks are from the optimal denoiser over the noise level, and whether they agree with each other.

``gap(σ) = E‖D(y, σ) − D*(y, σ)‖²`` a value, D* being the optimal denoiser of D's own training images. The paper finds it small
where noise is low (the input says it all) and high (the mean image is all there is to say), large between, and the same
for every architecture: so what networks do instead of memorizing is not an accident of one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic

from scorescope.lenses.comparison import Comparison
from scorescope.lenses.inputs import HELD_OUT, IN_WORDS, TRAIN, forward, outputs
from scorescope.noise import log_spaced_sigmas
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS, ComparedConfig, open_comparison
from scorescope.probes.attribution import NEGLIGIBLE_GAP
from scorescope.probes.distances import angle, cosine, squared_difference
from scorescope.probes.intervals import Estimate, mean_over_images
from scorescope.study import charts, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided, series_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

DEVIATION = "How far from the optimal denoiser"
AGREEMENT = "Do the networks agree?"
EXAMPLES = "What they make of one image"
SOURCE = "niedoba2025, figure 2"
MIDDLE = (0.3, 10.0)
LOW_END, HIGH_END = 0.05, 30.0
SHOWN_LEVELS = 8
Floats = npt.NDArray[np.float64]


class Fig2Config(ComparedConfig):
    """Settings of figure 2; noise levels have equal steps in log σ.

    Attributes:
        levels: how many.
        sigma_min: the lowest.
        sigma_max: the highest.
    """

    levels: int = pydantic.Field(60, ge=2)
    sigma_min: pydantic.PositiveFloat = 0.01
    sigma_max: pydantic.PositiveFloat = 100.0

    def spaced(self) -> Any:
        """See `ComparedConfig.spaced`."""
        return log_spaced_sigmas(self.levels, self.sigma_min, self.sigma_max)


@dataclass(frozen=True)
class Gaps:
    """What was measured.

    Attributes:
        sigmas: (S,).
        gap: kind of inputs -> network -> squared differences to the optimal denoiser, (S, B).
        outputs: kind of inputs -> pair of networks -> cosine of what they make of the same inputs, (S, B).
        deviations: the same of what they make minus what the optimal denoiser makes.
        examples: one held-out image at a few levels: noisy, networks, optimal denoiser, (R, L, C, H, W).
        shown: the levels of the examples, places in `sigmas`.
    """

    sigmas: Floats
    gap: dict[str, dict[str, Floats]]
    outputs: dict[str, dict[str, Floats]]
    deviations: dict[str, dict[str, Floats]]
    examples: npt.NDArray[np.floating]
    shown: list[int]


@study
class Fig2(Study[Fig2Config]):
    """Networks against the optimal denoiser."""

    name = "niedoba2025/fig2"
    title = "Networks against the optimal denoiser"
    question = (
        "At which noise levels does a network deviate from its training set's own denoiser, and do all in the same way?"
    )
    paper = f"{PAPER}, figure 2"
    Config = Fig2Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {**TINY_SETTINGS, "levels": 9},
        "small": {},
        "paper": {**PAPER_SETTINGS, "levels": 150},
    }

    def run(self, config: Fig2Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        comparison = open_comparison(config, workspace)
        found = measure(comparison, workspace)
        results = comparison.page(self.name, self.title, workspace)
        _headline(results, comparison, found)
        _deviation(results, comparison, found)
        _agreement(results, comparison, found)
        _examples(results, comparison, found)
        _table(results, found)
        _claims(results, comparison, found)
        comparison.describe(results, DEVIATION)
        return results


def measure(comparison: Comparison, workspace: Workspace) -> Gaps:
    """Gaps of every network on its own inputs, and cosines between networks on the inputs of the first."""
    gap: dict[str, dict[str, Floats]] = {}
    alike: dict[str, dict[str, Floats]] = {}
    same_way: dict[str, dict[str, Floats]] = {}
    examples: list[npt.NDArray[np.floating]] = []
    last = len(comparison.sigmas) - 1
    shown = sorted({int(place) for place in np.linspace(0, last, SHOWN_LEVELS + 2).round()[1:-1]})
    for kind in (TRAIN, HELD_OUT):
        first = comparison.networks[0]
        shared = forward(comparison, first, kind)
        if shared is None:
            continue
        optimal = outputs(f"optimal {first.training_key}", first.optimal, shared, workspace)
        made = {one.name: outputs(one.name, one.denoiser, shared, workspace) for one in comparison.networks}
        gap[kind] = {}
        for one in comparison.networks:
            inputs = forward(comparison, one, kind)
            assert inputs is not None
            own = outputs(f"optimal {one.training_key}", one.optimal, inputs, workspace)
            gap[kind][one.name] = squared_difference(outputs(one.name, one.denoiser, inputs, workspace), own)
        pairs = list(itertools.combinations(made, 2))
        alike[kind] = {_pair(a, b): cosine(made[a], made[b]) for a, b in pairs}
        same_way[kind] = {_pair(a, b): angle(made[a] - optimal, made[b] - optimal) for a, b in pairs}
        noisy = np.stack([shared.at(level)[0].numpy() for level in shown])
        examples = [noisy, *(rows[shown, 0] for rows in made.values()), optimal[shown, 0]]
    return Gaps(np.array(comparison.sigmas), gap, alike, same_way, np.stack(examples), shown)


def _pair(first: str, second: str) -> str:
    return f"{first} and {second}"


def _estimates(rows: Mapping[str, Floats]) -> dict[str, Estimate]:
    return {name: mean_over_images(values) for name, values in rows.items()}


def _headline(results: Results, comparison: Comparison, found: Gaps) -> None:
    parts = []
    for one in comparison.networks:
        known = one.within(comparison.sigmas)
        curve = found.gap[TRAIN][one.name].mean(1)
        if known:
            peak = known[int(curve[known].argmax())]
            parts.append(f"{one.name} is farthest from it at σ = {comparison.sigmas[peak]:.2g} ({curve[peak]:.2g})")
    results.headline = (
        "Mean squared difference between a network and the optimal denoiser of its training images: "
        + ("; ".join(parts) if parts else "no noise level lies where a network was trained")
        + "."
    )


def _deviation(results: Results, comparison: Comparison, found: Gaps) -> None:
    panels = [
        charts.Panel(
            [series_of(name, found.sigmas, each) for name, each in _estimates(_trained(comparison, rows)).items()],
            "mean squared difference",
            IN_WORDS[kind],
            y_log=True,
            y_range=(NEGLIGIBLE_GAP, None),
        )
        for kind, rows in found.gap.items()
    ]
    results.add_chart(
        "gap",
        "Distance to the optimal denoiser",
        "The optimal denoiser only knows the training images: the distance from it is what a network does of its own. Images"
        f" in [−1, 1], mean over pixels and {comparison.config.inputs} noisy images a level; bands: 95 % intervals. What is"
        f" below {NEGLIGIBLE_GAP:g} is cut off, and levels that a network was not trained on are only in the table.",
        DEVIATION,
        charts.lines(panels),
    )


def _agreement(results: Results, comparison: Comparison, found: Gaps) -> None:
    if len(comparison.networks) < 2:
        results.methods["Agreement"] = "Cosines between networks' outputs take at least two networks; one was given."
        return
    kind = HELD_OUT if HELD_OUT in found.outputs else TRAIN
    shown = {
        "outputs": _trained(comparison, found.outputs[kind]),
        "deviations from the optimal denoiser": _trained(comparison, _where_there_is_a_gap(found, kind)),
    }
    panels = [
        charts.Panel([series_of(pair, found.sigmas, each) for pair, each in _estimates(rows).items()], "cosine", title)
        for title, rows in shown.items()
    ]
    results.add_chart(
        "agreement",
        "Agreement between networks",
        f"Above: cosine similarity of what two networks make of the same {IN_WORDS[kind]} (each image centred by its own"
        " mean). Below: cosine of what they add to the optimal denoiser's answer, where that is more than"
        f" {NEGLIGIBLE_GAP:g} in mean square: 1 means that they deviate in the same direction."
        f" {comparison.config.inputs} images a level; bands: 95 % intervals.",
        AGREEMENT,
        charts.lines(panels),
    )


def _trained(comparison: Comparison, rows: Mapping[str, Floats]) -> dict[str, Floats]:
    """Values of networks, or of pairs of them, NaN at levels that one of them was not trained on."""
    reach = {one.name: set(one.within(comparison.sigmas)) for one in comparison.networks}
    reach |= {_pair(a, b): reach[a] & reach[b] for a, b in itertools.combinations(list(reach), 2)}
    places = np.arange(len(comparison.sigmas))
    return {
        name: np.where(np.isin(places, list(reach[name]))[:, None], values, np.nan) for name, values in rows.items()
    }


def _where_there_is_a_gap(found: Gaps, kind: str) -> dict[str, Floats]:
    """Cosines of deviations, NaN at levels where one of the networks hardly deviates."""
    means = {name: rows.mean(1) for name, rows in found.gap[kind].items()}
    kept = {}
    for first, second in itertools.combinations(means, 2):
        pair = _pair(first, second)
        deviates = np.minimum(means[first], means[second]) > NEGLIGIBLE_GAP
        kept[pair] = np.where(deviates[:, None], found.deviations[kind][pair], np.nan)
    return kept


def _examples(results: Results, comparison: Comparison, found: Gaps) -> None:
    names = ["noisy", *(one.name for one in comparison.networks), "optimal"]
    results.add_sheet(
        "examples",
        "One image, noise falling from left to right",
        "Where the optimal denoiser answers with one of its training images, the networks answer with something else.",
        EXAMPLES,
        pictures.grid(
            found.examples, row_labels=names, column_labels=[f"σ = {found.sigmas[place]:.2g}" for place in found.shown]
        ),
    )


def _table(results: Results, found: Gaps) -> None:
    rows = []
    for kind, networks in found.gap.items():
        for name, estimate in _estimates(networks).items():
            for place, sigma in enumerate(found.sigmas):
                rows.append(
                    {
                        "inputs": IN_WORDS[kind],
                        "network": name,
                        "σ": float(sigma),
                        "gap": float(estimate.value[place]),
                        "low": float(estimate.low[place]),
                        "high": float(estimate.high[place]),
                    }
                )
    results.add_table(
        "gap",
        "Distance to the optimal denoiser at every level",
        "Mean squared difference a pixel, with its 95 % interval.",
        pd.DataFrame(rows),
    )
    for kind, pairs in found.outputs.items():
        results.arrays |= {f"{kind} cosine {name}": values for name, values in pairs.items()}


def _claims(results: Results, comparison: Comparison, found: Gaps) -> None:
    """The paper's three sentences, each decided by the network for which it holds least."""
    few = comparison.too_few()
    sigmas, gaps = found.sigmas, {name: rows.mean(1) for name, rows in found.gap[TRAIN].items()}
    reach = {one.name: one.within(comparison.sigmas) for one in comparison.networks}
    low = {n: places for n, places in reach.items() if places and sigmas[places[-1]] <= LOW_END}
    both = {name: places for name, places in low.items() if sigmas[places[0]] >= HIGH_END}
    ends = {name: float(max(gaps[name][p[0]], gaps[name][p[-1]]) / gaps[name][p].max()) for name, p in both.items()}
    shares = {name: _share_between(sigmas[p], gaps[name][p]) for name, p in both.items()}
    unreached = f"no network was trained, and measured, from σ = {LOW_END:g} or less to {HIGH_END:g} or more"
    results.claims.append(
        decided(
            "The deviation from the optimal denoiser is small at low and at high noise.",
            SOURCE,
            "larger of the gaps at the two ends of the range trained on, over the largest gap",
            ends,
            max,
            Rule(at_most=0.25, because="feet well below the bump"),
            few,
            unreached,
        )
    )
    results.claims.append(
        decided(
            "It is large for σ in [0.3, 10].",
            SOURCE,
            "share of the gap, integrated over log σ, that lies in that range",
            shares,
            min,
            Rule(at_least=0.75, because="the range is two fifths of the levels"),
            few,
            unreached,
        )
    )
    alike = {}
    for first, second in itertools.combinations(reach, 2):
        shared = sorted(set(reach[first]) & set(reach[second]))
        if len(shared) > 2:
            alike[_pair(first, second)] = float(np.corrcoef(gaps[first][shared], gaps[second][shared])[0, 1])
    results.claims.append(
        decided(
            "It is the same for every architecture.",
            SOURCE,
            "lowest correlation over σ between the gaps of two networks",
            alike,
            min,
            Rule(at_least=0.9, because="curves of one shape to the eye"),
            few,
            "it takes two networks that were trained on the same noise levels",
        )
    )
    directions = {}
    inside = (sigmas >= MIDDLE[0]) & (sigmas <= MIDDLE[1])
    for pair, values in _where_there_is_a_gap(found, TRAIN).items():
        within = inside & np.isfinite(values).all(1)
        if within.any():
            directions[pair] = float(values[within].mean())
    results.claims.append(
        decided(
            "Networks deviate from the optimal denoiser in the same way.",
            SOURCE,
            "mean cosine of two networks' deviations for σ in [0.3, 10], lowest of all pairs",
            directions,
            min,
            Rule(at_least=0.5, because="more shared than not"),
            few,
            "it takes two networks that deviate there",
        )
    )


def _share_between(sigmas: Floats, gap: Floats) -> float:
    """Share of the area under a curve over log σ that lies in the middle range."""
    steps = np.abs(np.diff(np.log(sigmas)))
    centres, heights = np.sqrt(sigmas[1:] * sigmas[:-1]), (gap[1:] + gap[:-1]) / 2
    inside = (centres >= MIDDLE[0]) & (centres <= MIDDLE[1])
    return float((steps * heights)[inside].sum() / (steps * heights).sum())
