"""Deviation from the optimal denoiser and how much of it the cheap mechanisms explain, for several subjects on one page.

The lens of mechanisms measures one subject more closely, with intervals and the costly denoisers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from scorescope.denoisers import Denoiser
from scorescope.lenses.memorization import Arrays, Memorization, label_key, measure_memorization, network_word
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import Subject, chosen, mean_intensity
from scorescope.probes.attribution import NEGLIGIBLE_GAP, Deviation, deviation
from scorescope.probes.errors import forward_inputs, reverse_inputs
from scorescope.study import charts, palette, pictures
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

DEVIATION = "How far from memorization"
EXPLAINED = "Which mechanism explains it"
EXAMPLES = "What each denoiser sees"
KINDS = ("forward", "reverse")


def deviations(subject: Subject, config: MeasurementConfig) -> dict[str, Deviation]:
    """How far the first network is from the optimal denoiser and from every mechanism, on both kinds of inputs.

    Returns ``forward``: noisy training images; and ``reverse``: the states of the network's own flow from noise.
    """
    sigmas = subject.sigmas(config.deviation_levels)
    training = subject.first_training
    clean = chosen(training, config.deviation_inputs, config.seed)
    centre = mean_intensity(training, config.seed)
    states = reverse_inputs(subject.first, training.image_shape, sigmas, len(clean), config.seed, centre)
    inputs = {
        "forward": forward_inputs(clean, sigmas, config.seed),
        "reverse": [state.noisy for state in states],
    }
    return {
        kind: deviation(
            subject.first, subject.optimal, subject.mechanisms, batches, sigmas, f"comparing on {kind} inputs"
        )
        for kind, batches in inputs.items()
    }


def denoised_examples(subject: Subject, config: MeasurementConfig) -> Arrays:
    """One held-out image (a training image where there are none), noised at several levels, as every denoiser sees it.

    Returns ``sigma`` (L,) and ``pictures`` (R, L, C, H, W): clean, noisy, networks, optimal, mechanisms.
    """
    sigmas = subject.sigmas(config.example_levels + 2)[1:-1]
    clean = chosen(subject.held_out or subject.first_training, 1, config.seed + 1)
    denoisers: dict[str, Denoiser] = {**subject.networks, "optimal": subject.optimal, **subject.mechanisms}
    noisy = forward_inputs(clean, sigmas, config.seed)
    rows = [torch.cat(noisy)]
    with torch.no_grad():
        for denoiser in denoisers.values():
            rows.append(torch.cat([denoiser(image, sigma) for image, sigma in zip(noisy, sigmas, strict=True)]))
    pictures = torch.stack([clean.expand_as(rows[0]), *rows])
    return {"sigma": np.array(sigmas), "pictures": pictures.numpy()}


@dataclass(frozen=True)
class Measured(Memorization):
    """The evidence on one subject, and how far the first network is from the denoisers.

    Attributes:
        mechanisms: names of the mechanisms.
        deviations: see `deviations`.
        example_sigmas: levels of the examples.
        examples: see `denoised_examples`.
    """

    mechanisms: tuple[str, ...]
    deviations: dict[str, Deviation]
    example_sigmas: Arrays
    examples: npt.NDArray[np.generic]

    @property
    def example_rows(self) -> list[str]:
        """Names of the rows of `examples`."""
        return ["clean", "noisy", *self.networks, "optimal", *self.mechanisms]


def measure(label: str, subject: Subject, config: MeasurementConfig, workspace: Workspace) -> Measured:
    """Everything on one subject, each part a cell of the run, so that an interrupted run goes on after the last."""
    known = measure_memorization(label, subject, config, workspace)
    shown = measure_examples(label, subject, config, workspace)
    return Measured(
        **vars(known),
        mechanisms=tuple(subject.mechanisms),
        deviations=measure_deviations(label, subject, config, workspace),
        example_sigmas=shown["sigma"],
        examples=shown["pictures"],
    )


def measure_deviations(
    label: str, subject: Subject, config: MeasurementConfig, workspace: Workspace
) -> dict[str, Deviation]:
    """`deviations` of one subject, as a cell of the run."""
    found = workspace.computed(f"{_cell(label)}/deviation", lambda: _flat(deviations(subject, config)))
    return {kind: _unflat(kind, found, tuple(subject.mechanisms)) for kind in KINDS}


def measure_examples(label: str, subject: Subject, config: MeasurementConfig, workspace: Workspace) -> dict[str, Any]:
    """`denoised_examples` of one subject, as a cell of the run."""
    shown: dict[str, Any] = workspace.computed(f"{_cell(label)}/examples", lambda: denoised_examples(subject, config))
    return shown


def _cell(label: str) -> str:
    return label.replace(" ", "")


def show_deviation(results: Results, measured: Sequence[Measured]) -> None:
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


def show_explained(results: Results, measured: Sequence[Measured]) -> None:
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


def show_examples(results: Results, measured: Sequence[Measured]) -> None:
    """One image at several noise levels as every denoiser sees it, one sheet a subject."""
    for one in measured:
        labels = [network_word(name) if name in one.networks else name for name in one.example_rows]
        results.add_sheet(
            f"examples-{label_key(one)}",
            f"{one.label}: one image, every denoiser",
            "An image that was not trained on, with noise that falls from left to right: the optimal denoiser answers with"
            " its training images, the networks and the mechanisms with what they make of the noise.",
            EXAMPLES,
            pictures.grid(
                one.examples, row_labels=labels, column_labels=[f"σ = {float(s):.2g}" for s in one.example_sigmas]
            ),
        )


def mechanism_claims(results: Results, label: str, deviations: Mapping[str, Deviation]) -> None:
    """The claims of niedoba2025's figures 2 and 7 on one subject, as far as its noise levels reach."""
    found = deviations["forward"]
    gap = found.gap()
    results.claims.append(
        Claim(
            "Networks are close to the optimal denoiser at low noise and far from it at intermediate noise.",
            "niedoba2025, figure 2",
            f"largest gap over the gap at the lowest noise, forward inputs, {label}",
            float(gap.max() / gap[-1]),
            Rule(at_least=3.0, because="a bump that stands out of its foot"),
            note="that it is small at high noise as well cannot be seen below the highest level trained on",
        )
    )
    if "pspc-square" not in found.to_mechanism:
        return
    for kind in KINDS:
        explained = deviations[kind].explained("pspc-square")
        measurable = explained[np.isfinite(explained)]
        results.claims.append(
            Claim(
                "PSPC is closer to the network than the optimal denoiser is, at every noise level.",
                "niedoba2025, figure 7",
                f"lowest explained deviation of pspc-square, {kind} inputs, {label}",
                float(measurable.min()) if len(measurable) else None,
                Rule(above=0.0),
                note="" if len(measurable) else "the gap is negligible at every level",
            )
        )
    if "gaussian" not in found.to_mechanism:
        return
    for kind in KINDS:
        distances = deviations[kind]
        within = (distances.sigmas >= 0.3) & (distances.sigmas <= 3.0)
        difference = distances.to_mechanism["gaussian"].mean(1) - distances.to_mechanism["pspc-square"].mean(1)
        results.claims.append(
            Claim(
                "PSPC is closer to the network than the Gaussian denoiser for σ in [0.3, 3].",
                "niedoba2025, figure 7",
                f"lowest advantage in mean squared difference over the levels in that range, {kind} inputs, {label}",
                float(difference[within].min()) if within.any() else None,
                Rule(above=0.0),
                note="" if within.any() else "no level lies in that range",
            )
        )


def best_mechanism(found: Deviation) -> str:
    """Which mechanism explains most of the deviation and how much, in a clause; none, where memorization is nearest."""
    shares = {name: found.explained_overall(name) for name in found.to_mechanism}
    known = {name: share for name, share in shares.items() if np.isfinite(share)}
    if not known:
        return "it deviates from the optimal denoiser too little for any mechanism to explain"
    best, *rest = sorted(known, key=lambda name: known[name], reverse=True)
    if known[best] <= 0:
        return "no mechanism is nearer to it than the optimal denoiser of its training images, which is memorization"
    others = ", ".join(f"{name} {known[name]:.0%}" for name in rest[:3] if known[name] > 0)
    return f"{best} explains {known[best]:.0%} of its deviation from memorization" + (f" ({others})" if others else "")


def _inputs(kind: str) -> str:
    return "noisy training images" if kind == "forward" else "states of the network's own sampling"


def _flat(found: dict[str, Deviation]) -> Arrays:
    arrays: Arrays = {}
    for kind, one in found.items():
        arrays |= {f"{kind}/sigma": one.sigmas, f"{kind}/optimal": one.to_optimal}
        arrays |= {f"{kind}/to {name}": distance for name, distance in one.to_mechanism.items()}
    return arrays


def _unflat(kind: str, arrays: Arrays, mechanisms: Sequence[str]) -> Deviation:
    kept = {
        key.removeprefix(f"{kind}/"): value.astype(np.float64) for key, value in arrays.items() if key.startswith(kind)
    }
    return Deviation(kept["sigma"], kept["optimal"], {name: kept[f"to {name}"] for name in mechanisms})
