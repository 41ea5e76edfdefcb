"""The parts of a page about spectra: each takes what was measured and adds its charts, sheets, tables and claims to results."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from scorescope.papers.kadkhodaie2024.spectra import HARMONIC, Spectrum
from scorescope.probes.intervals import Estimate, mean_over_images
from scorescope.study import charts, palette, pictures
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results

Floats = npt.NDArray[np.float64]
Found = Sequence[Sequence[Spectrum]]
SHRINKAGE, BASIS, WAVES = "What is kept of each direction", "The basis", "Is it harmonic, does it follow the contours?"
RANK = "rank k of the eigenvector"
FIGURE = "kadkhodaie2024, figure 3"
SHOWN = (1, 2, 3, 5, 9, 17, 33, 64)


def eigenvalues(results: Results, found: Found) -> None:
    """Decay of the shrinkage factors, one line a level."""
    series = []
    for row, colour in zip(found, palette.sequence(len(found)), strict=True):
        mean = over_images(row, lambda one: one.eigenvalues)
        series.append(_line(f"σ = {row[0].sigma:.2g}", mean, colour))
    exact = all(one.exact for row in found for one in row)
    results.add_chart(
        "eigenvalues",
        "How much of each direction is kept",
        f"Eigenvalues of the symmetric part of the Jacobian, sorted{'' if exact else ' (the leading ones)'}: shrinkage factors"
        f" of the denoiser in its own basis, which fall the sooner the more noise there is. {_mean_of(found)}.",
        SHRINKAGE,
        charts.lines(
            charts.Panel(series, "eigenvalue λ", y_range=(-0.2, 1.3), levels={0.0: "removed", 1.0: "kept"}), RANK
        ),
    )


def coefficients(results: Results, row: Sequence[Spectrum]) -> None:
    """Shrinkage against the best one in that basis, and the coefficients of the clean image."""
    sizes = over_images(row, lambda one: np.abs(one.coefficients))
    oracle = over_images(row, lambda one: one.oracle)
    kept = over_images(row, lambda one: one.eigenvalues)
    sigma = row[0].sigma
    panels = [
        charts.Panel(
            [
                _line("eigenvalue λ", kept, palette.BLUE),
                _line("best in this basis", oracle, palette.ORANGE, dashed=True),
            ],
            "share kept",
            "Shrinkage",
            y_range=(-0.2, 1.3),
        ),
        charts.Panel(
            [_line("|⟨x, e⟩| of the clean image", sizes, palette.GREEN)],
            "magnitude",
            "Coefficients of the clean image",
            y_log=True,
            levels={sigma: "noise σ"},
        ),
    ]
    results.add_chart(
        "coefficients",
        "Shrinkage factors and coefficients",
        f"At σ = {sigma:.2g}: the factor by which each coefficient shrinks, beside what would be best if the clean image were"
        " known, x²/(x² + σ²); and the clean image's coefficients (brightness above black) in the same basis, which fall"
        f" together with the factors. {_mean_of([row])}.",
        SHRINKAGE,
        charts.lines(panels, RANK),
    )


def unexplained(results: Results, row: Sequence[Spectrum]) -> None:
    """What the leading k leave of the clean image's contrast and of the denoised image."""
    ranks = np.arange(len(row[0].contrast_left))
    series = [
        charts.Series("of the clean image's contrast (energy)", ranks[1:], _mean(row, "contrast_left")[1:]),
        charts.Series("of the denoised image (norm)", ranks[1:], _mean(row, "denoised_left")[1:], dashed=True),
    ]
    results.add_chart(
        "unexplained",
        "What the leading eigenvectors leave unexplained",
        f"At σ = {row[0].sigma:.2g}: share of the clean image's energy about its mean outside of the first k eigenvectors, and"
        " relative distance of the denoised image to the shrunk coefficients on them alone, which ends above zero where the"
        f" Jacobian is not symmetric or the denoiser not bias-free. {_mean_of([row])}.",
        SHRINKAGE,
        charts.lines(charts.Panel(series, "share left", y_range=(0.0, 1.0)), "number k of eigenvectors"),
    )


def eigenvectors(results: Results, row: Sequence[Spectrum]) -> None:
    """Eigenvectors as images, a row an image."""
    ranks = [rank for rank in SHOWN if rank <= min(one.kept for one in row)]
    tiles = [np.concatenate([one.pictures[:3], one.pictures[[2 + rank for rank in ranks]]]) for one in row]
    captions = [["", "", "", *(f"λ {one.eigenvalues[rank - 1]:.2f}" for rank in ranks)] for one in row]
    results.add_sheet(
        "eigenvectors",
        "Eigenvectors as images",
        f"Images with noise of σ = {row[0].sigma:.2g}, as they are denoised, and eigenvectors of the Jacobian there, by rank,"
        " with their eigenvalues (mid-grey is 0): the paper sees oscillations along contours and in flat regions.",
        BASIS,
        pictures.grid(
            np.stack(tiles),
            row_labels=[f"image {place + 1}" for place in range(len(row))],
            column_labels=["clean", "noisy", "denoised", *(f"e{rank}" for rank in ranks)],
            captions=captions,
        ),
    )


def effective_dimension(results: Results, found: Found) -> None:
    """Trace and asymmetry over sigma."""
    sigmas = [row[0].sigma for row in found]
    trace = mean_over_images([[one.trace.value for one in row] for row in found])
    skew = mean_over_images([[one.asymmetry.value for one in row] for row in found])
    panels = [
        charts.Panel(
            [_over(sigmas, "tr ∇D", trace, palette.BLUE)], "dimensions", "Effective dimension", y_range=(0.0, None)
        ),
        charts.Panel(
            [_over(sigmas, "‖J − Jᵀ‖/‖J‖", skew, palette.ORANGE)], "relative size", "Asymmetry", y_range=(0.0, None)
        ),
    ]
    results.add_chart(
        "dimension",
        "How many directions are kept, and how symmetric the Jacobian is",
        f"Effective dimension: the trace of the Jacobian, of {found[0][0].dimension} for a denoiser that keeps everything."
        f" Asymmetry: 0 for a posterior mean, √2 for a random matrix. {_mean_of(found)}, 95 % intervals over images.",
        BASIS,
        charts.lines(panels),
    )


def waves(results: Results, found: Found, row: Sequence[Spectrum]) -> None:
    """Harmonicity over k at one level, and over sigma, beside random rotations."""
    ranks = np.arange(1, row[0].kept + 1)
    low, high = np.mean([one.band for one in row], axis=0)
    level = np.full(len(ranks), (low + high) / 2)
    panels = [
        charts.Panel(
            [
                charts.Series("eigenvectors", ranks, _mean(row, "concentration"), colour=palette.BLUE),
                charts.Series("random rotations", ranks, level, level * 0 + low, level * 0 + high, colour=palette.GREY),
            ],
            "concentration",
            "Energy in one wave",
            y_range=(0.0, 1.0),
        ),
        charts.Panel(
            [charts.Series("eigenvectors", ranks, _mean(row, "frequency"), colour=palette.BLUE)],
            "periods a pixel",
            "Its frequency",
            y_range=(0.0, None),
        ),
        charts.Panel(
            [charts.Series("eigenvectors", ranks, _mean(row, "on_contours"), colour=palette.BLUE)],
            "share of energy",
            "On contours",
            y_range=(0.0, 1.0),
            levels={float(np.mean([one.contour_area for one in row])): "their share of the pixels"},
        ),
        charts.Panel(
            [charts.Series("eigenvectors", ranks, _mean(row, "along"), colour=palette.BLUE)],
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
        f" regions), and which share of its change there is along them. {_mean_of([row])}.",
        WAVES,
        charts.lines(panels, RANK, columns=2, x_log=False),
    )
    _waves_over_levels(results, found)


def _waves_over_levels(results: Results, found: Found) -> None:
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
                    _over(sigmas, "eigenvectors", mean_over_images(own), palette.BLUE),
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
        f" share is a property of the space. {_mean_of(found)}; bands: 95 % over images, and over rotations.",
        WAVES,
        charts.lines(panels),
    )


def numbers(results: Results, found: Found) -> None:
    """All of it in a table, a row a level."""
    rows = []
    for row in found:
        line: dict[str, object] = {
            "σ": row[0].sigma,
            "effective dimension": float(np.mean([one.trace.value for one in row])),
            "asymmetry": float(np.mean([one.asymmetry.value for one in row])),
            "lowest λ": float(np.mean([one.lowest for one in row])),
            "λ below 0": float(np.mean([one.negative for one in row])) if row[0].exact else math.nan,
        }
        for name in HARMONIC:
            line[name] = float(np.mean([one.harmonic[name][0] for one in row]))
            line[f"{name}, rotated"] = float(np.mean([one.harmonic[name][1].mean() for one in row]))
        rows.append(line)
    errors = [one.trace.error for row in found for one in row]
    results.add_table(
        "spectra",
        "The Jacobian over noise levels",
        f"Means over {len(found[0])} images. Largest standard error of a trace {max(errors):.2g}. Empty: only the leading"
        " eigenpairs of these images were computed. λ below 0 counts those below −0.0001.",
        pd.DataFrame(rows),
    )


def arrays(results: Results, found: Found) -> None:
    """Everything that was measured rank by rank, as arrays (levels, images, ranks), and the eigenvectors."""
    names = ("eigenvalues", "coefficients", "oracle", "contrast_left", "denoised_left")
    for name in (*names, "frequency", "concentration", "on_contours", "along", "pictures"):
        results.arrays[name] = np.stack([[getattr(one, name) for one in row] for row in found])
    results.arrays["sigma"] = np.array([row[0].sigma for row in found])
    for name, control in (
        (name, np.stack([[one.harmonic[name][1] for one in row] for row in found])) for name in HARMONIC
    ):
        results.arrays[f"{name}_rotated"] = control


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
            [_ratio(one, "concentration") for one in row],
            Rule(at_least=1.2, because="rotations differ from each other by a few percent"),
        ),
        (
            "They are adapted to the image's geometry: some lie along contours, others in flat regions.",
            "standard deviation of the share of energy on contours, over that of random rotations of the same space",
            [_ratio(one, "specialization") for one in row],
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


def over_images(row: Sequence[Spectrum], measured: Callable[[Spectrum], Floats]) -> Estimate:
    """Mean over images, rank by rank, with its 95 % interval."""
    return mean_over_images(np.stack([measured(one) for one in row], axis=1))


def mean_ratio(row: Sequence[Spectrum], name: str) -> float:
    """Of a number of the eigenvectors over that of random rotations, mean over images."""
    return float(np.mean([_ratio(one, name) for one in row]))


def _odd(value: float) -> str:
    return (
        "" if math.isfinite(value) else "not known: an image without contours, or too few eigenpairs computed to tell"
    )


def _ratio(one: Spectrum, name: str) -> float:
    value, control = one.harmonic[name]
    mean = float(control.mean())
    return value / mean if mean else math.nan


def _mean(row: Sequence[Spectrum], name: str) -> Floats:
    values = np.stack([getattr(one, name) for one in row])
    known = np.isfinite(values)
    totals = np.where(known, values, 0).sum(0)
    return np.asarray(np.where(known.any(0), totals / np.maximum(known.sum(0), 1), np.nan))


def _line(name: str, mean: Estimate, colour: str, dashed: bool = False) -> charts.Series:
    ranks = np.arange(1, len(mean.value) + 1)
    return charts.Series(name, ranks, mean.value, mean.low, mean.high, colour=colour, dashed=dashed)


def _over(sigmas: Sequence[float], name: str, mean: Estimate, colour: str) -> charts.Series:
    return charts.Series(name, sigmas, mean.value, mean.low, mean.high, colour=colour)


def _mean_of(found: Found) -> str:
    count = len(found[0])
    return f"Mean over {count} images" if count > 1 else "One image"
