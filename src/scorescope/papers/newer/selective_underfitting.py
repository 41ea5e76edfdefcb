"""Where a network underfits: its error to the empirical score around training images, and where its own samples come from.

Song et al. (arXiv 2510.01378): training supervises a network near noisy training images alone, thin shells ``x_i + σ n``
around them. There a better network is nearer to the score of the training set, the optimal denoiser. Its own sampling soon
leaves these shells, and there a better network is *further* from it: underfitting is selective, and samples are new because of
it.

Measured on checkpoints of one training, with ``D*`` the optimal denoiser of the training images:

- *supervised*: ``E ‖D(y, σ) − D*(y, σ)‖² / dim`` at ``y = x_i + σ n``, at the levels of the flow;
- *own samples*: the same at the states of the network's own flow, at the same levels;
- how good samples are: Fréchet distance to unseen images, in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch
from scipy.stats import rankdata

from scorescope.data import ImageSet
from scorescope.denoisers import OptimalDenoiser
from scorescope.lenses.subject import chosen
from scorescope.papers.newer.training_runs import (
    ENOUGH_INPUTS,
    PUBLISHED,
    TINY,
    RunsConfig,
    Watched,
    distance_to,
    flow_levels,
    open_runs,
    own_flow,
)
from scorescope.probes.errors import forward_inputs, squared_error
from scorescope.probes.intervals import LEVEL, redrawn_weights
from scorescope.study import charts, palette, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.landmarks import landmarks_of
from scorescope.study.pairs import NETWORKS
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
SONG = "song2025"
SECTION, BY_LEVEL, SAMPLES = "Where it underfits", "Over noise levels", "Samples on the way"
SUPERVISED, OWN = "supervised", "own samples"
SHOWN_SAMPLES, SHOWN_ROWS = 8, 6


class SelectiveUnderfittingConfig(RunsConfig):
    """Settings.

    Attributes:
        size: training images of the networks that are looked at, one of `sizes`; None for the largest.
    """

    size: int | None = pydantic.Field(None, ge=1)

    @pydantic.model_validator(mode="after")
    def _one_of_sizes(self) -> SelectiveUnderfittingConfig:
        if self.size is not None and self.size not in self.sizes:
            raise ValueError(f"size must be one of sizes, {', '.join(map(str, self.sizes))}")
        return self


@study
class SelectiveUnderfitting(Study[SelectiveUnderfittingConfig]):
    """Error to the empirical score around training images and on own samples, during training."""

    name = "newer/selective-underfitting"
    title = "Selective underfitting"
    question = (
        "As samples get better, does a network come nearer to the empirical score where it is trained, and go further from it"
        " where it samples?"
    )
    paper = "Song et al. 2025, arXiv 2510.01378"
    Config = SelectiveUnderfittingConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": TINY, "small": {}, "paper": PUBLISHED}

    def run(self, config: SelectiveUnderfittingConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        size = config.size or config.sizes[-1]
        runs = open_runs(config, [size], workspace)
        pair = runs.pairs[size]
        found = [
            workspace.computed(
                f"errors/{name}",
                lambda name=name: _measured(pair, name, runs.unseen, config, workspace),  # type: ignore[misc]
            )
            for name in NETWORKS
        ]
        # (steps, levels, inputs): both networks start from the same noise, which is what is drawn again for intervals.
        errors = {kind: np.mean([one[kind] for one in found], axis=0) for kind in (SUPERVISED, OWN)}
        distance = np.mean([one["distance"] for one in found], axis=0)
        sigmas = found[0]["sigma"]
        landmarks = {"": landmarks_of(pair.training[NETWORKS[0]], workspace, of="network A")}
        results = Results(study=self.name, title=self.title, landmarks=landmarks)
        results.arrays |= {**errors, "distance": distance, "sigma": sigmas}
        trends = measure_trends(errors, distance)
        _show(results, errors, distance, sigmas, size, config)
        results.add_sheet(
            "samples",
            f"Samples on the way, N = {size:,}",
            "Of network A from the same noise; grey where its flow leads nowhere.",
            SAMPLES,
            _sheet(found[0]["samples"], config.steps),
        )
        _claims(results, trends, config)
        results.headline = (
            f"From the first checkpoint to the one with the best samples the error around training images goes"
            f" {trends['first'][SUPERVISED]:.3g} → {trends['best'][SUPERVISED]:.3g}, on the network's own samples"
            f" {trends['first'][OWN]:.3g} → {trends['best'][OWN]:.3g}."
        )
        results.methods |= runs.methods
        results.methods["Errors"] = (
            f"Mean squared difference a pixel between the network's and the optimal denoiser's output of its {size:,} training"
            f" images, averaged over σ = {', '.join(f'{sigma:.3g}' for sigma in sigmas)}: on {config.samples} noisy training"
            " images, and on the states of as many trajectories of its own. Mean of both networks."
        )
        results.methods["Trends"] = (
            "Spearman's rank correlation over checkpoints with how good samples are: minus the Fréchet distance in pixels to"
            f" {runs.unseen.stored} unseen images. Intervals: 95 %, bootstrap over inputs; the distances are taken as they are."
        )
        return results


def _measured(
    pair: Watched, name: str, unseen: ImageSet, config: SelectiveUnderfittingConfig, workspace: Workspace
) -> dict[str, Any]:
    """Errors of one network at each step, level and input, distances of its samples, and some of these."""
    training = pair.training[name]
    optimal = OptimalDenoiser(training)
    clean = chosen(training, config.samples, config.seed).to(workspace.device)
    supervised, own, distance, samples = [], [], [], []
    wanted: list[torch.Tensor] | None = None
    sigmas: list[float] = []
    for network in pair.networks(name, workspace.device):
        if wanted is None:
            sigmas = flow_levels(network, config)
            inputs = forward_inputs(clean, sigmas, config.seed)
            wanted = [optimal(noisy, sigma) for noisy, sigma in zip(inputs, sigmas, strict=True)]
        with torch.no_grad():
            supervised.append(
                [
                    squared_error(network(noisy, sigma), target).cpu().numpy()
                    for noisy, sigma, target in zip(inputs, sigmas, wanted, strict=True)
                ]
            )
        states = own_flow(network, unseen, config)
        if states is None:
            own.append([np.full(config.samples, np.nan)] * len(sigmas))
            distance.append(np.nan)
            samples.append(np.full((SHOWN_SAMPLES, *network.image_shape), np.nan, dtype=np.float32))
            continue
        own.append(
            [
                squared_error(state.denoised, optimal(state.noisy, state.sigma)).cpu().numpy()
                for state in states
                if state.sigma > 0
            ]
        )
        distance.append(distance_to(unseen, states[-1].noisy))
        samples.append(states[-1].noisy[:SHOWN_SAMPLES].cpu().numpy().astype(np.float32))
    return {
        SUPERVISED: np.array(supervised),
        OWN: np.array(own),
        "distance": np.array(distance),
        "samples": np.stack(samples),
        "sigma": np.array(sigmas),
    }


def rank_correlation(first: Floats, second: Floats) -> Floats:
    """Spearman's correlation of the last axis of `first` (..., T) with `second` (T,); NaN where either does not vary."""
    a, b = rankdata(first, axis=-1), rankdata(second)
    a, b = a - a.mean(-1, keepdims=True), b - b.mean()
    lengths = np.sqrt((a**2).sum(-1) * (b**2).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(lengths > 0, (a * b).sum(-1) / lengths, np.nan))


def measure_trends(errors: Mapping[str, Floats], distance: Floats) -> dict[str, Any]:
    """How errors go with the quality of samples over checkpoints, with intervals over inputs.

    Args:
        errors: kind -> (steps, levels, inputs).
        distance: of the samples to unseen images, (steps,); a NaN leaves a checkpoint out.

    Returns:
        For ``supervised``, ``own samples`` and ``ratio`` (value, low, high) of the rank correlation with minus the distance;
        ``excess``, the ratio of the errors at the best samples, likewise; ``first`` and ``best``, errors by kind.
    """
    known = np.isfinite(distance) & np.isfinite(errors[OWN]).all((1, 2))
    if not known.any():
        nothing = (np.nan,) * 3
        none = {SUPERVISED: np.nan, OWN: np.nan}
        return {SUPERVISED: nothing, OWN: nothing, "ratio": nothing, "excess": nothing, "first": none, "best": none}
    by_input = {kind: values[known].mean(1) for kind, values in errors.items()}  # (steps, inputs)
    quality = -distance[known]
    best = int(np.argmax(quality))
    mean = {kind: values.mean(1) for kind, values in by_input.items()}
    drawn = {
        kind: redrawn_weights(values.shape[1], seed=k) @ values.T for k, (kind, values) in enumerate(by_input.items())
    }  # (draws, steps)
    mean["ratio"], drawn["ratio"] = mean[OWN] / mean[SUPERVISED], drawn[OWN] / drawn[SUPERVISED]
    found: dict[str, Any] = {
        kind: _with_interval(float(rank_correlation(mean[kind], quality)), rank_correlation(drawn[kind], quality))
        for kind in mean
    }
    found["excess"] = _with_interval(float(mean["ratio"][best]), drawn["ratio"][:, best])
    for word, place in (("first", 0), ("best", best)):
        found[word] = {kind: float(mean[kind][place]) for kind in (SUPERVISED, OWN)}
    return found


def _with_interval(value: float, drawn: Floats) -> tuple[float, float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return value, min(float(low), value), max(float(high), value)


def _show(
    results: Results,
    errors: Mapping[str, Floats],
    distance: Floats,
    sigmas: Floats,
    size: int,
    config: SelectiveUnderfittingConfig,
) -> None:
    mean = {kind: values.mean((1, 2)) for kind, values in errors.items()}
    colours = {SUPERVISED: palette.BLUE, OWN: palette.ORANGE}
    steps = config.steps
    results.add_chart(
        "errors",
        f"Errors to the empirical score, N = {size:,}",
        "Mean squared difference between the network and the optimal denoiser of its training images: around these, and at the"
        " states of its own sampling; below, how far samples are from unseen images.",
        SECTION,
        charts.lines(
            [
                charts.Panel(
                    [charts.Series(kind, steps, mean[kind], colour=colours[kind]) for kind in mean],
                    "squared difference",
                    "Distance to the optimal denoiser",
                    y_log=True,
                ),
                charts.Panel(
                    [charts.Series("samples", steps, distance, colour=palette.GREEN)],
                    "Fréchet distance",
                    "Distance of samples to unseen images",
                    y_log=True,
                ),
            ],
            "training step",
        ),
    )
    shown = _places(len(steps))
    sequence = palette.sequence(len(shown))
    results.add_chart(
        "levels",
        "At which noise levels",
        "The same at each noise level, for some checkpoints.",
        BY_LEVEL,
        charts.lines(
            [
                charts.Panel(
                    [
                        charts.Series(f"step {steps[k]:,}", sigmas, values[k].mean(1), colour=sequence[place])
                        for place, k in enumerate(shown)
                    ],
                    "squared difference",
                    title,
                    y_log=True,
                )
                for title, values in (("Around training images", errors[SUPERVISED]), ("Own samples", errors[OWN]))
            ],
            share_y=True,
        ),
    )
    frame = pd.DataFrame(
        {
            "step": steps,
            "supervised": mean[SUPERVISED],
            "own samples": mean[OWN],
            "ratio": mean[OWN] / mean[SUPERVISED],
            "Fréchet distance": distance,
        }
    )
    results.add_table("errors", "Errors and samples", "Means over levels, inputs and both networks.", frame)


def _places(count: int) -> list[int]:
    """At most six of so many checkpoints, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, SHOWN_ROWS))})


def _sheet(samples: npt.NDArray[np.float32], steps: list[int]) -> pictures.Sheet:
    shown = _places(len(steps))
    return pictures.grid(samples[shown], [f"step {steps[k]:,}" for k in shown])


def _claims(results: Results, trends: Mapping[str, Any], config: SelectiveUnderfittingConfig) -> None:
    reason = config.untested
    if not reason and config.samples < ENOUGH_INPUTS:
        reason = f"{config.samples} inputs; at least {ENOUGH_INPUTS} are asked for."
    correlation = "rank correlation of {} with the quality of samples, over checkpoints"
    tests = [
        (
            "Where it is supervised, a network comes nearer to the empirical score as its samples get better.",
            correlation.format("the error around training images"),
            trends[SUPERVISED],
            Rule(below=0.0),
        ),
        (
            "Where it samples, a network goes further from the empirical score as its samples get better.",
            correlation.format("the error on own samples"),
            trends[OWN],
            Rule(above=0.0),
        ),
        (
            "Underfitting becomes more selective as samples get better.",
            correlation.format("the ratio of both errors"),
            trends["ratio"],
            Rule(above=0.0),
        ),
        (
            "With the best samples, the error is larger where the network samples than where it is supervised.",
            "ratio of both errors at the checkpoint with the best samples",
            trends["excess"],
            Rule(above=1.0),
        ),
    ]
    for sentence, quantity, (value, low, high), rule in tests:
        note = reason or ("" if np.isfinite(value) else "no checkpoint has a flow that leads to images.")
        results.claims.append(
            Claim(
                sentence,
                SONG,
                quantity,
                None if note else value,
                rule,
                interval=None if note else (low, high),
                note=note,
            )
        )
