"""Are the eigenvectors of a Jacobian waves that follow the image? Charts, claims, and means over images for both."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from scorescope.probes.intervals import Estimate, mean_over_images
from scorescope.probes.spectra import Spectrum
from scorescope.study import charts, palette
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results

Floats = npt.NDArray[np.float64]
Found = Sequence[Sequence[Spectrum]]
RANK = "rank k of the eigenvector"
FIGURE = "kadkhodaie2024, figure 3"


def waves(results: Results, found: Found, row: Sequence[Spectrum], section: str) -> None:
    """Harmonicity over k at one level, and over sigma, beside random rotations."""
    ranks = np.arange(1, row[0].kept + 1)
    low, high = np.mean([one.band for one in row], axis=0)
    level = np.full(len(ranks), (low + high) / 2)
    panels = [
        charts.Panel(
            [
                charts.Series("eigenvectors", ranks, mean_by_rank(row, "concentration"), colour=palette.BLUE),
                charts.Series("random rotations", ranks, level, level * 0 + low, level * 0 + high, colour=palette.GREY),
            ],
            "concentration",
            "Energy in one wave",
            y_range=(0.0, 1.0),
        ),
        charts.Panel(
            [charts.Series("eigenvectors", ranks, mean_by_rank(row, "frequency"), colour=palette.BLUE)],
            "periods a pixel",
            "Its frequency",
            y_range=(0.0, None),
        ),
        charts.Panel(
            [charts.Series("eigenvectors", ranks, mean_by_rank(row, "on_contours"), colour=palette.BLUE)],
            "share of energy",
            "On contours",
            y_range=(0.0, 1.0),
            levels={float(np.mean([one.contour_area for one in row])): "their share of the pixels"},
        ),
        charts.Panel(
            [charts.Series("eigenvectors", ranks, mean_by_rank(row, "along"), colour=palette.BLUE)],
            "share of change",
            "Along the contours",
            y_range=(0.0, 1.0),
            levels={0.5: "no preference"},
        ),
    ]
    results.add_chart(
        "harmonicity-ranks",
        "Eigenvectors as waves, rank by rank",
        f"At σ = {row[0].sigma:.2g}: how much of each eigenvector is one wave (band: 95 % of the vectors of random rotations of"
        " the same space), the wave's frequency, how much of the vector lies on the clean image's contours (the rest is in flat"
        f" regions), and which share of its change there is along them. {mean_of([row])}.",
        section,
        charts.lines(panels, RANK, columns=2, x_log=False),
        folded=True,
    )
    _waves_over_levels(results, found, section)


def _waves_over_levels(results: Results, found: Found, section: str) -> None:
    sigmas = [row[0].sigma for row in found]
    titles = {
        "concentration": ("Mean share of the energy in one wave", "concentration"),
        "specialization": ("How differently they lie on contours", "standard deviation"),
        "along": ("Mean share of the change along contours", "share of change"),
    }
    panels = []
    for name, (title, label) in titles.items():
        own = np.array([[one.harmonic[name][0] for one in row] for row in found])
        control = np.stack([np.mean([one.harmonic[name][1] for one in row], axis=0) for row in found])
        low, high = np.quantile(control, [0.025, 0.975], axis=1)
        panels.append(
            charts.Panel(
                [
                    level_line(sigmas, "eigenvectors", mean_over_images(own), palette.BLUE),
                    charts.Series("random rotations", sigmas, control.mean(1), low, high, colour=palette.GREY),
                ],
                label,
                title,
                y_range=(0.0, None),
            )
        )
    results.add_chart(
        "harmonicity-levels",
        "The eigenvectors against random rotations of the same space",
        f"The leading {found[0][0].kept} eigenvectors beside random rotations of them, which span the same space: what the two"
        f" share is a property of the space. {mean_of(found)}; bands: 95 % over images, and over rotations.",
        section,
        charts.lines(panels),
        folded=True,
    )


def claims(results: Results, row: Sequence[Spectrum], untested: str) -> None:
    """The paper's sentences about figure 3, at the level of its pictures; `untested` says why they cannot be tested."""
    d = row[0].dimension
    # Where only the leading eigenpairs are known, they must reach as far as the question does.
    half = [
        float((v > 0.5).sum()) / d if len(v) == d or v[-1] <= 0.5 else math.nan for v in (o.eigenvalues for o in row)
    ]
    top = max(1, d // 10)
    held = [1 - float(one.contrast_left[top]) if top < len(one.contrast_left) else math.nan for one in row]
    rank = [
        float(stats.spearmanr(one.eigenvalues[: one.kept], np.abs(one.coefficients[: one.kept])).statistic)
        for one in row
    ]
    skew = [one.asymmetry.value for one in row]
    cases: list[tuple[str, str, list[float], Rule]] = [
        (
            "The shrinkage factors decay fast: few directions of the noisy image are kept.",
            "share of all directions of which more than half is kept",
            half,
            Rule(at_most=0.1, because="nine tenths of the directions are mostly removed"),
        ),
        (
            "The clean image's coefficients decay fast in the denoiser's basis.",
            f"share of its energy about its mean on the leading {top} of {d} eigenvectors",
            held,
            Rule(
                at_least=0.9,
                because="a tenth of the directions hold nine tenths of the contrast",
            ),
        ),
        (
            "Large coefficients are kept, small ones are removed.",
            f"rank correlation between λ and |⟨x, e⟩| over the leading {row[0].kept}",
            rank,
            Rule(at_least=0.4, because="a trend that a chart shows plainly"),
        ),
        (
            "The Jacobian is nearly symmetric.",
            "‖J − Jᵀ‖/‖J‖",
            skew,
            Rule(at_most=0.3, because="the antisymmetric part has less than 3 % of the energy"),
        ),
        (
            "The eigenvectors oscillate: they are harmonic.",
            "mean concentration of the energy in one wave, over that of random rotations of the same space",
            [ratio(one, "concentration") for one in row],
            Rule(at_least=1.2, because="rotations differ from each other by a few percent"),
        ),
        (
            "They are adapted to the image's geometry: some lie along contours, others in flat regions.",
            "standard deviation of the share of energy on contours, over that of random rotations of the same space",
            [ratio(one, "specialization") for one in row],
            Rule(at_least=1.2, because="as above"),
        ),
    ]
    for sentence, quantity, values, rule in cases:
        mean = mean_over_images([values])
        value, interval = float(mean.value[0]), (float(mean.low[0]), float(mean.high[0]))
        said = f"mean over {len(row)} images at σ = {row[0].sigma:.2g}"
        results.claims.append(
            Claim(
                sentence,
                FIGURE,
                f"{quantity}; {said}",
                None if untested or not math.isfinite(value) else value,
                rule,
                interval=interval if not untested and math.isfinite(value) else None,
                note=f"{untested}; measured {value:.3g}" if untested else _odd(value),
            )
        )


def _odd(value: float) -> str:
    return (
        "" if math.isfinite(value) else "not known: an image without contours, or too few eigenpairs computed to tell"
    )


def over_images(row: Sequence[Spectrum], measured: Callable[[Spectrum], Floats]) -> Estimate:
    """Mean over images, rank by rank, with its 95 % interval."""
    return mean_over_images(np.stack([measured(one) for one in row], axis=1))


def mean_ratio(row: Sequence[Spectrum], name: str) -> float:
    """Of a number of the eigenvectors over that of random rotations, mean over images."""
    return float(np.mean([ratio(one, name) for one in row]))


def ratio(one: Spectrum, name: str) -> float:
    """Of a number of the eigenvectors over that of random rotations; NaN where that is zero."""
    value, control = one.harmonic[name]
    mean = float(control.mean())
    return value / mean if mean else math.nan


def mean_by_rank(row: Sequence[Spectrum], name: str) -> Floats:
    """Mean over images of what is known, rank by rank."""
    values = np.stack([getattr(one, name) for one in row])
    known = np.isfinite(values)
    totals = np.where(known, values, 0).sum(0)
    return np.asarray(np.where(known.any(0), totals / np.maximum(known.sum(0), 1), np.nan))


def rank_line(name: str, mean: Estimate, colour: str, dashed: bool = False) -> charts.Series:
    """A line over ranks with its interval."""
    ranks = np.arange(1, len(mean.value) + 1)
    return charts.Series(name, ranks, mean.value, mean.low, mean.high, colour=colour, dashed=dashed)


def level_line(sigmas: Sequence[float], name: str, mean: Estimate, colour: str) -> charts.Series:
    """A line over noise levels with its interval."""
    return charts.Series(name, sigmas, mean.value, mean.low, mean.high, colour=colour)


def mean_of(found: Found) -> str:
    """What numbers are means of, for a caption."""
    count = len(found[0])
    return f"Mean over {count} images" if count > 1 else "One image"
