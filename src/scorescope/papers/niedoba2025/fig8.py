"""Figure 8: a network and a training-free denoiser side by side, along each other's sampling trajectory.

Both start from the same noise. Along the network's trajectory ``y_N(σ)`` both are asked, ``D_N(y_N, σ)`` and ``D_M(y_N, σ)``,
and so they are along the other's, ``y_M(σ)``. On the same input their difference is what one step adds; the difference of the
trajectories is what the steps have added up to. The paper finds outputs that are alike, and errors that arise in the middle
of the trajectory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch

from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.drawing import guarded
from scorescope.lenses.rivals import FLEX, MechanismConfig
from scorescope.lenses.subject import OPTIMAL
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS
from scorescope.papers.niedoba2025.samples import Cast, Images, SampledConfig, open_cast
from scorescope.probes.distances import cosine, squared_difference
from scorescope.probes.intervals import Estimate, mean_over_images
from scorescope.study import charts, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided, series_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SIDE_BY_SIDE = "Side by side"
DIFFERENCES = "Where they differ"
SOURCE = "niedoba2025, figure 8"
ALIKE, MIDDLE = 0.8, (0.25, 0.75)
COLUMNS = 8
BESIDE = (FLEX, "pspc-square")
Floats = npt.NDArray[np.float64]


class Fig8Config(SampledConfig):
    """Settings of figure 8; `samples` trajectories of each denoiser."""

    mechanisms: MechanismConfig = MechanismConfig(names=BESIDE)
    samples: int = pydantic.Field(16, ge=1)
    at_once: int = pydantic.Field(16, ge=1)


@dataclass(frozen=True)
class Pair:
    """A network N and a training-free denoiser M along both trajectories.

    Attributes:
        sigmas: (S,), high to low.
        outputs: "trajectory/denoiser" ("network/mechanism", …) -> what the denoiser makes along it, (S, B, C, H, W).
        states: trajectory -> its states and, last, its samples, (S + 1, B, C, H, W).
    """

    sigmas: Floats
    outputs: dict[str, Images]
    states: dict[str, Images]

    def same_input(self, trajectory: str) -> Floats:
        """Squared difference of both outputs for the same input, (S, B)."""
        return squared_difference(self.outputs[f"{trajectory}/network"], self.outputs[f"{trajectory}/mechanism"])

    def own_input(self) -> Floats:
        """Squared difference of what each makes along its own trajectory, (S, B)."""
        return squared_difference(self.outputs["network/network"], self.outputs["mechanism/mechanism"])

    def of_samples(self) -> Floats:
        """Squared difference of the samples, (B,)."""
        return np.asarray(squared_difference(self.states["network"][-1:], self.states["mechanism"][-1:])[0])

    def arisen_in_the_middle(self) -> float:
        """Growth of the difference of own outputs over the middle half of the steps, over the difference of the samples."""
        grown = np.nanmean(self.own_input(), axis=1)
        last = len(self.sigmas) - 1
        first, second = (round(share * last) for share in MIDDLE)
        return float((grown[second] - grown[first]) / max(float(np.nanmean(self.of_samples())), 1e-12))

    def likeness(self) -> Floats:
        """Cosine of both outputs for the same input, mean over both trajectories, (S, B)."""
        along = [
            cosine(self.outputs[f"{trajectory}/network"], self.outputs[f"{trajectory}/mechanism"])
            for trajectory in ("network", "mechanism")
        ]
        return np.asarray(np.mean(along, axis=0))

    def peak(self) -> int:
        """The level at which the outputs for the same input differ most, on average over both trajectories."""
        both = self.same_input("network") + self.same_input("mechanism")
        return int(np.nanmean(both, axis=1).argmax())


@study
class Fig8(Study[Fig8Config]):
    """Two denoisers along each other's trajectory."""

    name = "niedoba2025/fig8"
    title = "Along each other's trajectory"
    question = "Where in sampling do a network and a denoiser of patches part?"
    paper = f"{PAPER}, figure 8"
    Config = Fig8Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **TINY_SETTINGS,
            "samples": 4,
            "mechanisms": {"names": ("pspc-square",)},
            "training": {**TINY_SETTINGS["training"], "architectures": ("ddpm++",)},
        },
        "small": {"mechanisms": {"names": BESIDE}},
        "paper": {**PAPER_SETTINGS, "mechanisms": {"names": BESIDE}, "samples": 100},
    }

    def run(self, config: Fig8Config, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError if no training-free denoiser is named."""
        if not [name for name in config.mechanisms.names if name != OPTIMAL]:
            raise UserError(f"name denoisers to lay beside the network: mechanisms.names={FLEX},pspc-square")
        cast = open_cast(config, workspace)
        named = [name for name in cast.training_free if name != OPTIMAL]
        pairs = {name: pair_of(cast, name, workspace) for name in named}
        results = cast.comparison.page(self.name, self.title, workspace)
        results.headline = _headline(cast, pairs)
        for name, pair in pairs.items():
            _sheet(results, cast, name, pair)
        _curves(results, cast, pairs)
        _table(results, pairs)
        _claims(results, cast, pairs)
        cast.describe(results)
        results.methods["Differences"] = (
            "Mean squared difference a pixel, images in [−1, 1]. Cosines are of images centred by their own mean. Bands: 95 %"
            " percentile bootstrap over trajectories."
        )
        return results


def pair_of(cast: Cast, mechanism: str, workspace: Workspace) -> Pair:
    """Both denoisers along both trajectories; the first network is the network. A cell for every batch of trajectories."""
    names = {"network": cast.first.name, "mechanism": mechanism}
    outputs: dict[str, list[Images]] = {}
    states: dict[str, list[Images]] = {}
    for rows in track(cast.batches(), f"{names['network']} beside {mechanism}"):
        for trajectory, own in names.items():
            guest = next(key for key in names if key != trajectory)
            # The network's own trajectory is the same beside every mechanism: its cell is shared.
            ours = workspace.computed(
                f"trajectory/{own}/{rows.start}",
                lambda: _own(cast, own, rows, workspace.device),  # noqa: B023
            )
            theirs = workspace.computed(
                f"guest/{names[guest]} on {own}/{rows.start}",
                lambda: _guest(cast, names[guest], ours["states"], workspace.device),  # noqa: B023
            )
            states.setdefault(trajectory, []).append(ours["states"])
            outputs.setdefault(f"{trajectory}/{trajectory}", []).append(ours["outputs"])
            outputs.setdefault(f"{trajectory}/{guest}", []).append(theirs)
    joined = [{key: np.concatenate(parts, axis=1) for key, parts in each.items()} for each in (outputs, states)]
    return Pair(np.array(cast.sigmas), *joined)


def _own(cast: Cast, name: str, rows: range, device: torch.device) -> dict[str, Images]:
    visited = list(cast.trajectory(name, rows, device))
    return {
        "states": np.stack([state.noisy.float().numpy() for state in visited]),
        "outputs": np.stack([state.denoised.float().numpy() for state in visited[:-1]]),
    }


def _guest(cast: Cast, name: str, states: Images, device: torch.device) -> Images:
    denoiser = guarded(cast.denoisers[name], device)
    with torch.no_grad():
        made = [denoiser(torch.from_numpy(noisy), sigma) for noisy, sigma in zip(states, cast.sigmas, strict=False)]
    return np.stack([each.float().numpy() for each in made])


def _headline(cast: Cast, pairs: Mapping[str, Pair]) -> str:
    parts = []
    for name, pair in pairs.items():
        place = pair.peak()
        parts.append(
            f"{name} differs from {cast.first.name} most at σ = {pair.sigmas[place]:.2g}, step {place + 1} of"
            f" {len(pair.sigmas)}, and their outputs for the same input have a mean cosine of {np.nanmean(pair.likeness()):.2f}"
        )
    return "; ".join(parts) + "."


def _sheet(results: Results, cast: Cast, name: str, pair: Pair) -> None:
    """One start: what both make along both trajectories, and the samples."""
    network, last = cast.first.name, len(pair.sigmas) - 1
    shown = sorted({int(place) for place in np.linspace(0, last, min(COLUMNS, last + 1)).round()})
    rows = {
        f"{network} on its own": ("network", "network"),
        f"{name} on {network}'s": ("network", "mechanism"),
        f"{network} on {name}'s": ("mechanism", "network"),
        f"{name} on its own": ("mechanism", "mechanism"),
    }
    tiles = []
    for trajectory, denoiser in rows.values():
        sample = pair.states[trajectory][-1, 0]
        tiles.append(np.stack([*pair.outputs[f"{trajectory}/{denoiser}"][shown, 0], sample]))
    results.add_sheet(
        f"trajectories-{name}",
        f"{network} and {name} from the same noise",
        f"What each makes of the states of both trajectories, noise falling from left to right; the last column is the"
        f" trajectory's sample. Rows 1 and 2 have the same inputs, rows 3 and 4 have: they differ by one step's error. Rows 1"
        f" and 4 differ by all errors so far. Largest for the same input: σ = {pair.sigmas[pair.peak()]:.2g}.",
        SIDE_BY_SIDE,
        pictures.grid(
            np.stack(tiles),
            row_labels=list(rows),
            column_labels=[*(f"σ = {pair.sigmas[place]:.2g}" for place in shown), "sample"],
        ),
    )


def _known(values: Floats) -> Floats:
    """Trajectories that stayed finite at every level."""
    return np.asarray(values[:, np.isfinite(values).all(0)])


def _curve(values: Floats) -> Estimate:
    known = _known(values)
    return mean_over_images(known if known.shape[1] else np.full((len(values), 1), np.nan))


def _curves(results: Results, cast: Cast, pairs: Mapping[str, Pair]) -> None:
    network, count = cast.first.name, cast.config.samples
    panels = [
        charts.Panel(
            [series_of(name, pair.sigmas, _curve(values(pair))) for name, pair in pairs.items()],
            "mean squared difference",
            title,
        )
        for title, values in (
            (f"same input, {network}'s trajectory", lambda pair: pair.same_input("network")),
            ("same input, the denoiser's own trajectory", lambda pair: pair.same_input("mechanism")),
            ("each on its own trajectory", Pair.own_input),
        )
    ]
    results.add_chart(
        "differences",
        f"Difference from {network} along the trajectories",
        f"Above: outputs of {network} and of each denoiser for the same states. Below: outputs of each for its own states, so"
        f" all that steps from the highest σ on have added up to. {count} shared starts; bands: 95 % intervals.",
        DIFFERENCES,
        charts.lines(panels),
    )
    results.add_chart(
        "likeness",
        "Likeness of outputs for the same input",
        f"Cosine of what {network} and each denoiser make of the same state, images centred by their own mean, mean over both"
        f" trajectories and {count} starts: 1 is the same picture.",
        DIFFERENCES,
        charts.lines(
            charts.Panel(
                [series_of(name, pair.sigmas, _curve(pair.likeness())) for name, pair in pairs.items()],
                "cosine similarity",
                y_range=(None, 1.02),
            )
        ),
    )


def _table(results: Results, pairs: Mapping[str, Pair]) -> None:
    rows = []
    for name, pair in pairs.items():
        for place, sigma in enumerate(pair.sigmas):
            rows.append(
                {
                    "denoiser": name,
                    "σ": float(sigma),
                    "on the network's": float(np.nanmean(pair.same_input("network")[place])),
                    "on its own": float(np.nanmean(pair.same_input("mechanism")[place])),
                    "each on its own": float(np.nanmean(pair.own_input()[place])),
                    "cosine": float(np.nanmean(pair.likeness()[place])),
                }
            )
        rows.append(
            {
                "denoiser": name,
                "σ": 0.0,
                "on the network's": float("nan"),
                "on its own": float("nan"),
                "each on its own": float(np.nanmean(pair.of_samples())),
                "cosine": float("nan"),
            }
        )
    results.add_table(
        "differences",
        "Differences at every level",
        "Mean squared difference of network and denoiser for the same input, along either trajectory, and of each on its own;"
        " cosine of outputs for the same input. At σ = 0: of the samples.",
        pd.DataFrame(rows),
    )


def _claims(results: Results, cast: Cast, pairs: Mapping[str, Pair]) -> None:
    few, missing = cast.config.too_few, "no denoiser was compared"
    alike = {name: float(np.nanmean(pair.likeness())) for name, pair in pairs.items()}
    results.claims.append(
        decided(
            "On the same input the network and PSPC make similar outputs, along either's trajectory.",
            SOURCE,
            "cosine of both outputs, mean over levels, trajectories and starts",
            alike,
            min,
            Rule(at_least=ALIKE, because="pictures of the same thing to the eye"),
            few,
            missing,
        )
    )
    places = {name: pair.peak() / (len(pair.sigmas) - 1) for name, pair in pairs.items()}
    results.claims.append(
        decided(
            "The two denoisers differ most in the middle of the trajectory, not at its ends.",
            SOURCE,
            "place of the largest difference for the same input, as a share of the steps",
            places,
            lambda cases, key: max(cases, key=lambda name: abs(key(name) - 0.5)),
            Rule(at_least=MIDDLE[0], at_most=MIDDLE[1], because="the middle half of the steps"),
            few,
            missing,
        )
    )
    arisen = {name: pair.arisen_in_the_middle() for name, pair in pairs.items()}
    results.claims.append(
        decided(
            "Errors accumulate in the middle of the trajectory.",
            SOURCE,
            "share of the samples' squared difference by which that of the outputs grows in the middle half of the steps",
            {name: value for name, value in arisen.items() if np.isfinite(value)},
            min,
            Rule(at_least=0.5, because="most of it"),
            few,
            missing,
        )
    )
