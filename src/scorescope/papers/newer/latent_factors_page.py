"""Does agreement show that factors were learned: the page, and the rules that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.papers.newer.drawn import line_of, mean_of
from scorescope.papers.newer.recovery import HALF, Floats, Numbers, doublings_between, first_reach
from scorescope.probes.intervals import LEVEL
from scorescope.probes.latent_factors import FAMILIES, factor_distances
from scorescope.study import charts, palette, pictures
from scorescope.study.claims import Claim, Rule
from scorescope.study.pairs import NETWORKS
from scorescope.study.results import Results

SOURCE = "Maillard & Goldt 2026, arXiv 2605.21402"
SECTION, DISTRIBUTION = "Agreement and recovery", "Whether the factors are distributed as in the data"
APART, LEAST_RISE, FLAT = 1.0, 0.25, 0.99
"""Doublings of N; rise of q and of Q without which there is no step to look at; share from which on a family has a Gaussian
model's samples as members."""
ENOUGH_SIZES, ENOUGH_SAMPLES, SHOWN = 4, 64, 8
COLOURS = {"m": palette.RED, "q": palette.BLUE, "Q": palette.GREEN}
WITHOUT_COPIES = "Q of samples that are no copies"
WORDS = {"m": "m, copies", "q": "q, agreement", "Q": "Q, recovery"}


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        family: of the images.
        numbers: for every N, increasing.
        samples: N -> network -> its samples (n, 1, side, side).
        reference: factors of images of the family, (r, P).
        floor: share of a Gaussian model's samples that the family explains.
        ceiling: the same of training images, which have 8 bits.
    """

    family: str
    numbers: list[Numbers]
    samples: Mapping[int, Mapping[str, Tensor]]
    reference: Floats
    floor: float
    ceiling: float

    @property
    def sizes(self) -> list[int]:
        """Every N."""
        return [one.size for one in self.numbers]

    @property
    def words(self) -> dict[str, str]:
        """The numbers that are defined, in words: no Q for a family that a Gaussian model's samples belong to."""
        return {name: words for name, words in WORDS.items() if name != "Q" or self.floor < FLAT}

    def means(self, name: str) -> list[float]:
        """Mean of m, q or Q for every N."""
        return [float(one.values(name).mean()) for one in self.numbers]

    def reach(self, name: str) -> float:
        """ln N at which a number first reaches one half, see `first_reach`."""
        return first_reach(self.sizes, self.means(name))


def fill(results: Results, found: Found) -> None:
    """Charts, samples, tables, claims and headline."""
    _show(results, found)
    _sheet(results, found.samples)
    _numbers_table(results, found)
    _factors(results, found)
    _claims(results, found)
    results.headline = _headline(found)


def _show(results: Results, found: Found) -> None:
    sizes = found.sizes
    series = []
    for name, words in found.words.items():
        means = [one.mean(name) for one in found.numbers]
        series.append(line_of(words, sizes, means, COLOURS[name], dashed=name == "m"))
    recovery = (
        " Q: how far samples are members of the family, and no copies. If agreement showed that factors were learned, q and Q"
        " would rise together."
        if "Q" in found.words
        else " Q is not defined, as samples of a Gaussian model are members of the family as well."
    )
    results.add_chart(
        "numbers",
        "Copies, agreement and recovery",
        "m: share of samples that are copies; q: how alike the two networks' samples from the same noise are, beyond chance;"
        f"{recovery} Bands: 95 % intervals over samples.",
        SECTION,
        charts.lines(charts.Panel(series, "from 0 to 1", levels={HALF: "one half"}), "training images N"),
    )
    series = [
        line_of(f"network {name}", sizes, [mean_of(one.explained[name]) for one in found.numbers]) for name in NETWORKS
    ]
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


def _numbers_table(results: Results, found: Found) -> None:
    rows = []
    for one in found.numbers:
        means = {words: one.mean(name) for name, words in found.words.items()}
        row = {"N": one.size} | {
            words: mean.words() if math.isfinite(mean.value) else "–" for words, mean in means.items()
        }
        if "Q" in found.words:
            others = one.without_copies()
            row[WITHOUT_COPIES] = others.words() if others else "–"
        rows.append(row | {"explained": mean_of(np.concatenate(list(one.explained.values()))).words()})
    copies = " Q is 0 for copies: where there are many, it is low for that." if "Q" in found.words else ""
    results.add_table(
        "numbers",
        "Copies, agreement and recovery for every N",
        f"With 95 % intervals over samples. A Gaussian model's samples are explained to {found.floor:.3f} by the family;"
        f" training images, in 8 bits, to {found.ceiling:.3f}.{copies}",
        pd.DataFrame(rows),
    )


def _factors(results: Results, found: Found) -> None:
    names = FAMILIES[found.family].names
    rows: list[dict[str, Any]] = []
    for one in found.numbers:
        pooled = np.concatenate(list(one.factors.values()))
        for name, (distance, probability) in factor_distances(pooled, found.reference, names).items():
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
        f"Kolmogorov's distance between the factors read off both networks' samples and {len(found.reference):,} draws of the"
        " data's; at a level of 5 % over all factors of an N, samples counted as independent.",
        pd.DataFrame(rows),
        formats={"distance": ".2f"},
        section=DISTRIBUTION,
    )
    groups = FAMILIES[found.family].groups or {"": names}
    panels, highest = [], 1.05 * max(row["distance"] for row in rows)
    for title, members in groups.items():
        series = [
            charts.Series(
                name.removeprefix(f"{title}, "),
                found.sizes,
                [row["distance"] for row in rows if row["factor"] == name],
            )
            for name in members
        ]
        panels.append(charts.Panel(series, "distance", title=title, y_range=(0.0, highest)))
    results.add_chart(
        "factors",
        "How far the factors are from those of the data",
        "Kolmogorov's distance, from 0 for the same distribution to 1, of each factor as it is read off the samples.",
        DISTRIBUTION,
        charts.lines(panels, "training images N"),
    )


def _claims(results: Results, found: Found) -> None:
    sizes, family = found.sizes, found.family
    drawn = len(found.numbers[0].agreement)
    untested = ""
    if len(sizes) < ENOUGH_SIZES or drawn < ENOUGH_SAMPLES:
        untested = f"{len(sizes)} sizes and {drawn} samples; {ENOUGH_SIZES} and {ENOUGH_SAMPLES} are asked for"
    elif "Q" not in found.words:
        untested = f"a Gaussian model's samples are members as well ({found.floor:.3f} explained): Q is not defined"
    agreement, recovery = ([one.values(name) for one in found.numbers] for name in ("q", "Q"))
    apart, known = doublings_between(sizes, agreement, recovery)
    note = untested
    if not note and not math.isfinite(apart.value):
        never = [WORDS[name] for name in ("q", "Q") if not math.isfinite(found.reach(name))]
        note = f"{' and '.join(never)} did not reach one half between N = {sizes[0]:,} and {sizes[-1]:,}"
    results.claims.append(
        Claim(
            "Recovery of the factors comes apart from agreement: Q rises at a larger number of training images than q.",
            SOURCE,
            f"doublings of N from q = ½ to Q = ½, {family}",
            None if note else apart.value,
            Rule(at_least=APART, because="a factor of two"),
            interval=None if note or not math.isfinite(apart.low) else (apart.low, apart.high),
            note=note or ("" if known > LEVEL else f"both reach one half in {known:.0%} of bootstrap draws only"),
        )
    )
    place = next((k for k, one in enumerate(found.numbers) if one.agreement.mean() >= HALF), None)
    there = None if place is None else mean_of(found.numbers[place].recovery)
    note = untested or ("" if there is not None else "q did not reach one half")
    results.claims.append(
        Claim(
            "Agreement does not show that factors were learned: where two networks first agree, Q is low.",
            SOURCE,
            f"Q at the first N with q of at least ½{'' if place is None else f', N = {sizes[place]:,}'}, {family}",
            None if note or there is None else there.value,
            Rule(below=HALF, because="less than half way"),
            interval=None if note or there is None else (there.low, there.high),
            note=note,
        )
    )
    steps = {name: np.diff([float(one.values(name).mean()) for one in found.numbers]) for name in ("q", "Q")}
    total = {name: float(rise.clip(0).sum()) for name, rise in steps.items()}
    shares = {name: float(rise.max() / max(total[name], 1e-12)) for name, rise in steps.items()}
    flat = [f"{WORDS[name]}, rises by {total[name]:.2f} in all" for name in total if total[name] < LEAST_RISE]
    note = untested or (f"{' and '.join(flat)}; {LEAST_RISE:g} is asked for" if flat else "")
    results.claims.append(
        Claim(
            "q rises continuously, and Q jumps.",
            SOURCE,
            f"largest step of Q from one N to the next as a share of its rise, less that of q, {family}",
            None if note else shares["Q"] - shares["q"],
            Rule(above=0.0),
            note=note or f"{len(sizes)} sizes, a coarse look at a jump",
        )
    )


def _headline(found: Found) -> str:
    parts = []
    for name in ("q", "Q"):
        if name not in found.words:
            continue
        place, means = found.reach(name), found.means(name)
        if math.isfinite(place):
            parts.append(f"{WORDS[name]}, reaches one half at N ≈ {math.exp(place):,.0f}")
        else:
            parts.append(f"{WORDS[name]}, goes from {means[0]:.2f} to {means[-1]:.2f}")
    return f"Of two networks on N images each: {'; '.join(parts)}."
