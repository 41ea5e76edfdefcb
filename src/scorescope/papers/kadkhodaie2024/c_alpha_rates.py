"""How fast errors on C^α images fall, beside the best rate that is possible: PSNR slopes, eigenvectors, claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from scorescope.papers.kadkhodaie2024.c_alpha import CAlphaConfig, MeasuredCase
from scorescope.probes.intervals import mean_over_images
from scorescope.probes.slopes import WAVELET_SLOPE
from scorescope.study import charts, palette, pictures
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results

SLOPES = "How fast the error falls with the noise"
BASIS = "The basis of the network"
NETWORK, ORACLE, THRESHOLD = "network", "wavelets, oracle", "wavelets, thresholding"
TOLERANCE = 0.1
TREND = "whether it grows towards the optimum with size and training is measured in kadkhodaie2024/trends"
SLOPE_RULE = Rule(
    at_least=-TOLERANCE, at_most=TOLERANCE, because="either way; the paper's own networks are off by up to 0.06"
)


def fill(
    results: Results,
    found: Sequence[MeasuredCase],
    config: CAlphaConfig,
    source: str,
    published: Mapping[float, float] | None = None,
) -> None:
    """Everything that the C^α studies have in common.

    Args:
        results: what is filled.
        found: the cases.
        config: settings.
        source: the figure, as claims name it.
        published: α -> slope of the paper's network, where the paper says one.
    """
    _headline(results, found, config)
    _curves(results, found, config)
    _slopes(results, found, config, published or {})
    _table(results, found, config, published or {})
    _eigenvalues(results, found, config)
    _eigenvectors(results, found, config)
    slope_claims(results, found, config, source)
    gain_claim(results, found, config, source)
    _methods(results, found, config)


def _headline(results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig) -> None:
    said = [f"{one.slope.value:.2f} ({one.case.optimal:.2f}) at {one.case.label}" for one in found]
    off = max(abs(one.slope.value - one.case.optimal) for one in found)
    low, high = config.fit_range
    results.headline = (
        f"PSNR slopes of the networks, and the optimum: {', '.join(said)}; at most {off:.2f} apart, over input PSNRs of"
        f" {low:g} to {high:g} dB."
    )


def _curves(results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig) -> None:
    x = config.input_psnr
    ends = np.array(config.fit_range)
    panels = []
    for one in found:
        series = []
        for name, values, colour, dashed in (
            (NETWORK, one.network, palette.BLUE, False),
            (ORACLE, one.oracle, palette.SLATE, False),
            (THRESHOLD, one.threshold, palette.GOLD, True),
        ):
            mean = mean_over_images(values)
            series.append(charts.Series(name, x, mean.value, mean.low, mean.high, colour=colour, dashed=dashed))
        middle = float(one.slope.line(ends.mean()))
        optimum = middle + one.case.optimal * (ends - ends.mean())
        series.append(charts.Series("optimal slope", ends, optimum, colour=palette.ORANGE, dashed=True))
        panels.append(
            charts.Panel(
                series, "output PSNR (dB)", f"{one.case.label}: {one.slope.value:.2f} ({one.case.optimal:.2f})"
            )
        )
    results.add_chart(
        "psnr",
        "Output against input PSNR, with the optimal slope",
        "Above each panel the slope of the network and, in brackets, the optimal one, drawn dashed through the middle of the"
        f" network's curve over the range of the fit; wavelets by what they attain at best (oracle) and by thresholding."
        f" Means over {config.test_images} test images a class, bands are 95 % intervals over images; the grey line is the"
        " input itself.",
        SLOPES,
        charts.psnr_in_out(panels, columns=2 if len(panels) > 3 and not any(one.case.mixed for one in found) else 1),
    )


def _slopes(
    results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig, published: Mapping[float, float]
) -> None:
    order = sorted(found, key=lambda one: (one.case.optimal, one.slope.value))
    x = [one.case.optimal for one in order]
    series = []
    for name, colour, slopes in (
        (NETWORK, palette.BLUE, [one.slope for one in order]),
        (ORACLE, palette.SLATE, [one.oracle_slope for one in order]),
        (THRESHOLD, palette.GOLD, [one.threshold_slope for one in order]),
    ):
        low, high = zip(*(slope.interval for slope in slopes), strict=True)
        series.append(charts.Series(name, x, [slope.value for slope in slopes], low, high, colour=colour))
    known = [one for one in order if _paper(one, published) is not None]
    if known:
        values = [_paper(one, published) for one in known]
        series.append(
            charts.Series(
                "the paper's network",
                [one.case.optimal for one in known],
                np.array(values, dtype=float),
                colour=palette.ORANGE,
                dashed=True,
            )
        )
    start, end = config.fit_range
    results.add_chart(
        "slopes",
        "Measured slope against the optimal one",
        f"Least-squares slopes over input PSNRs of {start:g} to {end:g} dB; on the grey line the slope is the optimal one."
        f" Bands: 95 % intervals, bootstrap over {config.test_images} test images. In the limit of many pixels wavelets"
        f" have slope {WAVELET_SLOPE:g} whatever α ≥ 1 is; at this size they are not there yet.",
        SLOPES,
        charts.lines(charts.Panel(series, "measured slope", identity=True), "optimal slope α / (α + 1)", x_log=False),
    )


def _table(
    results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig, published: Mapping[float, float]
) -> None:
    rows = []
    for one in found:
        row: dict[str, object] = {
            "class": one.case.label,
            "slope": one.slope.value,
            "low": one.slope.interval[0],
            "high": one.slope.interval[1],
            "optimal": one.case.optimal,
        }
        if published:
            row["paper"] = _paper(one, published)
        row |= {
            "off the line": one.slope.residual,
            "wavelet": one.wavelet,
            "slope, oracle": one.oracle_slope.value,
            "slope, threshold": one.threshold_slope.value,
            "gain over oracle": one.gain(one.oracle, config.input_psnr, config.fit_range),
            "gain over threshold": one.gain(one.threshold, config.input_psnr, config.fit_range),
        }
        rows.append(row)
    frame = pd.DataFrame(rows)
    if published:
        frame["paper"] = frame["paper"].astype(float)
    results.add_table(
        "slopes",
        "Slopes and gains",
        "Slope of the network with its 95 % interval; root mean square distance of its curve from the straight line; the"
        " wavelet that stands for fixed bases, the slopes of what it attains, and the network's mean PSNR above that.",
        frame,
        formats={name: ".2f" for name in frame.columns if name not in ("class", "wavelet")},
        units={"off the line": "dB", "gain over oracle": "dB", "gain over threshold": "dB"},
    )


def _eigenvalues(results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig) -> None:
    series = []
    for one, colour in zip(found, palette.sequence(len(found)), strict=True):
        values = one.eigenvalues.mean(0)
        series.append(charts.Series(one.case.label, np.arange(1, len(values) + 1), values, colour=colour))
    results.add_chart(
        "eigenvalues",
        "How much of each direction is kept",
        f"Eigenvalues of the Jacobian's symmetric part at σ = {config.eigen_sigma:g}, sorted, mean over"
        f" {config.eigen_images} noisy test images: the more regular the class, the fewer directions are kept."
        f" Asymmetry ‖J − Jᵀ‖/‖J‖: {', '.join(f'{one.asymmetry.mean():.2f}' for one in found)}.",
        BASIS,
        charts.lines(
            charts.Panel(series, "eigenvalue", y_range=(-0.3, None), levels={0.0: "removed", 1.0: "kept"}), "rank"
        ),
    )


def _eigenvectors(results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig) -> None:
    captions = [["", "", "", *(f"λ {one.eigenvalues[0, k - 1]:.2f}" for k in config.shown)] for one in found]
    results.add_sheet(
        "eigenvectors",
        "Eigenvectors at one noisy image of each class",
        f"A test image of each class, with noise of σ = {config.eigen_sigma:g}, as the network denoises it, and eigenvectors"
        " of its Jacobian there, by rank, with their eigenvalues (mid-grey is 0): they oscillate along the contour and in"
        " the regular regions beside it.",
        BASIS,
        pictures.grid(
            np.stack([one.pictures for one in found]),
            row_labels=[one.case.label for one in found],
            column_labels=["clean", "noisy", "denoised", *(f"{k}" for k in config.shown)],
            captions=captions,
        ),
    )


def slope_claims(results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig, source: str) -> None:
    """One claim a class: its slope is the optimal one."""
    for one in found:
        off = one.slope.value - one.case.optimal
        few = config.too_small
        said = f"measured slope {one.slope.value:.2f}"
        results.claims.append(
            Claim(
                f"The PSNR slope is near the optimal α/(α+1) = {one.case.optimal:.2f} at {one.case.label}.",
                f"kadkhodaie2024, {source}",
                f"slope over input PSNRs of {config.fit_range[0]:g} to {config.fit_range[1]:g} dB minus the optimum",
                None if few else off,
                SLOPE_RULE,
                interval=None if few else tuple(end - one.case.optimal for end in one.slope.interval),  # type: ignore[arg-type]
                note=f"{few}; {said}" if few else f"{said}{'' if SLOPE_RULE.holds(off) else f'; {TREND}'}",
            )
        )


def gain_claim(results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig, source: str) -> None:
    """Networks denoise better than a fixed basis does, for the class where they do so least."""
    gains = {one.case.label: one.gain(one.threshold, config.input_psnr, config.fit_range) for one in found}
    oracle = {one.case.label: one.gain(one.oracle, config.input_psnr, config.fit_range) for one in found}
    worst = min(gains, key=lambda label: gains[label])
    few = config.too_small
    said = f"{worst}; over the oracle, which knows the clean image, {min(oracle.values()):.1f} to {max(oracle.values()):.1f} dB"
    results.claims.append(
        Claim(
            "An adaptive basis is worth more than a fixed one: networks denoise better than thresholding in wavelets does.",
            f"kadkhodaie2024, {source}",
            "mean PSNR of the network minus that of thresholding, over the range of the fit, lowest over classes",
            None if few else gains[worst],
            Rule(above=0.0),
            unit="dB",
            note=f"{few}; {said}" if few else said,
        )
    )


def _methods(results: Results, found: Sequence[MeasuredCase], config: CAlphaConfig) -> None:
    slope = found[0].slope
    results.methods |= {
        "Data": f"C^α images of {config.size}×{config.size} pixels: {config.images} to train on for each class,"
        f" {config.test_images} others to measure on. Contour and sides are uniform noise filtered by |ω|^-α.",
        "Networks": config.network.said,
        "Slope": f"Least squares of output on input PSNR over {config.fit_range[0]:g} to {config.fit_range[1]:g} dB,"
        f" {slope.levels} levels; interval: 95 % percentiles over resampled images, not over training runs. A network that"
        " is not trained to the end has a slope that depends on which noise levels its training favours.",
        "Optimal slope": "α/(α+1) with the smaller of the exponents of contour and sides. It is a limit of small noise and"
        " many pixels: at low noise every slope tends to 1, at high noise to 0. In two dimensions noise filtered by |ω|^-α is"
        " rougher than its exponent says: sides alone are denoised by the best linear filter at a slope of (α−1)/α.",
        "Wavelets": f"Orthonormal, periodic ({', '.join(config.wavelets)}), the better of them by its oracle. Expected errors"
        " of oracle shrinkage c²/(c²+σ²) and of hard thresholding at σ sqrt(2 ln d), computed without drawing noise.",
        "Eigenvectors": f"Full Jacobian at {config.eigen_images} noisy test images, symmetric part.",
        "Seed": f"{config.seed} for noise, choices and resampling.",
    }


def _paper(one: MeasuredCase, published: Mapping[float, float]) -> float | None:
    return published.get(one.case.contour) if not one.case.mixed else None
