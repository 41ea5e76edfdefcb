"""Does agreement of two networks show that they learned the factors that images were made from?

Maillard & Goldt (arXiv 2605.21402): as the number of training images N grows, memorization m falls, two networks trained on
disjoint sets converge to one another (q), and the latent factors of the data are recovered (Q); q rises continuously, Q jumps
apart from it, so that agreement does not show that factors were learned. Measured here on images whose factors can be read off
exactly (`probes.latent_factors`), with pairs of small networks for several N, all as numbers from 0 to 1:

- m, the share of samples that are copies of training images, by the audit's calibrated count;
- q, the cosine similarity of the two networks' samples from the same noise beyond that of samples from other noise;
- Q, over samples: how much of what a Gaussian model of the images leaves unexplained by the nearest member of the family is
  explained in the sample, and 0 for a sample that lies as near to a training image as a copy: a copy has factors, but those of
  the training set. Beside it, whether the factors of the samples are distributed as those of the data.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch
from torch import Tensor

from scorescope.data import ImageSet
from scorescope.data.images import to_uint8
from scorescope.denoisers import NetworkDenoiser
from scorescope.lenses.audit.counting import Copies, CopyCounter
from scorescope.lenses.drawing import draw_samples, like
from scorescope.lenses.methods import training_method
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import mean_intensity
from scorescope.papers.newer.drawn import line_of, mean_of
from scorescope.probes.intervals import LEVEL, redrawn_weights
from scorescope.probes.latent_factors import FAMILIES, factor_distances
from scorescope.probes.proportions import Interval
from scorescope.probes.similarity import directions
from scorescope.study import charts, palette, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.pairs import NETWORKS, Sizes, choose_pair, train_pair
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig

Floats = npt.NDArray[np.float64]
SOURCE = "Maillard & Goldt 2026, arXiv 2605.21402"
SECTION, DISTRIBUTION = "Agreement and recovery", "Whether the factors are distributed as in the data"
HALF, APART, LEAST_RISE = 0.5, 1.0, 0.25
ENOUGH_SIZES, ENOUGH_SAMPLES, SHOWN, REFERENCE = 4, 64, 8, 2000
COLOURS = {"m": palette.RED, "q": palette.BLUE, "Q": palette.GREEN}
WORDS = {"m": "m, copies", "q": "q, agreement", "Q": "Q, recovery"}


class LatentFactorsConfig(pydantic.BaseModel):
    """Settings.

    Attributes:
        family: of the images.
        side: of the images, pixels.
        sizes: numbers of training images of each network, increasing.
        width: of the UNet.
        training: how each network is trained, the same for all sizes.
        measurement: how samples are drawn, and how many.
        unseen: images that no network was trained on, which calibrate the count of copies.
        seed: of the images, the subsets and the noise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    family: Literal["disks", "sinusoids"] = "disks"
    side: int = pydantic.Field(16, ge=8)
    sizes: Sizes = (20, 100, 500, 2500)
    width: int = pydantic.Field(16, ge=1)
    training: TrainingConfig = TrainingConfig(steps=1000, batch=32, learning_rate=3e-3, ema_decay=0.99)
    measurement: MeasurementConfig = MeasurementConfig(samples=96)
    unseen: int = pydantic.Field(4000, ge=10)
    seed: int = pydantic.Field(0, ge=0)


@dataclass(frozen=True)
class Numbers:
    """What was found at one N.

    Attributes:
        size: N.
        copies: network -> the copies among its samples.
        explained: network -> share of each sample's variance that its nearest member explains, (n,).
        factors: network -> of those members, (n, P).
        agreement: q of every pair of samples from the same noise, (n,).
        recovery: Q of every sample, network A's before B's, (2n,).
    """

    size: int
    copies: Mapping[str, Copies]
    explained: Mapping[str, Floats]
    factors: Mapping[str, Floats]
    agreement: Floats
    recovery: Floats

    def values(self, name: str) -> Floats:
        """m, q or Q of every sample."""
        if name == "m":
            chance = next(iter(self.copies.values())).chance
            above = np.concatenate([one.above for one in self.copies.values()]).astype(np.float64)
            return (above - chance) / (1 - chance)
        return self.agreement if name == "q" else self.recovery

    def mean(self, name: str) -> Interval:
        """Their mean, with its interval; a share of copies below what chance puts there is 0."""
        found = mean_of(self.values(name))
        return found.clipped(0.0, 1.0) if name == "m" else found


@study
class LatentFactors(Study[LatentFactorsConfig]):
    """Recovery of known latent factors beside the agreement of two networks."""

    name = "newer/latent-factors"
    title = "Agreement and the factors behind it"
    question = "When two networks agree, have they learned the factors that the images were made from?"
    paper = SOURCE
    Config = LatentFactorsConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "side": 8,
            "sizes": (4, 40),
            "width": 8,
            "training": {"steps": 60, "batch": 16},
            "measurement": {"samples": 8, "sampler_beta": 0.5, "sigma_end": 0.3},
            "unseen": 60,
        },
        "small": {},
        "paper": {
            "side": 32,
            "sizes": (10, 30, 100, 300, 1000, 3000, 10_000, 30_000),
            "width": 64,
            "training": {"steps": 100_000, "batch": 128, "learning_rate": 1e-3},
            "measurement": {"samples": 2000},
            "unseen": 20_000,
        },
    }

    def run(self, config: LatentFactorsConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        pool, unseen, reference = _images(config)
        gaussian = like(pool, config.measurement.samples, torch.Generator().manual_seed(config.seed))
        floor = workspace.computed("Gaussian", lambda: _fitted(gaussian, config))
        found, samples = [], {}
        for size in config.sizes:
            numbers, drawn = _measure(size, pool, unseen, float(floor["explained"].mean()), config, workspace)
            found.append(numbers)
            samples[size] = drawn
        results = Results(study=self.name, title=self.title)
        _show(results, found)
        _sheet(results, samples)
        _tables(results, found, reference, float(floor["explained"].mean()), config)
        _claims(results, found, config)
        results.headline = _headline(found)
        results.methods |= _methods(config, pool, float(floor["explained"].mean()))
        return results


def _images(config: LatentFactorsConfig) -> tuple[ImageSet, ImageSet, Floats]:
    """Images to train on, unseen ones, and the factors of as many more as distributions are compared with."""
    family = FAMILIES[config.family]
    generator = torch.Generator().manual_seed(config.seed)
    count = 2 * config.sizes[-1]
    factors = family.draw(count + config.unseen + REFERENCE, config.side, generator)
    pixels = to_uint8(family.render(factors[: count + config.unseen], config.side))
    pool, unseen = (ImageSet(part, name=config.family) for part in (pixels[:count], pixels[count:]))
    return pool, unseen, factors[count + config.unseen :].double().numpy()


def _measure(
    size: int, pool: ImageSet, unseen: ImageSet, floor: float, config: LatentFactorsConfig, workspace: Workspace
) -> tuple[Numbers, dict[str, Tensor]]:
    pair = choose_pair(pool, size, config.seed)
    networks = train_pair(pair, config.width, config.training, workspace)
    copies, explained, factors, samples = {}, {}, {}, {}
    for name in NETWORKS:
        sampling = functools.partial(_samples, networks[name], pool, config)
        samples[name] = torch.from_numpy(workspace.computed(f"N={size}/samples/{name}", sampling))
        fitting = functools.partial(_fitted, samples[name], config)
        fitted = workspace.computed(f"N={size}/factors/{name}", fitting)
        explained[name], factors[name] = fitted["explained"], fitted["factors"]
        copies[name] = CopyCounter(pair.training[name], unseen, config.seed).count(samples[name])
    recovery = np.concatenate([recovered(explained[name], floor, copies[name].above) for name in NETWORKS])
    agreement = beyond_chance(*(samples[name] for name in NETWORKS))
    return Numbers(size, copies, explained, factors, agreement, recovery), samples


def _samples(network: NetworkDenoiser, pool: ImageSet, config: LatentFactorsConfig) -> npt.NDArray[np.float32]:
    """From noise around the mean intensity of all images, the same for every network, (n, 1, side, side)."""
    centre = mean_intensity(pool, config.measurement.seed)
    drawn = draw_samples(network, config.measurement.samples, centre, config.measurement)
    return np.asarray(drawn.images.clamp(-1, 1).numpy())


def _fitted(images: Tensor, config: LatentFactorsConfig) -> dict[str, Floats]:
    found = FAMILIES[config.family].fitted(images)
    return {"explained": found.explained, "factors": found.factors}


def recovered(explained: npt.ArrayLike, floor: float, copied: npt.ArrayLike) -> Floats:
    """Q of every sample: ``1 − (1 − explained) / (1 − floor)``, from 0 to 1, and 0 for copies; (n,) each."""
    gained = 1 - (1 - np.asarray(explained, dtype=np.float64)) / max(1 - floor, 1e-12)
    return np.where(np.asarray(copied, dtype=bool), 0.0, gained.clip(0, 1))


def beyond_chance(first: Tensor, second: Tensor) -> Floats:
    """q of every pair: ``(s_i − s̄) / (1 − s̄)``, s̄ the mean similarity of samples from different noise; (n, C, H, W) twice."""
    similar = (directions(first) @ directions(second).T).double().numpy()
    same = np.diag(similar)
    count = len(same)
    other = (similar.sum() - same.sum()) / (count * (count - 1))
    return np.asarray((same - other) / (1 - other))


def first_reach(sizes: npt.ArrayLike, values: npt.ArrayLike, level: float = HALF) -> float:
    """ln N at which rising values first reach a level, linear in ln N; NaN where they do not, or are there at the first N."""
    x, y = np.log(np.asarray(sizes, dtype=np.float64)), np.asarray(values, dtype=np.float64)
    there = np.flatnonzero(y >= level)
    if not there.size or there[0] == 0:
        return math.nan
    k = int(there[0])
    return float(x[k - 1] + (level - y[k - 1]) / (y[k] - y[k - 1]) * (x[k] - x[k - 1]))


def doublings_between(sizes: list[int], early: list[Floats], late: list[Floats]) -> tuple[Interval, float]:
    """By how many doublings of N the mean of `late` reaches one half after that of `early`, and in what share of draws both do.

    Args:
        sizes: N, increasing.
        early: values of samples for each N, (n,) each.
        late: the same of the other number.

    Returns:
        The number with its bootstrap interval over samples, drawn anew at every N, and the share of draws in which it is known.
    """

    def between(first: list[float], second: list[float]) -> float:
        return (first_reach(sizes, second) - first_reach(sizes, first)) / math.log(2)

    value = between([float(one.mean()) for one in early], [float(one.mean()) for one in late])
    means = [
        np.stack([redrawn_weights(len(one), seed=7 * place + shift) @ one for place, one in enumerate(values)])
        for shift, values in enumerate((early, late))
    ]
    drawn = np.array([between(list(a), list(b)) for a, b in zip(means[0].T, means[1].T, strict=True)])
    known = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or not known.size:
        return Interval(value, math.nan, math.nan), known.size / len(drawn)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(float(low), value), max(float(high), value)), known.size / len(drawn)


def _show(results: Results, found: list[Numbers]) -> None:
    sizes = [one.size for one in found]
    series = []
    for name, words in WORDS.items():
        means = [one.mean(name) for one in found]
        series.append(line_of(words, sizes, means, COLOURS[name], dashed=name == "m"))
    results.add_chart(
        "numbers",
        "Copies, agreement and recovery",
        "m: share of samples that are copies; q: how alike the two networks' samples from the same noise are, beyond chance;"
        " Q: how far samples are members of the family, and no copies. If agreement showed that factors were learned, q and Q"
        " would rise together. Bands: 95 % intervals over samples.",
        SECTION,
        charts.lines(charts.Panel(series, "from 0 to 1", levels={HALF: "one half"}), "training images N"),
    )
    series = [line_of(f"network {name}", sizes, [mean_of(one.explained[name]) for one in found]) for name in NETWORKS]
    results.add_chart(
        "explained",
        "How much of a sample the nearest member of the family explains",
        "Share of a sample's variance, copies among them: 1 for a member. Bands: 95 % intervals over samples.",
        SECTION,
        charts.lines(charts.Panel(series, "share of variance"), "training images N"),
        folded=True,
    )


def _sheet(results: Results, samples: Mapping[int, Mapping[str, Tensor]]) -> None:
    rows = [drawn[name][:SHOWN].numpy() for drawn in samples.values() for name in NETWORKS]
    labels = [f"N = {size:,}, {name}" for size in samples for name in NETWORKS]
    results.add_sheet(
        "samples",
        "Samples of both networks from the same noise",
        "Two rows for each number of training images: what agrees between them both have learned; whether it is a member of the"
        " family is another question.",
        SECTION,
        pictures.grid(np.stack(rows), row_labels=labels),
    )


def _tables(
    results: Results, found: list[Numbers], reference: Floats, floor: float, config: LatentFactorsConfig
) -> None:
    results.add_table(
        "numbers",
        "Copies, agreement and recovery for every N",
        f"With 95 % intervals over samples. A Gaussian model's samples are explained to {floor:.2f} by the family; training"
        " images, in 8 bits, to 1.00.",
        pd.DataFrame(
            [
                {"N": one.size}
                | {words: one.mean(name).words() for name, words in WORDS.items()}
                | {"explained": mean_of(np.concatenate(list(one.explained.values()))).words()}
                for one in found
            ]
        ),
    )
    names = FAMILIES[config.family].names
    rows: list[dict[str, Any]] = []
    for one in found:
        pooled = np.concatenate(list(one.factors.values()))
        for name, (distance, probability) in factor_distances(pooled, reference, names).items():
            rows.append(
                {
                    "N": one.size,
                    "factor": name,
                    "distance": distance,
                    "as in the data": "no" if probability < 0.05 / len(names) else "not refuted",
                }
            )
    results.add_table(
        "factors",
        "Whether the factors are distributed as in the data",
        f"Kolmogorov's distance between the factors read off both networks' samples and {len(reference):,} draws of the data's;"
        " at a level of 5 % over all factors of an N, samples counted as independent.",
        pd.DataFrame(rows),
        formats={"distance": ".2f"},
        section=DISTRIBUTION,
    )
    series = [
        charts.Series(name, [one.size for one in found], [row["distance"] for row in rows if row["factor"] == name])
        for name in names
    ]
    results.add_chart(
        "factors",
        "How far the factors are from those of the data",
        "Kolmogorov's distance, from 0 for the same distribution to 1, of each factor as it is read off the samples.",
        DISTRIBUTION,
        charts.lines(charts.Panel(series, "distance", y_range=(0.0, None)), "training images N"),
    )


def _claims(results: Results, found: list[Numbers], config: LatentFactorsConfig) -> None:
    sizes = [one.size for one in found]
    few = ""
    if len(sizes) < ENOUGH_SIZES or config.measurement.samples < ENOUGH_SAMPLES:
        few = f"{len(sizes)} sizes and {config.measurement.samples} samples; {ENOUGH_SIZES} and {ENOUGH_SAMPLES} are asked for"
    agreement, recovery = ([one.values(name) for one in found] for name in ("q", "Q"))
    apart, known = doublings_between(sizes, agreement, recovery)
    note = few
    if not note and not math.isfinite(apart.value):
        never = [WORDS[name] for name in ("q", "Q") if not math.isfinite(_reach(found, name))]
        note = f"{' and '.join(never)} did not reach one half between N = {sizes[0]:,} and {sizes[-1]:,}"
    results.claims.append(
        Claim(
            "Recovery of the factors comes apart from agreement: Q rises at a larger number of training images than q.",
            SOURCE,
            f"doublings of N from q = ½ to Q = ½, {config.family}",
            None if note else apart.value,
            Rule(at_least=APART, because="a factor of two"),
            interval=None if note or not math.isfinite(apart.low) else (apart.low, apart.high),
            note=note or ("" if known > LEVEL else f"both reach one half in {known:.0%} of bootstrap draws only"),
        )
    )
    place = next((k for k, one in enumerate(found) if one.agreement.mean() >= HALF), None)
    there = None if place is None else mean_of(found[place].recovery)
    note = few or ("" if there is not None else "q did not reach one half")
    results.claims.append(
        Claim(
            "Agreement does not show that factors were learned: where two networks first agree, Q is low.",
            SOURCE,
            f"Q at the first N with q of at least ½{'' if place is None else f', N = {sizes[place]:,}'}, {config.family}",
            None if note or there is None else there.value,
            Rule(below=HALF, because="less than half way"),
            interval=None if note or there is None else (there.low, there.high),
            note=note,
        )
    )
    steps = {name: np.diff([float(one.values(name).mean()) for one in found]) for name in ("q", "Q")}
    total = {name: float(rise.clip(0).sum()) for name, rise in steps.items()}
    shares = {name: float(rise.max() / max(total[name], 1e-12)) for name, rise in steps.items()}
    flat = [f"{WORDS[name]}, rises by {total[name]:.2f} in all" for name in total if total[name] < LEAST_RISE]
    note = few or (f"{' and '.join(flat)}; {LEAST_RISE:g} is asked for" if flat else "")
    results.claims.append(
        Claim(
            "q rises continuously, and Q jumps.",
            SOURCE,
            f"largest step of Q from one N to the next as a share of its rise, less that of q, {config.family}",
            None if note else shares["Q"] - shares["q"],
            Rule(above=0.0),
            note=note or f"{len(sizes)} sizes, a coarse look at a jump",
        )
    )


def _reach(found: list[Numbers], name: str) -> float:
    return first_reach([one.size for one in found], [one.values(name).mean() for one in found])


def _headline(found: list[Numbers]) -> str:
    parts = []
    for name in ("q", "Q"):
        place = _reach(found, name)
        means = [float(one.values(name).mean()) for one in found]
        if math.isfinite(place):
            parts.append(f"{WORDS[name]}, reaches one half at N ≈ {math.exp(place):,.0f}")
        else:
            parts.append(f"{WORDS[name]}, goes from {means[0]:.2f} to {means[-1]:.2f}")
    return f"Of two networks on N images each: {'; '.join(parts)}."


def _methods(config: LatentFactorsConfig, pool: ImageSet, floor: float) -> dict[str, str]:
    family = FAMILIES[config.family]
    return {
        "Images": f"{config.family}, {config.side}×{config.side}: {', '.join(family.names)}; {pool.stored:,} to train on, in"
        f" two halves without a common image, the images of a small N among those of a larger one; {config.unseen:,} unseen.",
        "Networks": f"Bias-free, blind UNet of width {config.width}. {training_method(config.training)}",
        "Sampling": f"{config.measurement.samples} samples of each network by the blind ascent from the same noise, cut to"
        " [−1, 1].",
        "m": "The audit's count in pixels: samples nearer to the training set than 99 % of unseen images are, less what chance"
        " puts there, over both networks.",
        "q": "(s − s̄) / (1 − s̄): s the cosine similarity of two samples from the same noise, each less its own mean, s̄ that of"
        " samples from different noise.",
        "Q": f"1 − (1 − e) / (1 − {floor:.3f}), from 0 to 1: e is the share of a sample's variance that the nearest member of"
        f" the family explains, {floor:.3f} the same of samples of a Gaussian with the images' mean and covariance; 0 for"
        " samples above the count's level.",
        "Intervals": "95 %, bootstrap over samples; they do not say how far another training run would change a number.",
        "Seed": f"{config.seed} for images, subsets and networks.",
    }
