"""Figure 9: do training-free denoisers make the same samples as networks from the same noise?

Every denoiser is sampled from the same starts by Euler's method, and samples of one start are compared by the cosine of their
feature vectors (SSCD in the paper; see `scorescope.probes.features_opening` for others). The matrix of means over starts says
who makes whose pictures. What unrelated samples have in common already is told beside it, as *chance*: the mean cosine of
samples of different starts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.lenses.rivals import FLEX
from scorescope.lenses.samples import sample_sheet
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS
from scorescope.papers.niedoba2025.samples import (
    SAMPLED,
    Cast,
    Images,
    SampledConfig,
    open_cast,
    samples_of,
    vectors_of_samples,
)
from scorescope.probes.features import Features, cosines
from scorescope.probes.features_opening import open_features
from scorescope.probes.intervals import Estimate, mean_over_images
from scorescope.study import charts
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.deciding import decided
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SIMILARITY = "Who makes whose pictures"
SAMPLES = "Samples from the same noise"
SOURCE = "niedoba2025, figure 9"
PAPER_SIMILARITY = {FLEX: 0.55, "optimal": 0.34, "gaussian": 0.34, "closed-form": 0.23}
PAPER_TOLERANCE = 0.1
Floats = npt.NDArray[np.float64]


class Fig9Config(SampledConfig):
    """Settings of figure 9."""


@dataclass(frozen=True)
class Similarities:
    """Cosines of samples of the same start.

    Attributes:
        names: of the K denoisers.
        pairs: (first, second) -> one cosine a start, (n,); NaN where a trajectory left all bounds.
        chance: (first, second) -> mean cosine of samples of different starts.
    """

    names: list[str]
    pairs: dict[tuple[str, str], Floats]
    chance: dict[tuple[str, str], float]

    def of(self, first: str, second: str) -> Floats:
        """Cosines of two denoisers' samples in either order."""
        return self.pairs[(first, second) if (first, second) in self.pairs else (second, first)]

    def mean(self, first: str, second: str) -> float:
        """Their mean over the starts that are known; 1 for a denoiser and itself."""
        return 1.0 if first == second else _mean(self.of(first, second))

    def to_networks(self, name: str, networks: list[str]) -> Floats:
        """Mean cosine with the networks other than `name`, a start, (n,)."""
        return np.asarray(np.mean([self.of(name, network) for network in networks if network != name], axis=0))


@study
class Fig9(Study[Fig9Config]):
    """Similarity of samples from shared starts."""

    name = "niedoba2025/fig9"
    title = "Whose samples are alike"
    question = "From the same noise, does a training-free denoiser make the pictures that networks make?"
    paper = f"{PAPER}, figure 9"
    Config = Fig9Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **TINY_SETTINGS,
            "samples": 6,
            "at_once": 4,
            "mechanisms": {"names": (FLEX, "gaussian"), "heatmap_images": 1},
        },
        "small": {"mechanisms": {"names": SAMPLED}},
        "paper": {**PAPER_SETTINGS, "mechanisms": {"names": SAMPLED}, "samples": 1000},
    }

    def run(self, config: Fig9Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        space = open_features(config.features, workspace.device)
        cast = open_cast(config, workspace)
        samples = {name: samples_of(cast, name, workspace) for name in cast.denoisers}
        vectors = {name: vectors_of_samples(space, made, workspace.device) for name, made in samples.items()}
        found = similarities(vectors)
        results = Results(study=self.name, title=self.title)
        results.headline = _headline(cast, found)
        _matrix(results, cast, found, space.name)
        _to_networks(results, cast, found, space.name)
        _sheet(results, cast, samples)
        _claims(results, cast, found, space.name)
        cast.describe(results)
        results.methods["Features"] = (
            f"{space.description}. Similarity is the cosine of two vectors; numbers of different feature spaces cannot be"
            " compared, and the paper's are of SSCD."
        )
        results.methods["Intervals"] = "95 %, percentile bootstrap over starts with 1,000 draws."
        return results


def similarities(vectors: Mapping[str, Features]) -> Similarities:
    """Cosines of corresponding vectors, and of all others, for every pair of denoisers.

    Args:
        vectors: name -> (n, F), row i from start i; a row may be NaN.
    """
    pairs, chance = {}, {}
    for first, second in itertools.combinations(vectors, 2):
        a, b = vectors[first], vectors[second]
        pairs[first, second] = cosines(a, b)
        chance[first, second] = _other_starts(a, b)
    return Similarities(list(vectors), pairs, chance)


def _other_starts(first: Features, second: Features) -> float:
    """Mean cosine of row i of one and row j of the other over i ≠ j, from sums alone."""
    known = np.isfinite(first).all(1) & np.isfinite(second).all(1)
    count = int(known.sum())
    if count < 2:
        return float("nan")
    a, b = (_unit(vectors[known]) for vectors in (first, second))
    return float((a.sum(0) @ b.sum(0) - (a * b).sum()) / (count * (count - 1)))


def _unit(vectors: Features) -> Floats:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0))


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _estimate(values: Floats) -> Estimate:
    known = values[np.isfinite(values)]
    return mean_over_images(known[None] if len(known) else np.full((1, 1), np.nan))


def _headline(cast: Cast, found: Similarities) -> str:
    networks = cast.networks
    free = {name: _mean(found.to_networks(name, networks)) for name in cast.training_free}
    best = max(free, key=lambda name: np.nan_to_num(free[name], nan=-2.0))
    others = ", ".join(f"{name} {value:.2f}" for name, value in free.items() if name != best)
    among = [found.mean(a, b) for a, b in itertools.combinations(networks, 2)]
    low, high = (f"{end(among, default=0.0):.2f}" for end in (min, max))
    between = low if low == high else f"{low} to {high}"
    said = f"; between two networks it is {between}" if among else ""
    return (
        f"Of the training-free denoisers {best} makes samples most like the networks' from the same noise: similarity"
        f" {free[best]:.2f} ({others}){said}, and chance is {_chance(cast, found):.2f}."
    )


def _chance(cast: Cast, found: Similarities) -> float:
    """Mean cosine of samples of different starts, a network's with any other denoiser's."""
    values = [value for (a, b), value in found.chance.items() if a in cast.networks or b in cast.networks]
    return float(np.nanmean(values))


def _matrix(results: Results, cast: Cast, found: Similarities, space: str) -> None:
    values = np.array([[found.mean(a, b) for b in found.names] for a in found.names])
    numbers = [str(place + 1) for place in range(len(found.names))]
    labels = [f"{number} {name}" for number, name in zip(numbers, found.names, strict=True)]
    results.add_chart(
        "matrix",
        "Similarity of samples from the same start",
        f"Mean cosine of {space} features over {cast.config.samples} shared starts; columns are numbered as the rows. Samples"
        f" of different starts have {_chance(cast, found):.2f} (chance); 1 is the same picture.",
        SIMILARITY,
        charts.heat_table(values, labels, numbers, x_label="denoiser", value_range=(0.0, 1.0)),
    )
    rows = []
    for (first, second), each in found.pairs.items():
        estimate = _estimate(each)
        rows.append(
            {
                "denoiser": first,
                "and": second,
                "similarity": float(estimate.value[0]),
                "low": float(estimate.low[0]),
                "high": float(estimate.high[0]),
                "chance": found.chance[first, second],
                "starts": int(np.isfinite(each).sum()),
            }
        )
    results.add_table(
        "pairs",
        "Similarity of every pair",
        "Mean cosine over shared starts with its 95 % interval; chance: the same over different starts; starts: how many of"
        " both denoisers' trajectories stayed finite.",
        pd.DataFrame(rows),
        formats=dict.fromkeys(("similarity", "low", "high", "chance"), ".3f"),
    )
    results.arrays |= {f"cosine {first} and {second}": each for (first, second), each in found.pairs.items()}


def _to_networks(results: Results, cast: Cast, found: Similarities, space: str) -> None:
    networks = cast.networks
    named = [name for name in found.names if name not in networks or len(networks) > 1]
    values = {name: _mean(found.to_networks(name, networks)) for name in named}
    results.add_chart(
        "to-networks",
        "Similarity to the networks' samples",
        f"Mean cosine of {space} features with the samples of the networks from the same starts, a network's with those of the"
        f" other networks; {cast.config.samples} starts. Chance is {_chance(cast, found):.2f}.",
        SIMILARITY,
        charts.bars(values, "mean cosine with the networks' samples", form=".2f"),
    )
    rows = []
    for name in named:
        estimate = _estimate(found.to_networks(name, networks))
        rows.append(
            {
                "denoiser": name,
                "similarity": float(estimate.value[0]),
                "low": float(estimate.low[0]),
                "high": float(estimate.high[0]),
                "in the paper (SSCD)": PAPER_SIMILARITY.get(name, float("nan")),
            }
        )
    results.add_table(
        "to-networks",
        "Similarity to the networks' samples",
        "Mean over starts and networks, with its 95 % interval over starts. The paper's numbers: SSCD features, CIFAR-10.",
        pd.DataFrame(rows),
        formats=dict.fromkeys(("similarity", "low", "high"), ".3f") | {"in the paper (SSCD)": ".2f"},
    )


def _sheet(results: Results, cast: Cast, samples: Mapping[str, Images]) -> None:
    results.add_sheet(
        "samples",
        "Samples from shared starts",
        "One column a start, one row a denoiser: the same picture in two rows is a picture that both make of the same noise."
        " The optimal denoiser can only make training images.",
        SAMPLES,
        sample_sheet(samples),
    )


def _claims(results: Results, cast: Cast, found: Similarities, space: str) -> None:
    """The paper's order of denoisers, each decided by the network for which it holds least; and its numbers, in SSCD."""
    networks, few = cast.networks, cast.config.too_few
    missing = f"{FLEX} is not among the denoisers"
    for rival in ("optimal", "gaussian", "closed-form"):
        differences = {}
        if FLEX in cast.denoisers and rival in cast.denoisers:
            differences = {one: found.mean(FLEX, one) - found.mean(rival, one) for one in networks}
        results.claims.append(
            decided(
                f"PSPC-Flex's samples are more similar to the networks' than the {_in_words(rival)} denoiser's are.",
                SOURCE,
                f"mean similarity of {FLEX} minus that of {rival} to a network's samples, {space} features",
                {one: value for one, value in differences.items() if np.isfinite(value)},
                min,
                Rule(above=0.0),
                few,
                missing if FLEX not in cast.denoisers else f"{rival} is not among the denoisers",
            )
        )
    among = {f"{a} and {b}": found.mean(a, b) for a, b in itertools.combinations(networks, 2)}
    nearest = max((found.mean(name, one) for name in cast.training_free for one in networks), default=0.0)
    results.claims.append(
        decided(
            "Networks' samples are more similar to each other than any training-free denoiser's are to theirs.",
            SOURCE,
            f"similarity of two networks, minus the highest of a training-free denoiser and a network, {space} features",
            {pair: value - nearest for pair, value in among.items()},
            min,
            Rule(above=0.0),
            few,
            "it takes two networks",
        )
    )
    if FLEX in cast.denoisers:
        results.claims.append(_number(cast, found, space))


def _number(cast: Cast, found: Similarities, space: str) -> Claim:
    published = PAPER_SIMILARITY[FLEX]
    rule = Rule(
        at_least=published - PAPER_TOLERANCE,
        at_most=published + PAPER_TOLERANCE,
        because=f"{PAPER_TOLERANCE} around the paper's {published}",
    )
    estimate = _estimate(found.to_networks(FLEX, cast.networks))
    asked = space == "SSCD" and not cast.config.too_few
    why = cast.config.too_few or f"features are {space}, and the paper's number is of SSCD"
    return Claim(
        f"PSPC-Flex's samples have an SSCD similarity of {published} to the networks'.",
        SOURCE,
        f"mean SSCD similarity of {FLEX} to the networks",
        float(estimate.value[0]) if asked else None,
        rule,
        interval=(float(estimate.low[0]), float(estimate.high[0])) if asked else None,
        note=f"data: {cast.config.data}; the paper's are CIFAR-10." if asked else f"{why}.",
    )


def _in_words(rival: str) -> str:
    return {"gaussian": "Gaussian", "closed-form": "smoothed closed-form"}.get(rival, rival)
