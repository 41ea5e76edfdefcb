"""One network against every denoiser on the same inputs: squared differences, cosines, explained deviation.

The explained deviation of a mechanism M is ``R_M(σ) = 1 − E‖D − M‖² / gap(σ)``, ``gap(σ) = E‖D − D*‖²``: 1 where the mechanism
is the network, 0 where it is no better than the optimal denoiser D*. Where the gap is negligible it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from scorescope.denoisers import Denoiser
from scorescope.lenses.comparison import Compared, Comparison
from scorescope.lenses.inputs import HELD_OUT, IN_WORDS, TRAIN, Inputs, forward, outputs, reverse
from scorescope.lenses.rivals import Builder, Mechanisms
from scorescope.lenses.subject import OPTIMAL
from scorescope.probes.attribution import NEGLIGIBLE_GAP
from scorescope.probes.distances import cosine, squared_difference
from scorescope.probes.intervals import Estimate, explained_over_images, mean_over_images
from scorescope.study.workspace import Workspace

NOISY, SHOWN_LEVELS = "noisy", 7
KINDS = (TRAIN, HELD_OUT, "reverse")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Against:
    """One network against every denoiser on one kind of inputs, at S levels that it was trained on, B images each.

    Attributes:
        network: its name.
        kind: of the inputs.
        sigmas: (S,).
        distance: denoiser -> squared differences to the network, (S, B); the optimal one among them, and other networks.
        cosine: the same for cosines.
        labels: classes of the B images; None where they are not known.
        shown: a few of the levels, places in `sigmas`.
        examples: what is made of the first image at these levels, (L, C, H, W): the noisy image, the network, every denoiser.
    """

    network: str
    kind: str
    sigmas: Floats
    distance: dict[str, Floats]
    cosine: dict[str, Floats]
    labels: npt.NDArray[np.int64] | None
    shown: list[int]
    examples: dict[str, npt.NDArray[np.float32]]

    @property
    def names(self) -> list[str]:
        """Everything that it is compared with but the optimal denoiser."""
        return [name for name in self.distance if name != OPTIMAL]

    @property
    def gap(self) -> Floats:
        """``gap(σ)``, (S,)."""
        return np.asarray(self.distance[OPTIMAL].mean(1))

    @property
    def measurable(self) -> npt.NDArray[np.bool_]:
        """At which levels the gap is not negligible, (S,)."""
        return self.gap > NEGLIGIBLE_GAP

    def mean(self, name: str) -> Floats:
        """Mean squared difference to a denoiser, (S,)."""
        return np.asarray(self.distance[name].mean(1))

    def explained(self, name: str) -> Estimate:
        """``R(σ)`` with its interval; NaN where the gap is negligible."""
        return explained_over_images(self.distance[name], self.distance[OPTIMAL], NEGLIGIBLE_GAP)

    def overall(self, name: str, images: npt.NDArray[np.bool_] | None = None) -> Estimate:
        """R of all levels together: 1 − summed distance over summed gap, a single number; of some images, or of all."""
        rows = [self.distance[key].sum(0)[None] for key in (name, OPTIMAL)]
        kept = [row if images is None else row[:, images] for row in rows]
        return explained_over_images(kept[0], kept[1], NEGLIGIBLE_GAP * len(self.sigmas))

    def distances(self, name: str) -> Estimate:
        """Mean squared difference with its interval."""
        return mean_over_images(self.distance[name])


def compare(
    comparison: Comparison, builder: Builder, workspace: Workspace, kinds: Sequence[str] = KINDS
) -> tuple[list[Against], dict[str, Mechanisms]]:
    """Every network against every denoiser on every kind of inputs of `kinds`, and what was built for each network."""
    found, built = [], {}
    for one in comparison.networks:
        built[one.name] = builder.of(one)
        for kind in kinds:
            inputs = reverse(comparison, one, workspace) if kind == KINDS[2] else forward(comparison, one, kind)
            if inputs is not None:
                found.append(_against(comparison, one, built[one.name], inputs, workspace))
    return found, built


def _against(
    comparison: Comparison, one: Compared, mechanisms: Mechanisms, inputs: Inputs, workspace: Workspace
) -> Against:
    made = outputs(one.name, one.denoiser, inputs, workspace)
    trained = one.within(inputs.sigmas)
    others: dict[str, tuple[str, Denoiser]] = {OPTIMAL: (f"{OPTIMAL} {one.training_key}", one.optimal)}
    others |= {name: (mechanisms.keys[name], denoiser) for name, denoiser in mechanisms.denoisers.items()}
    others |= {other.name: (other.name, other.denoiser) for other in comparison.networks if other is not one}
    shown = (
        sorted({int(k) for k in np.linspace(0, len(trained) - 1, SHOWN_LEVELS + 2).round()[1:-1]}) if trained else []
    )
    examples = {
        NOISY: np.stack([inputs.at(trained[k])[0].numpy() for k in shown]) if shown else made[:0, 0],
        one.name: made[trained][shown, 0],
    }
    distance, angles = {}, {}
    for name, (key, denoiser) in others.items():
        theirs = outputs(key, denoiser, inputs, workspace)
        distance[name] = squared_difference(made, theirs)[trained]
        angles[name] = cosine(made, theirs)[trained]
        examples[name] = theirs[trained][shown, 0]
    levels = np.array(inputs.sigmas)[trained]
    return Against(one.name, inputs.kind, levels, distance, angles, inputs.labels, shown, examples)


def levels_table(found: Sequence[Against]) -> pd.DataFrame:
    """Everything at every level, with intervals."""
    rows = []
    for one in found:
        for name in one.distance:
            distance, explained = one.distances(name), one.explained(name)
            cosines = mean_over_images(one.cosine[name]).value
            for level, sigma in enumerate(one.sigmas):
                rows.append(
                    {
                        "network": one.network,
                        "inputs": IN_WORDS[one.kind],
                        "denoiser": name,
                        "σ": float(sigma),
                        "MSE": distance.value[level],
                        "MSE low": distance.low[level],
                        "MSE high": distance.high[level],
                        "cosine": cosines[level],
                        "explained": explained.value[level],
                        "explained low": explained.low[level],
                        "explained high": explained.high[level],
                    }
                )
    return pd.DataFrame(rows)


def overall_table(found: Sequence[Against]) -> pd.DataFrame:
    """The explained deviation of all levels together, with intervals, best first."""
    rows = []
    for one in found:
        estimates = {name: one.overall(name) for name in one.names}
        shares = {name: float(np.nan_to_num(estimate.value[0], nan=-np.inf)) for name, estimate in estimates.items()}
        for name in sorted(shares, key=shares.__getitem__, reverse=True):
            value, low, high = (float(getattr(estimates[name], part)[0]) for part in ("value", "low", "high"))
            rows.append(
                {
                    "network": one.network,
                    "inputs": IN_WORDS[one.kind],
                    "denoiser": name,
                    "mean gap": float(one.gap.mean()),
                    "explained": value,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


def classes_table(found: Sequence[Against]) -> pd.DataFrame:
    """The same averaged within each class; a class of a single image is left out, for it has no interval."""
    rows = []
    for one in found:
        if one.labels is None:
            continue
        for label in sorted(set(one.labels.tolist())):
            images = one.labels == label
            if images.sum() < 2:
                continue
            row: dict[str, object] = {"network": one.network, "inputs": IN_WORDS[one.kind], "class": label}
            row |= {"images": int(images.sum())}
            rows.append(row | {name: float(one.overall(name, images).value[0]) for name in one.names})
    return pd.DataFrame(rows)
