"""The parts of the main study's page: each takes what was measured and adds its pictures, tables and claims to results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.lenses.measurements import Measured, Sampled
from scorescope.probes.attribution import NEGLIGIBLE_GAP
from scorescope.study import charts, palette, pictures
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results

TRANSITION = "Seen and unseen images"
SAMPLES = "Samples"
DEVIATION = "How far from memorization"
EXPLAINED = "Which mechanism explains it"
EXAMPLES = "What each denoiser sees"
KINDS = ("forward", "reverse")
COLUMNS = 8


def psnr(results: Results, measured: Sequence[Measured]) -> None:
    """Output against input PSNR on training and held-out images, one panel a subject."""
    panels = []
    for one in measured:
        x = 20 * np.log10(2 / one.curves["sigma"].astype(np.float64))
        series = [charts.Series("training images", x, one.curves["train"], colour=palette.BLUE)]
        if "test" in one.curves:
            series.append(charts.Series("held-out images", x, one.curves["test"], colour=palette.ORANGE, dashed=True))
        panels.append(charts.Panel(series, "output PSNR (dB)", one.label))
    results.add_chart(
        "psnr",
        "Denoising images it has seen, and images it has not",
        "A network that memorizes denoises its training images far better than others; once it generalizes, the two curves"
        " are one.",
        TRANSITION,
        charts.psnr_in_out(panels, columns=2 if len(panels) > 1 else 1),
    )


def samples(results: Results, measured: Sequence[Sampled]) -> None:
    """Samples from shared noise over their nearest training images, one sheet a subject."""
    for one in measured:
        rows, labels = [], []
        for name in one.networks:
            rows.append(full_contrast(one.found[f"samples/{name}"][:COLUMNS]))
            labels.append(_network(name))
        for name in one.networks:
            rows.append(one.found[f"nearest/{name}"][:COLUMNS])
            labels.append(f"nearest to {name}" if len(one.networks) > 1 else "nearest training image")
        said = [f"mean similarity of a sample to its nearest training image {one.nearest:.2f}"]
        if one.agreement is not None:
            said.append(f"of the two networks' samples to each other {one.agreement:.2f}")
        lost = 1 - min(float(one.found[f"converged/{name}"].mean()) for name in one.networks)
        if lost > 0:
            said.append(f"{lost:.0%} of the ascents did not converge")
        results.add_sheet(
            f"samples-{_key(one)}",
            f"{one.label}: samples and their nearest training images",
            _samples_caption(one) + " " + (", ".join(said)).capitalize() + ".",
            SAMPLES,
            pictures.grid(np.stack(rows), row_labels=labels),
        )


def _samples_caption(one: Sampled) -> str:
    if len(one.networks) == 1:
        return "Samples of the network (shown at full contrast), and for each the most similar training image."
    return (
        "Networks A and B start from the same noise but were trained on disjoint images: the same picture in both rows is"
        " something they learned, a picture that equals its nearest training image is one they kept (samples are shown at"
        " full contrast)."
    )


def full_contrast(images: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Images (n, C, H, W), each stretched to [-1, 1]: a network without biases leaves the contrast of a sample open."""
    values = images.astype(np.float32)
    low = values.min((1, 2, 3), keepdims=True)
    width = np.maximum(values.max((1, 2, 3), keepdims=True) - low, 1e-3)
    return np.asarray(2 * (values - low) / width - 1, dtype=np.float32)


def similarities(results: Results, measured: Sequence[Sampled]) -> None:
    """Histograms of the similarity between samples, and to training images, one panel a subject."""
    panels = {}
    for one in measured:
        values = {}
        if "agreement" in one.found:
            values["between the two networks"] = one.found["agreement"]
        values["to the nearest training image"] = np.concatenate([one.found[f"similarity/{n}"] for n in one.networks])
        values["held-out to the nearest training image"] = one.found["reference"]
        panels[one.label] = values
    results.add_chart(
        "similarity",
        "Whom the samples resemble",
        "With few training images samples coincide with one of them; with many, the samples of two networks that share no"
        " training image coincide with each other instead."
        if len(measured) > 1
        else "Samples that are nearer to a training image than unseen images are, are copies.",
        SAMPLES,
        charts.histograms(panels, "cosine similarity of centred images", x_range=(0.0, 1.0)),
    )


def deviation(results: Results, measured: Sequence[Measured]) -> None:
    """Distance to the optimal denoiser over sigma, forward and reverse inputs, one line a subject."""
    colours = palette.sequence(len(measured))
    panels = []
    for kind in KINDS:
        series = []
        for one, colour in zip(measured, colours, strict=True):
            found = one.deviations[kind]
            spread = found.to_optimal.std(1) / np.sqrt(found.to_optimal.shape[1])
            gap = found.gap()
            name, own = (one.label, colour) if len(measured) > 1 else ("network", None)
            series.append(charts.Series(name, found.sigmas, gap, gap - spread, gap + spread, colour=own))
        panels.append(charts.Panel(series, "mean squared difference", _inputs(kind)))
    results.add_chart(
        "deviation",
        "Deviation from the optimal denoiser",
        "The optimal denoiser of the training images is perfect memorization; the distance from it is what a network adds"
        " of its own (bands: standard error over inputs).",
        DEVIATION,
        charts.lines(panels),
    )


def explained(results: Results, measured: Sequence[Measured]) -> None:
    """Explained deviation of every mechanism over sigma for the last subject, and a table for all of them."""
    last = measured[-1]
    panels = []
    for kind in KINDS:
        found = last.deviations[kind]
        shares = {name: found.explained(name) for name in last.mechanisms}
        series = [charts.Series(name, found.sigmas, share) for name, share in shares.items()]
        lowest = min((float(np.nanmin(share)) for share in shares.values() if np.isfinite(share).any()), default=0.0)
        levels = {0.0: "no better than memorization", 1.0: "the mechanism is the network"}
        panels.append(
            charts.Panel(
                series,
                "explained deviation",
                _inputs(kind),
                y_range=(max(-1.0, min(-0.2, lowest - 0.1)), 1.2),
                levels=levels,
            )
        )
    results.add_chart(
        "explained",
        f"Explained deviation, {last.label}",
        "How much of the network's distance from memorization each mechanism removes: 1 is all of it, below 0 the"
        " mechanism is farther from the network than memorization is.",
        EXPLAINED,
        charts.lines(panels),
    )
    rows = []
    for one in measured:
        for kind in KINDS:
            found = one.deviations[kind]
            row: dict[str, object] = {"model": one.label, "inputs": kind, "mean gap": float(found.gap().mean())}
            row |= {name: found.explained_overall(name) for name in one.mechanisms}
            rows.append(row)
    results.add_table(
        "explained",
        "Explained deviation over all noise levels",
        "1 minus the summed squared distance to the mechanism over the summed distance to the optimal denoiser; empty where"
        f" the gap is negligible (below {NEGLIGIBLE_GAP:g}).",
        pd.DataFrame(rows),
    )
    levels_table(results, last)


def levels_table(results: Results, one: Measured) -> None:
    """Gap and distance to every mechanism at every level, for one subject."""
    rows = []
    for kind in KINDS:
        found = one.deviations[kind]
        for level, sigma in enumerate(found.sigmas):
            row: dict[str, object] = {"inputs": kind, "σ": float(sigma), "gap": float(found.gap()[level])}
            row |= {f"to {name}": float(found.to_mechanism[name][level].mean()) for name in one.mechanisms}
            rows.append(row)
    results.add_table(
        "levels",
        f"Squared distances at every noise level, {one.label}",
        "Mean squared differences a pixel between the network and the optimal denoiser (gap), and each mechanism.",
        pd.DataFrame(rows),
    )


def examples(results: Results, measured: Sequence[Measured]) -> None:
    """One image at several noise levels as every denoiser sees it, one sheet a subject."""
    for one in measured:
        labels = [_network(name) if name in one.networks else name for name in one.example_rows]
        results.add_sheet(
            f"examples-{_key(one)}",
            f"{one.label}: one image, every denoiser",
            "An image that was not trained on, with noise that falls from left to right: the optimal denoiser answers with"
            " its training images, the networks and the mechanisms with what they make of the noise.",
            EXAMPLES,
            pictures.grid(
                one.examples, row_labels=labels, column_labels=[f"σ = {float(s):.2g}" for s in one.example_sigmas]
            ),
        )


def transition_claims(results: Results, measured: Sequence[Measured]) -> None:
    """The claims of kadkhodaie2024's figures 1 and 2 on networks for growing N."""
    gaps = [one.evidence.psnr_gap for one in measured]
    numbers = [gap for gap in gaps if gap is not None]
    results.claims.append(
        Claim(
            "With growing N the PSNR on training images falls and that on held-out images rises until they meet.",
            "kadkhodaie2024, figure 1",
            f"train − held-out PSNR at {measured[-1].label}, averaged over sigma",
            numbers[-1] if numbers else None,
            Rule(at_most=0.3, because="the curves are one to the eye"),
            unit="dB",
            note=f"at {measured[0].label} the gap is {numbers[0]:.1f} dB"
            if numbers
            else "there are no held-out images",
        )
    )
    results.claims += sample_claims(measured)


def sample_claims(measured: Sequence[Sampled], untested: str = "") -> list[Claim]:
    """The claims of kadkhodaie2024's figure 2 on samples of networks for growing N.

    Args:
        measured: one for each N.
        untested: why they are not tested; empty if they are.
    """
    first, last = measured[0], measured[-1]
    similar = None
    if first.agreement is not None and last.agreement is not None and len(measured) > 1:
        similar = last.agreement - first.agreement
    away = last.nearest - first.nearest if len(measured) > 1 else None
    return [
        Claim(
            "Networks trained on disjoint images make the same samples from the same noise once N is large.",
            "kadkhodaie2024, figure 2",
            f"mean similarity of paired samples at {last.label}, minus that at {first.label}",
            None if untested else similar,
            Rule(at_least=0.2, because="a shift that the histograms show plainly"),
            note=untested or ("" if similar is not None else "it takes two networks and several N"),
        ),
        Claim(
            "Samples move away from their nearest training images as N grows.",
            "kadkhodaie2024, figure 2",
            f"mean similarity to the nearest training image at {last.label}, minus that at {first.label}",
            None if untested else away,
            Rule(below=0.0),
            note=untested or ("" if away is not None else "it takes several N"),
        ),
    ]


def mechanism_claims(results: Results, one: Measured) -> None:
    """The claims of niedoba2025's figures 2 and 7 on one subject, as far as its noise levels reach."""
    found = one.deviations["forward"]
    gap = found.gap()
    results.claims.append(
        Claim(
            "Networks are close to the optimal denoiser at low noise and far from it at intermediate noise.",
            "niedoba2025, figure 2",
            f"largest gap over the gap at the lowest noise, forward inputs, {one.label}",
            float(gap.max() / gap[-1]),
            Rule(at_least=3.0, because="a bump that stands out of its foot"),
            note="that it is small at high noise as well cannot be seen below the highest level trained on",
        )
    )
    if "pspc-square" not in one.mechanisms:
        return
    for kind in KINDS:
        explained = one.deviations[kind].explained("pspc-square")
        measurable = explained[np.isfinite(explained)]
        results.claims.append(
            Claim(
                "PSPC is closer to the network than the optimal denoiser is, at every noise level.",
                "niedoba2025, figure 7",
                f"lowest explained deviation of pspc-square, {kind} inputs, {one.label}",
                float(measurable.min()) if len(measurable) else None,
                Rule(above=0.0),
                note="" if len(measurable) else "the gap is negligible at every level",
            )
        )
    if "gaussian" not in one.mechanisms:
        return
    for kind in KINDS:
        distances = one.deviations[kind]
        within = (distances.sigmas >= 0.3) & (distances.sigmas <= 3.0)
        difference = distances.to_mechanism["gaussian"].mean(1) - distances.to_mechanism["pspc-square"].mean(1)
        results.claims.append(
            Claim(
                "PSPC is closer to the network than the Gaussian denoiser for σ in [0.3, 3].",
                "niedoba2025, figure 7",
                f"lowest advantage in mean squared difference over the levels in that range, {kind} inputs, {one.label}",
                float(difference[within].min()) if within.any() else None,
                Rule(above=0.0),
                note="" if within.any() else "no level lies in that range",
            )
        )


def evidence_table(results: Results, measured: Sequence[Measured]) -> None:
    """The numbers behind every verdict."""
    rows = []
    for one in measured:
        found = one.evidence
        rows.append(
            {
                "model": one.label,
                "verdict": found.verdict(),
                "PSNR gain (dB)": found.gain,
                "PSNR gap (dB)": found.psnr_gap,
                "copied samples (%)": 100 * found.copied,
                "sample to nearest": found.nearest,
                "network to network": found.agreement,
            }
        )
    results.add_table(
        "verdicts",
        "The evidence behind each verdict",
        "PSNR gain: denoised minus noisy training images; gap: training minus held-out images; both averaged over sigma."
        " Similarities are means over samples.",
        pd.DataFrame(rows),
    )


def reason(one: Measured) -> str:
    """The numbers behind a verdict in a sentence."""
    found = one.evidence
    parts = [f"{found.copied:.0%} of the samples are copies"]
    if found.psnr_gap is None:
        parts.append("there are no held-out images to compare with")
    else:
        better = "better" if found.psnr_gap > 0 else "worse"
        parts.append(f"training images are denoised {abs(found.psnr_gap):.1f} dB {better} than held-out ones")
    if found.agreement is not None:
        parts.append(f"a sample's similarity to the other network's is {found.agreement:.2f}")
    parts.append(f"to the nearest training image {found.nearest:.2f}")
    return "; ".join(parts)


def best_mechanism(one: Measured) -> str:
    """Which mechanism explains most of the deviation on forward inputs, and how much, in a clause."""
    found = one.deviations["forward"]
    shares = {name: found.explained_overall(name) for name in one.mechanisms}
    known = {name: share for name, share in shares.items() if np.isfinite(share)}
    if not known:
        return "it deviates from the optimal denoiser too little for any mechanism to explain"
    best, *rest = sorted(known, key=lambda name: known[name], reverse=True)
    others = ", ".join(f"{name} {known[name]:.0%}" for name in rest)
    return f"{best} explains {known[best]:.0%} of its deviation from memorization" + (f" ({others})" if others else "")


def _network(name: str) -> str:
    return f"network {name}" if len(name) == 1 else name


def _inputs(kind: str) -> str:
    return "noisy training images" if kind == "forward" else "states of the network's own sampling"


def _key(one: Sampled) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in one.label.lower()).strip("-")
