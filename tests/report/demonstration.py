"""Results with every kind of content a report can show, measured on scikit-learn's digits in a second.

The denoisers are closed forms in NumPy: the optimal denoiser, a Gaussian, and for the "networks" a posterior mean over
images blurred together with the Gaussian, so that a small training set is copied and a large one is not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits

from scorescope.study import Claim, Results, Rule, charts, palette, pictures
from scorescope.study.environment import environment

SIZES = (10, 100, 800)
SIGMAS = np.geomspace(0.05, 5.0, 10)
Denoise = Callable[[np.ndarray, float], np.ndarray]


def demonstration() -> Results:
    """A whole study: verdicts, charts, sheets, tables, arrays, claims and methods."""
    images = load_digits().images.reshape(-1, 64) / 8.0 - 1.0
    images = images[np.random.default_rng(0).permutation(len(images))]
    held_out = images[1600:1664]
    results = Results(
        study="demonstration/digits",
        title="From memorization to generalization",
        question="At which number of training images does a network stop memorizing, and what does it compute then?",
        paper="Kadkhodaie et al. 2024, figures 1 and 2",
        headline="With 10 training images the networks memorize them; from N = 800 on, two networks without a common "
        "training image become the same function.",
    )
    results.introductions["Seen and unseen images"] = (
        "A network that memorizes denoises its training images far better than images it has never seen."
    )
    panels, rows, gaps, similar = [], [], {}, {}
    for size in SIZES:
        first, second = images[:size], images[800 : 800 + size]
        network_a, network_b = network(first), network(second)
        curves = {name: psnr(network_a, clean) for name, clean in (("train", first[:64]), ("test", held_out))}
        x = 20 * np.log10(2 / SIGMAS)
        panels.append(
            charts.Panel(
                [
                    charts.Series("training images", x, curves["train"], colour=palette.BLUE),
                    charts.Series("held-out images", x, curves["test"], colour=palette.ORANGE, dashed=True),
                ],
                "output PSNR (dB)",
                f"N = {size}",
            )
        )
        noise = 2.0 * np.random.default_rng(1).standard_normal((64, 64))
        samples_a, samples_b = sample(network_a, noise), sample(network_b, noise)
        near_a, near_b = first[nearest(samples_a, first)], second[nearest(samples_b, second)]
        agreement, copied = cosine(samples_a, samples_b), cosine(samples_a, near_a)
        similar[f"N = {size}"] = {"between the two networks": agreement, "to the nearest training image": copied}
        gap = float(np.mean(curves["train"] - curves["test"]))
        state = "memorizes" if gap > 3 else "generalizes" if gap < 1.0 else "in transition"
        results.add_verdict(
            f"N = {size}",
            state,
            f"training images denoised {gap:+.1f} dB better than held-out ones; samples resemble the other network's "
            f"{agreement.mean():.2f}, a training image {copied.mean():.2f}",
        )
        rows.append(
            {
                "model": f"N = {size}",
                "verdict": state,
                "training images": size,
                "PSNR gap": gap,
                "sample to nearest": copied.mean(),
                "network to network": agreement.mean(),
                "copies": float((copied > 0.97).mean()) if size > 10 else np.nan,
                "resampled": size < 100,
            }
        )
        gaps[size] = deviation(network_a, optimal(first), images[:32])
        results.add_sheet(
            f"samples-{size}",
            f"N = {size}: samples and their nearest training images",
            "The same picture in the first two rows is something both networks learned; a picture that equals its nearest "
            "training image is one that a network kept.",
            "Samples",
            pictures.grid(
                tiles([samples_a, samples_b, near_a, near_b], 8),
                row_labels=["network A", "network B", "nearest to A", "nearest to B"],
            ),
        )
        results.arrays[f"samples/{size}"] = samples_a.astype(np.float32)
    results.add_chart(
        "psnr",
        "Denoising images it has seen, and images it has not",
        "The two curves part where the network memorizes, and are one where it generalizes.",
        "Seen and unseen images",
        charts.psnr_in_out(panels, columns=2),
    )
    results.add_chart(
        "similarity",
        "Whom the samples resemble",
        "With few training images samples coincide with one of them, with many the samples of two networks with each other.",
        "Samples",
        charts.histograms(similar, "cosine similarity of centred images", x_range=(0.0, 1.0)),
    )
    _deviations(results, images, gaps)
    _examples(results, images)
    results.add_table(
        "verdicts",
        "The evidence behind each verdict",
        "PSNR gap: training minus held-out images, averaged over σ; similarities are means over samples.",
        pd.DataFrame(rows),
        formats={"PSNR gap": "+.2f", "copies": ".0%"},
        units={"PSNR gap": "dB"},
    )
    _claims(results, rows)
    results.methods |= {
        "Data": "scikit-learn's digits, 1,797 grey images of 8×8 pixels; the last 64 of a seeded permutation are held out.",
        "Units": "Images in [−1, 1]; σ is the noise's standard deviation in that unit; PSNR = 10 log10(4 / MSE).",
        "Verdict rule": "memorizes: the PSNR gap is above 3 dB; generalizes: it is below 1 dB; in transition: anything else.",
    }
    results.config = {"sizes": list(SIZES), "training": {"steps": 0, "rate": float("nan")}, "data": "digits"}
    results.environment = environment()
    results.timings = {"N = 10": 0.21, "N = 100": 12.0, "N = 800": 4210.0}
    return results


def _deviations(results: Results, images: np.ndarray, gaps: dict[int, np.ndarray]) -> None:
    colours = palette.sequence(len(gaps))
    series = []
    for (size, gap), colour in zip(gaps.items(), colours, strict=True):
        mean, spread = gap.mean(1), gap.std(1) / np.sqrt(gap.shape[1])
        series.append(charts.Series(f"N = {size}", SIGMAS, mean, mean - spread, mean + spread, colour=colour))
    results.add_chart(
        "deviation",
        "Deviation from the optimal denoiser",
        "The distance from the optimal denoiser is what a network adds of its own.",
        "Mechanisms",
        charts.lines(charts.Panel(series, "mean squared difference")),
    )
    model, exact = network(images[:800]), optimal(images[:800])
    total = deviation(model, exact, images[:32]).mean(1)
    rivals = {"gaussian": gaussian(images[:800]), "bm3d": gaussian(images[:50]), "pspc-square": network(images[:700])}
    shares = {name: 1 - deviation(model, rival, images[:32]).mean(1) / total for name, rival in rivals.items()}
    explained = [charts.Series(name, SIGMAS, share) for name, share in shares.items()]
    levels = {0.0: "no better than memorization", 1.0: "the mechanism is the network"}
    results.add_chart(
        "explained",
        "Explained deviation, N = 800",
        "How much of the network's distance from memorization each mechanism removes.",
        "Mechanisms",
        charts.lines(
            [
                charts.Panel(
                    explained, "explained deviation", "noisy training images", y_range=(-1, 1.2), levels=levels
                ),
                charts.Panel([charts.Series("network", SIGMAS, total)], "gap", y_log=True),
            ],
            heights=(2, 1),
        ),
    )
    overall = {name: float(np.nanmean(share)) for name, share in shares.items()}
    results.add_chart(
        "overall",
        "Explained deviation over all noise levels",
        "The Gaussian is built from the same images as the network.",
        "Mechanisms",
        charts.bars({**overall, "wavelet": float("nan")}, "explained deviation"),
    )
    names = ["A", "B", "optimal", "gaussian"]
    outputs = [network(images[:800]), network(images[800:1600]), exact, rivals["gaussian"]]
    clean = images[:64]
    noisy = clean + np.random.default_rng(3).standard_normal(clean.shape)
    table = [[cosine(f(noisy, 1.0), g(noisy, 1.0)).mean() for g in outputs] for f in outputs]
    results.add_chart(
        "agreement",
        "How similar the denoisers' outputs are",
        "Cosine similarity of outputs for the same noisy images at σ = 1.",
        "Mechanisms",
        charts.heat_table(table, names, names),
    )


def _examples(results: Results, images: np.ndarray) -> None:
    clean = images[1700]
    sigmas = [3.0, 1.0, 0.5, 0.25]
    noise = np.random.default_rng(2).standard_normal(64)
    noisy = np.stack([clean + sigma * noise for sigma in sigmas])
    rows = {"clean": np.stack([clean] * 4), "noisy": noisy}
    for name, denoiser in {
        "network A": network(images[:800]),
        "network B": network(images[800:1600]),
        "optimal": optimal(images[:800]),
        "gaussian": gaussian(images[:800]),
    }.items():
        rows[name] = np.stack([denoiser(one[None], sigma)[0] for one, sigma in zip(noisy, sigmas, strict=True)])
    results.add_sheet(
        "examples",
        "One image, every denoiser",
        "Noise falls from left to right: the optimal denoiser answers with training images, the networks with their own.",
        "What each denoiser sees",
        pictures.grid(tiles(list(rows.values()), 4), list(rows), [f"σ = {sigma:g}" for sigma in sigmas]),
    )
    strip = images[:10].reshape(-1, 1, 8, 8)
    results.add_sheet(
        "training",
        "Training images that were copied most often",
        "Under each image, how many of 64 samples at N = 10 have it as their nearest one.",
        "What each denoiser sees",
        pictures.strip(strip, [f"{count} ×" for count in (14, 11, 9, 8, 7, 5, 4, 3, 2, 1)], columns=5),
    )


def _claims(results: Results, rows: list[dict[str, object]]) -> None:
    gaps = [float(row["PSNR gap"]) for row in rows]  # type: ignore[arg-type]
    results.claims += [
        Claim(
            "With growing N the PSNR on training images falls and that on held-out images rises until they meet.",
            "kadkhodaie2024, figure 1",
            "train − held-out PSNR at N = 800, averaged over σ",
            gaps[-1],
            Rule(at_most=0.3, because="the curves are one to the eye"),
            unit="dB",
            interval=(gaps[-1] - 1.0, gaps[-1] + 1.0),
        ),
        Claim(
            "Networks trained on disjoint images make the same samples from the same noise once N is large.",
            "kadkhodaie2024, figure 2",
            "mean similarity of paired samples at N = 800, minus that at N = 10",
            float(rows[-1]["network to network"]) - float(rows[0]["network to network"]),  # type: ignore[arg-type]
            Rule(at_least=0.2),
        ),
        Claim(
            "PSPC is closer to the network than the optimal denoiser is, at every noise level.",
            "niedoba2025, figure 7",
            "lowest explained deviation of pspc-square",
            None,
            Rule(above=0.0),
            note="images of 8×8 pixels have no patches to speak of",
        ),
    ]


def optimal(training: np.ndarray) -> Denoise:
    """The posterior mean over `training`, (N, 64)."""

    def denoise(noisy: np.ndarray, sigma: float) -> np.ndarray:
        logits = -((noisy[:, None] - training[None]) ** 2).sum(-1) / (2 * sigma**2)
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True) @ training

    return denoise


def gaussian(training: np.ndarray) -> Denoise:
    """The Wiener filter of `training`."""
    mean, (values, vectors) = training.mean(0), np.linalg.eigh(np.cov(training.T))

    def denoise(noisy: np.ndarray, sigma: float) -> np.ndarray:
        return mean + (noisy - mean) @ vectors * (values / (values + sigma**2)) @ vectors.T

    return denoise


def network(training: np.ndarray) -> Denoise:
    """Between the two: the more images, the nearer to the Gaussian."""
    share = len(training) / (len(training) + 150)
    exact, smooth = optimal(training), gaussian(training)
    return lambda noisy, sigma: (1 - share) * exact(noisy, sigma) + share * smooth(noisy, sigma)


def psnr(denoise: Denoise, clean: np.ndarray) -> np.ndarray:
    """Output PSNR over SIGMAS, dB."""
    noise = np.random.default_rng(5).standard_normal(clean.shape)
    errors = [((denoise(clean + sigma * noise, sigma) - clean) ** 2).mean() for sigma in SIGMAS]
    return 10 * np.log10(4 / np.array(errors))


def deviation(first: Denoise, second: Denoise, clean: np.ndarray) -> np.ndarray:
    """Mean squared difference of two denoisers' outputs, (S, B)."""
    noise = np.random.default_rng(6).standard_normal(clean.shape)
    return np.stack([((first(clean + s * noise, s) - second(clean + s * noise, s)) ** 2).mean(1) for s in SIGMAS])


def sample(denoise: Denoise, noise: np.ndarray) -> np.ndarray:
    """Euler steps of the flow from `noise` at σ = 2."""
    sigmas = np.geomspace(2.0, 0.05, 16)
    state = noise
    for sigma, following in itertools.pairwise(sigmas):
        state = state + (following - sigma) * (state - denoise(state, sigma)) / sigma
    return denoise(state, sigmas[-1])


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine similarity of centred images, (n,)."""
    first, second = first - first.mean(1, keepdims=True), second - second.mean(1, keepdims=True)
    return (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def nearest(samples: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Index of the most similar training image, (n,)."""
    return np.stack([cosine(np.repeat(one[None], len(training), 0), training) for one in samples]).argmax(1)


def tiles(rows: list[np.ndarray], columns: int) -> np.ndarray:
    """Rows of flat digits as (R, K, 1, 8, 8)."""
    return np.stack([row[:columns] for row in rows]).reshape(len(rows), columns, 1, 8, 8)
