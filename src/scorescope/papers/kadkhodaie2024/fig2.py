"""Figure 2: two networks without a common training image, sampled from the same noise, for more and more training images."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.lenses import memorization
from scorescope.lenses.growing import sample_claims
from scorescope.lenses.memorization import Sampled, sample_and_search
from scorescope.lenses.methods import measurement_methods
from scorescope.papers.kadkhodaie2024.charts_transition import over_sizes, said
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
from scorescope.probes.audit.copies import CHANCE, copied_share
from scorescope.probes.intervals import Estimate, mean_over_images, redrawn_weights
from scorescope.probes.transition_size import TransitionSize, transition_size
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.pairs import NETWORKS
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

TRANSITION, ENDED = "The transition", "How the search for samples ended"
BETWEEN, NEAREST, REFERENCE = (
    "between the two networks",
    "to the nearest training image",
    "held-out to the nearest training image",
)
RULE = (
    "N* by similarity: the N from which on the samples that the two networks make from the same noise are more similar to each"
    " other than to their nearest training images, both averaged over samples, interpolated in log N between the sizes tried."
    " Its interval holds the middle 95 % of what 1,000 sets of samples, drawn again,"
    " give; other training runs, and that the curve bends between sizes, are not in it."
    " Samples whose search did not converge count like all others."
)


class Fig2Config(TrainedConfig):
    """Settings of figure 2: which networks, and how many samples of each."""


@dataclass(frozen=True)
class Similarities:
    """Means over samples for each of S numbers of images.

    Attributes:
        between: of the two networks' samples from the same noise.
        nearest: of a sample to its nearest training image, both networks.
        reference: of a held-out image to its nearest training image of the first network.
        transition: the N at which `between` rises above `nearest`.
    """

    between: Estimate
    nearest: Estimate
    reference: Estimate
    transition: TransitionSize


@study
class Fig2(Study[Fig2Config]):
    """Samples of pairs of networks: whom do they resemble?"""

    name = "kadkhodaie2024/fig2"
    paper = PAPER
    title = "Samples of two networks that share no training image"
    question = (
        "From how many training images on do two networks make each other's samples rather than their training images?"
    )
    Config = Fig2Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": TINY, "small": {}, "paper": PUBLISHED}

    def run(self, config: Fig2Config, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError for sizes that the data do not allow."""
        material = open_material(config, workspace)
        measured = []
        for size in config.sizes:
            trained = trained_pair(material, size, config, workspace)
            search = functools.partial(sample_and_search, trained, config.measurement)
            found = workspace.computed(f"N={size}/samples", search)
            measured.append(Sampled(f"N = {size:,}", NETWORKS, found))
        return self._results(config, material, measured, similarities(config.sizes, measured))

    def _results(self, config: Fig2Config, material: Material, measured: list[Sampled], found: Similarities) -> Results:
        results = Results(study=self.name, title=self.title, question=self.question, paper=self.paper)
        _, height, width = material.images.image_shape
        first, last = measured[0], measured[-1]
        results.headline = (
            f"On {material.whole.name} at {height}×{width} pixels {found.transition.words()}: from {first.label} to"
            f" {last.label} the similarity of a sample to the other network's goes from {first.agreement:.2f} to"
            f" {last.agreement:.2f}, that to its nearest training image from {first.nearest:.2f} to {last.nearest:.2f}."
        )
        memorization.samples(results, measured)
        memorization.similarities(results, measured)
        _over_sizes(results, config, found)
        _tables(results, config, measured, found)
        results.claims += sample_claims(measured, config.untested)
        results.claims.append(_claim(found, last, config.untested))
        results.methods |= material.methods | training_methods(config) | measurement_methods(config.measurement)
        for unused in ("Inputs", "Verdict rule"):
            del results.methods[unused]
        results.methods["Rule"] = RULE
        return results


def similarities(sizes: Sequence[int], measured: Sequence[Sampled]) -> Similarities:
    """Means with intervals, and the transition, from the similarities of single samples.

    Samples of every N and network start from the same noise, so a sample that is drawn again is drawn again for all of them.
    """
    between = np.stack([one.found["agreement"].astype(np.float64) for one in measured])
    nearest = np.stack([one.similarity.reshape(len(NETWORKS), -1).mean(0) for one in measured])
    excess = nearest - between  # (S, n)
    return Similarities(
        mean_over_images(between),
        mean_over_images(nearest),
        mean_over_images(np.stack([one.found["reference"].astype(np.float64) for one in measured])),
        transition_size(sizes, excess.mean(1), redrawn_weights(excess.shape[1]) @ excess.T),
    )


def _over_sizes(results: Results, config: Fig2Config, found: Similarities) -> None:
    series = [
        _band(BETWEEN, config.sizes, found.between, palette.BLUE),
        _band(NEAREST, config.sizes, found.nearest, palette.ORANGE),
        _band(REFERENCE, config.sizes, found.reference, palette.GREEN, dashed=True),
    ]
    results.add_chart(
        "over-sizes",
        "Similarity against the number of training images",
        f"{said(found.transition)}. From N* on two networks without a common training image resemble each other more than their"
        " training images. Dashed: held-out images, which is what samples of the distribution itself would show; samples far"
        " below it are no images of that kind yet, whatever they resemble. Means over"
        f" {config.measurement.samples} samples of each network with 95 % intervals; cosine similarity of images less their"
        " own mean.",
        TRANSITION,
        over_sizes(charts.Panel(series, "cosine similarity", y_range=(None, 1.02)), [found.transition]),
    )


def _band(name: str, sizes: Sequence[int], found: Estimate, colour: str, *, dashed: bool = False) -> charts.Series:
    return charts.Series(name, sizes, found.value, found.low, found.high, colour=colour, dashed=dashed)


def _tables(results: Results, config: Fig2Config, measured: Sequence[Sampled], found: Similarities) -> None:
    rows = []
    for place, (size, one) in enumerate(zip(config.sizes, measured, strict=True)):
        row: dict[str, object] = {"N": size}
        for name, estimate in (("between", found.between), ("nearest", found.nearest)):
            row |= {name: estimate.value[place], f"{name} 95 %": _interval(estimate, place)}
        row["held-out"] = found.reference.value[place]
        copied = copied_share(one.similarity, one.found["reference"].astype(np.float64)).share.scaled(100)
        row |= {"copied (%)": copied.value, "copied 95 %": f"{copied.low:.0f} to {copied.high:.0f}"}
        rows.append(row)
    results.add_table(
        "similarities",
        "Mean similarities for every N",
        "Between: of the two networks' samples from the same noise; nearest: of a sample to its nearest training image;"
        f" held-out: of a held-out image to it. Copied: the share of samples that are nearer to a training image than"
        f" {1 - CHANCE:.0%} of the held-out images are, less what chance brings there, with its interval.",
        pd.DataFrame(rows),
        formats={"between": ".3f", "nearest": ".3f", "held-out": ".3f", "copied (%)": ".0f"},
    )
    ended = []
    for size, one in zip(config.sizes, measured, strict=True):
        for name in NETWORKS:
            converged, diverged, steps = (one.found[f"{what}/{name}"] for what in ("converged", "diverged", "steps"))
            ended.append(
                {
                    "N": size,
                    "network": name,
                    "converged": int(converged.sum()),
                    "diverged": int(diverged.sum()),
                    "out of steps": int((~converged & ~diverged).sum()),
                    "median steps": float(np.median(steps)),
                    "most steps": int(steps.max()),
                }
            )
    results.add_table(
        "ended",
        ENDED,
        f"Of {config.measurement.samples} samples of each network: the estimated noise fell to"
        f" {config.measurement.sigma_end:g}, grew to ten times that of the start, or did neither in the steps allowed.",
        pd.DataFrame(ended),
    )
    for name in NETWORKS:
        for what in ("steps", "converged"):
            results.arrays[f"{what}-{name}"] = np.stack([one.found[f"{what}/{name}"] for one in measured])


def _interval(estimate: Estimate, place: int) -> str:
    return f"{estimate.low[place]:.3f} to {estimate.high[place]:.3f}"


def _claim(found: Similarities, last: Sampled, untested: str) -> Claim:
    """That samples of the largest N resemble the other network's more than any training image."""
    value: npt.NDArray[np.float64] = found.between.value - found.nearest.value
    return Claim(
        "With enough training images the samples of two networks are nearly identical, and unlike the training images.",
        "kadkhodaie2024, figure 2",
        f"similarity to the other network's sample less that to the nearest training image, {last.label}",
        None if untested else float(value[-1]),
        Rule(above=0.0),
        note=untested,
    )
