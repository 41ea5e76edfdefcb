"""Which directions a network keeps at an image of a manifold: eigenvectors beside tangent vectors, its error, claims."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scorescope.papers.kadkhodaie2024.manifolds import Manifold, ManifoldConfig, MeasuredManifold
from scorescope.papers.kadkhodaie2024.psnr_levels import sigma_of
from scorescope.probes.intervals import mean_over_images
from scorescope.study import charts, palette, pictures
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results

ERROR = "How far from the optimum"
BASIS = "Does the network find the tangent space?"
OPTIMUM = "optimum"
RANKS = 64
MATCH_RULE = Rule(at_least=0.8, because="most of the tangent space, of which k random directions hold k/d")
HARMONIC_RULE = Rule(at_least=1.2, because="rotations differ from each other by a few percent")
ORDER_RULE = Rule(
    at_least=0.5, because="frequency plainly rises with rank; about 0 for a random basis of the same space"
)


def fill(
    results: Results, manifold: Manifold, found: MeasuredManifold, config: ManifoldConfig, source: str, leading: str
) -> None:
    """Everything that the manifold studies have in common.

    Args:
        results: what is filled.
        manifold: of which images.
        found: what was measured.
        config: settings.
        source: the figure, as claims name it.
        leading: the paper's words for the leading eigenvectors and what they do ("The first five eigenvectors span").
    """
    match, ratio = found.match()[-1].mean(), found.error_dimension(config.input_psnr).mean(1) / found.dimension
    results.headline = (
        f"At an input PSNR of {config.tangent_psnr[-1]:g} dB {match:.0%} of the tangent space of {manifold.name} lies in the"
        f" {_first(found)}; the network's error is {ratio.min():.2g} to {ratio.max():.2g} times"
        f" that of the optimum, {found.bound}, and its PSNR slope"
        f" {found.slope.value:.2f} instead of 1."
    )
    _curves(results, found, config)
    _error_dimension(results, found, config)
    _eigenvalues(results, found, config)
    _captured(results, manifold, found, config)
    _pictures(results, manifold, found, config)
    _frequencies(results, found, config)
    _table(results, found, config)
    _claims(results, manifold, found, config, source, leading)
    _methods(results, manifold, found, config)


def _curves(results: Results, found: MeasuredManifold, config: ManifoldConfig) -> None:
    x = config.input_psnr
    mean = mean_over_images(found.psnr)
    best = x + 10 * np.log10(found.pixels / found.dimension)
    series = [
        charts.Series("network", x, mean.value, mean.low, mean.high),
        charts.Series(OPTIMUM, x, best, colour=palette.ORANGE, dashed=True),
    ]
    results.add_chart(
        "psnr",
        "Output against input PSNR",
        f"The optimum has an error of {found.bound} an image, a line of slope 1 that holds where noise is low; the network's"
        f" slope is {found.slope.value:.2f} over {config.fit_range[0]:g} to {config.fit_range[1]:g} dB. Mean over"
        f" {config.test_images} test images, band: 95 % interval over images; the grey line is the input itself.",
        ERROR,
        charts.psnr_in_out(charts.Panel(series, "output PSNR (dB)")),
    )


def _error_dimension(results: Results, found: MeasuredManifold, config: ManifoldConfig) -> None:
    mean = mean_over_images(found.error_dimension(config.input_psnr))
    traces = mean_over_images(found.eigenvalues.sum(-1))
    series = [
        charts.Series(
            "error of the network, d·MSE/σ²", config.input_psnr, mean.value, mean.low, mean.high, colour=palette.BLUE
        ),
        charts.Series(
            "trace of its Jacobian",
            config.tangent_psnr,
            traces.value,
            traces.low,
            traces.high,
            colour=palette.GREEN,
            dashed=True,
        ),
    ]
    panel = charts.Panel(series, "coordinates", levels={float(found.dimension): f"optimum, {found.dimension}"})
    results.add_chart(
        "coordinates",
        "The error in coordinates",
        "How many coordinates' worth of noise is left after denoising, and how many directions the network keeps (the trace of"
        f" its Jacobian, from which negative eigenvalues take away); of the optimal denoiser both are {found.dimension} at low"
        f" noise. Means over {config.test_images} and {config.tangent_images} test images with 95 % intervals.",
        ERROR,
        charts.lines(panel, "input PSNR (dB)", x_log=False),
    )


def _labels(config: ManifoldConfig) -> list[str]:
    return [f"{level:g} dB" for level in config.tangent_psnr]


def _eigenvalues(results: Results, found: MeasuredManifold, config: ManifoldConfig) -> None:
    ranks = np.arange(1, min(RANKS, found.pixels) + 1)
    colours = palette.sequence(len(config.tangent_psnr))
    series = []
    for label, values, colour in zip(_labels(config), found.eigenvalues, colours, strict=True):
        mean = mean_over_images(values.T[: len(ranks)])
        series.append(charts.Series(label, ranks, mean.value, mean.low, mean.high, colour=colour))
    results.add_chart(
        "eigenvalues",
        "How much of each direction is kept",
        f"Eigenvalues of the Jacobian's symmetric part, sorted, at several input PSNRs; mean over {config.tangent_images} test"
        f" images with 95 % intervals. Of the optimal denoiser {found.dimension} would be 1 and all others 0.",
        BASIS,
        charts.lines(
            charts.Panel(series, "eigenvalue", levels={0.0: "removed", 1.0: "kept"}), "rank of the eigenvector"
        ),
    )


def _captured(results: Results, manifold: Manifold, found: MeasuredManifold, config: ManifoldConfig) -> None:
    counts = np.arange(1, config.most + 1)
    colours = palette.sequence(len(config.tangent_psnr))
    series = []
    for label, values, colour in zip(_labels(config), found.captured, colours, strict=True):
        mean = mean_over_images(values.T)
        series.append(charts.Series(label, counts, mean.value, mean.low, mean.high, colour=colour))
    elsewhere = mean_over_images(found.captured_elsewhere[-1].T)
    other = f"{_labels(config)[-1]}, of another image"
    series.append(
        charts.Series(other, counts, elsewhere.value, elsewhere.low, elsewhere.high, colour=palette.RED, dashed=True)
    )
    series.append(charts.Series("random directions", counts, counts / found.pixels, colour=palette.GREY, dashed=True))
    results.add_chart(
        "captured",
        "Share of the tangent space in the leading eigenvectors",
        f"Mean squared cosine of the principal angles between the {found.dimension}-dimensional tangent space at the clean"
        f" image and the leading eigenvectors at the noisy one, by how many are taken; dashed: the tangent space at another of"
        f" the {manifold.name}, and random directions. Mean over {config.tangent_images} images, 95 % intervals.",
        BASIS,
        charts.lines(
            charts.Panel(series, "share", y_range=(0.0, 1.05), levels={1.0: "all of it"}), "leading eigenvectors taken"
        ),
    )


def _pictures(results: Results, manifold: Manifold, found: MeasuredManifold, config: ManifoldConfig) -> None:
    results.add_sheet(
        "tangents",
        "The manifold's own directions",
        f"One of the {manifold.name}, and its derivatives by the parameters (mid-grey is 0): they span the tangent space.",
        BASIS,
        pictures.strip(found.tangents, ["clean", *manifold.parameters]),
    )
    values = found.eigenvalues[:, 0]
    results.add_sheet(
        "eigenvectors",
        "Eigenvectors at the same image, by input PSNR",
        f"The image with noise, as the network denoises it, and eigenvectors of its Jacobian there by rank, with their"
        f" eigenvalues. The {_first(found)} should span the same space as the derivatives above.",
        BASIS,
        pictures.grid(
            found.eigenvectors,
            row_labels=_labels(config),
            column_labels=["noisy", "denoised", *(f"{k}" for k in config.shown)],
            captions=[["", "", *(f"λ {row[k - 1]:.2f}" for k in config.shown)] for row in values],
        ),
    )


def _frequencies(results: Results, found: MeasuredManifold, config: ManifoldConfig) -> None:
    ranks = np.arange(1, found.frequencies.shape[-1] + 1)
    colours = palette.sequence(len(config.tangent_psnr))
    series = []
    for label, values, colour in zip(_labels(config), found.frequencies, colours, strict=True):
        mean = mean_over_images(values.T * config.size)
        series.append(charts.Series(label, ranks, mean.value, mean.low, mean.high, colour=colour))
    results.add_chart(
        "frequencies",
        "How the eigenvectors oscillate",
        f"Frequency of the strongest wave in every eigenvector by its rank: beyond the {_first(found)} are directions that the"
        f" manifold does not have, and ever faster oscillation is what a harmonic basis looks like. Mean over"
        f" {config.tangent_images} images, 95 % intervals.",
        BASIS,
        charts.lines(
            charts.Panel(series, "periods an image side", y_range=(0.0, None)), "rank of the eigenvector", x_log=False
        ),
    )


def _table(results: Results, found: MeasuredManifold, config: ManifoldConfig) -> None:
    k = found.dimension
    rows = []
    for level, psnr in enumerate(config.tangent_psnr):
        values = found.eigenvalues[level].mean(0)
        rows.append(
            {
                "input PSNR": psnr,
                "σ": sigma_of(psnr),
                "share in the first k": found.match()[level].mean(),
                "largest angle": np.degrees(found.angles[level].max(-1)).mean(),
                "share in the first 2k": found.captured[level, :, min(2 * k, config.most) - 1].mean(),
                "λ k": values[k - 1],
                "λ k+1": values[k],
                "trace": values.sum(),
                "asymmetry": found.asymmetry[level].mean(),
                "wave": found.harmonic()[level].mean(),
                "rank and frequency": found.oscillation()[level].mean(),
            }
        )
    results.add_table(
        "tangents",
        "Eigenvectors and tangent space",
        f"k = {k}; means over {config.tangent_images} test images. Share of the tangent space in the leading eigenvectors,"
        " largest principal angle, the last eigenvalue that should be 1 and the first that should be 0, asymmetry"
        f" ‖J − Jᵀ‖/‖J‖; of the {config.followers} eigenvectors after the first k, how much more of their energy one wave holds"
        " than of random rotations of them (a ratio), and the rank correlation of rank and frequency.",
        pd.DataFrame(rows),
        formats={
            "σ": ".3f",
            "share in the first k": ".2f",
            "share in the first 2k": ".2f",
            "largest angle": ".0f",
            "λ k": ".2f",
            "λ k+1": ".2f",
            "trace": ".1f",
            "asymmetry": ".2f",
            "wave": ".2f",
            "rank and frequency": ".2f",
        },
        units={"input PSNR": "dB", "largest angle": "degrees"},
    )


def _claims(
    results: Results, manifold: Manifold, found: MeasuredManifold, config: ManifoldConfig, source: str, leading: str
) -> None:
    few = config.too_small
    paper, lowest = f"kadkhodaie2024, {source}", f"input PSNR {config.tangent_psnr[-1]:g} dB"
    match, harmonic, oscillation = found.match()[-1], found.harmonic()[-1], found.oscillation()[-1]
    elsewhere = found.captured_elsewhere[-1, :, found.dimension - 1].mean()
    ratio = mean_over_images(found.error_dimension(config.input_psnr)[-1:] / found.dimension)
    values = found.eigenvalues[-1].mean(0)

    def add(sentence: str, quantity: str, value: float, rule: Rule, note: str, **more: object) -> None:
        said = "; ".join(part for part in (few, note) if part)
        known = None if few else value
        interval = None if few else more.get("interval")
        results.claims.append(Claim(sentence, paper, quantity, known, rule, interval=interval, note=said))  # type: ignore[arg-type]

    add(
        f"{leading} the tangent space of {manifold.name}.",
        f"mean squared cosine of the {found.dimension} principal angles at {lowest}, {len(match)} images",
        float(match.mean()),
        MATCH_RULE,
        f"{float(match.mean()):.2f}, from {match.min():.2f} to {match.max():.2f}; with another image's tangent space"
        f" {elsewhere:.2f}",
        interval=_interval(match),
    )
    add(
        "The following eigenvectors are harmonic.",
        f"energy of the next {config.followers} eigenvectors in one wave each, over that of random rotations, at {lowest}",
        float(harmonic.mean()),
        HARMONIC_RULE,
        f"{float(harmonic.mean()):.2f}; their eigenvalues start at {values[found.dimension]:.2f}, of the optimum at 0",
        interval=_interval(harmonic),
    )
    add(
        "They oscillate faster the less of them is kept.",
        f"rank correlation of rank and frequency over the next {config.followers} eigenvectors at {lowest}",
        float(oscillation.mean()),
        ORDER_RULE,
        f"{float(oscillation.mean()):.2f}",
        interval=_interval(oscillation),
    )
    add(
        "The PSNR slope is below the optimal slope of 1.",
        f"slope over input PSNRs of {config.fit_range[0]:g} to {config.fit_range[1]:g} dB",
        found.slope.value,
        Rule(below=1.0),
        f"slope {found.slope.value:.2f}",
        interval=found.slope.interval,
    )
    add(
        f"The network does not reach the optimal error, {found.bound} an image.",
        f"error over the optimal one at an input PSNR of {config.input_psnr[-1]:g} dB",
        float(ratio.value[0]),
        Rule(above=1.0),
        f"{float(ratio.value[0]):.2g} times the optimum",
        interval=(float(ratio.low[0]), float(ratio.high[0])),
    )


def _first(found: MeasuredManifold) -> str:
    return "first eigenvector" if found.dimension == 1 else f"first {found.dimension} eigenvectors"


def _interval(values: np.typing.NDArray[np.float64]) -> tuple[float, float]:
    mean = mean_over_images(values[None])
    return float(mean.low[0]), float(mean.high[0])


def _methods(results: Results, manifold: Manifold, found: MeasuredManifold, config: ManifoldConfig) -> None:
    results.methods |= {
        "Data": f"{config.images} {manifold.name} of {config.size}×{config.size} pixels, drawn with seed {config.seed}, in 8"
        f" bits; parameters: {', '.join(manifold.parameters)}. Measured on {config.test_images} others, unrounded.",
        "Networks": config.network.said,
        "Tangent space": "Derivatives of the generator by its parameters (automatic differentiation in float64) at the clean"
        " image, orthonormalized.",
        "Eigenvectors": f"Full Jacobian at {config.tangent_images} noisy images, symmetric part; images whose contrast or"
        " scale is below 0.3 are left out, since noise hides them.",
        "Frequency": "Of the disc of one period a side, in a vector's cosine transform, that holds most of its energy.",
        "Optimum": f"MSE = {found.bound}/d a pixel, d = {found.pixels}: what the optimal denoiser attains as σ → 0.",
        "Seed": f"{config.seed}.",
    }
