"""Networks on the phase diagram of patches: which side of a local model they act like while they are trained.

Hunt, Kamb & Ganguli (arXiv 2607.08041): a denoiser that sees a patch memorizes where the noisy patch names its training
image, beyond the boundary ``I = ln N`` of `entropy_phases`; and networks, U-Nets and transformers, match local models early in
training.

For every checkpoint and noise level: of the local scores of all window sides, made of the network's own training images, the
one whose output is nearest to the network's on noisy unseen images. How near is told by the coefficient of determination,
``1 − Σ ‖D − M‖² / Σ ‖D − D̄‖²``, D̄ the network's mean over the inputs. The side lies on the diagram with the boundary, where
the posterior of a noisy training patch has the entropy ln 2. Two numbers of training images: the largest, and the smallest,
whose networks memorize.
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

from scorescope.data import ImageSet
from scorescope.denoisers import LocalScoreDenoiser, OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.subject import chosen
from scorescope.papers.newer.entropy_phases import BIRD, BOUNDARY, crossing
from scorescope.papers.newer.training_runs import (
    ENOUGH_INPUTS,
    PUBLISHED,
    TINY,
    RunsConfig,
    Watched,
    open_runs,
)
from scorescope.probes.errors import forward_inputs, squared_error
from scorescope.probes.intervals import LEVEL, redrawn_weights
from scorescope.probes.posterior_entropy import middle, posterior_entropy
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.landmarks import landmarks_of
from scorescope.study.pairs import NETWORKS
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
OURS = "this project"
MATCHES = 0.8
SHOWN = 5


class NetworkPhasesConfig(RunsConfig):
    """Settings.

    Attributes:
        sides: of the windows in pixels, odd; those up to the image's, and the whole image beside them.
        levels: noise levels, increasing, in units of [-1, 1].
        inputs: noisy unseen images a level, and noisy training images that entropies are averaged over.
    """

    sides: tuple[pydantic.PositiveInt, ...] = pydantic.Field((1, 3, 5, 7, 9, 11, 13, 15), min_length=2)
    levels: tuple[pydantic.PositiveFloat, ...] = pydantic.Field((0.1, 0.2, 0.35, 0.6, 1.0, 1.7), min_length=2)
    inputs: int = pydantic.Field(48, ge=2)

    @pydantic.field_validator("levels")
    @classmethod
    def _increasing(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if list(levels) != sorted(set(levels)):
            raise ValueError("levels must increase")
        return levels


@dataclass(frozen=True)
class Phases:
    """What was measured for one N.

    Attributes:
        sides: of the windows, the last one as large as the image.
        entropy: of the posterior of noisy training patches, nats, (sides, levels).
        to_local: squared distance of the networks' outputs to each local model's, mean of both, (steps, levels, sides, inputs).
        spread: squared distance to the network's mean output, likewise, (steps, levels, inputs).
    """

    sides: list[int]
    entropy: Floats
    to_local: Floats
    spread: Floats

    @property
    def boundary(self) -> Floats:
        """The side at which the entropy falls to ln 2, (levels,); NaN where it lies outside the sides."""
        return np.array([crossing(self.sides, column, BOUNDARY) for column in self.entropy.T])

    def match(self) -> Floats:
        """The coefficient of determination of the best local model, (steps, levels)."""
        return np.asarray((1 - self.to_local.mean(3) / self.spread.mean(2)[..., None]).max(2))

    def best_side(self) -> npt.NDArray[np.int64]:
        """The side of the best local model, (steps, levels)."""
        return self._sides_at(self.to_local.mean(3).argmin(2))

    def redrawn(self, inputs: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
        """`match` and `best_side` for inputs drawn again: weights (draws, inputs) -> (draws, steps, levels) twice."""
        to_local = np.einsum("dj,tksj->dtks", inputs, self.to_local)
        spread = np.einsum("dj,tkj->dtk", inputs, self.spread)
        return (1 - to_local / spread[..., None]).max(3), self._sides_at(to_local.argmin(3))

    def _sides_at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = np.array(self.sides, dtype=np.int64)[places]
        return found


@study
class NetworkPhases(Study[NetworkPhasesConfig]):
    """The side of the local model that a network acts like, over noise level and training step."""

    name = "newer/network-phases"
    title = "Networks among local models during training"
    question = (
        "Which window side does a network act like at each noise level and step, and on which side of the boundary of"
        " memorization?"
    )
    paper = "Hunt, Kamb & Ganguli 2026, arXiv 2607.08041"
    Config = NetworkPhasesConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {**TINY, "sides": (1, 3, 5), "levels": (0.2, 1.0), "inputs": 6},
        "small": {},
        "paper": {**PUBLISHED, "sides": (1, 3, 5, 7, 9, 13, 17, 23, 31), "inputs": 256},
    }

    def run(self, config: NetworkPhasesConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        sizes = sorted({config.sizes[0], config.sizes[-1]})
        runs = open_runs(config, sizes, workspace)
        results = Results(study=self.name, title=self.title)
        found = {}
        for size in track(sizes, "comparing with local models"):
            sides = window_sides(config, runs.unseen)
            arrays = workspace.computed(
                f"phases/{size}",
                lambda size=size, sides=sides: _measured(  # type: ignore[misc]
                    runs.pairs[size], sides, runs.unseen, config, workspace
                ),
            )
            found[size] = Phases(sides, **arrays)
            results.arrays |= {f"{key} {size}": value for key, value in arrays.items()}
            results.landmarks[_title(size)] = landmarks_of(
                runs.pairs[size].training[NETWORKS[0]], workspace, f"landmarks/{size}", _title(size)
            )
        for size in reversed(sizes):
            _show(results, found[size], size, config)
        _show_match(results, found, config)
        _claims(results, found, config)
        results.headline = _headline(found, config)
        results.methods |= runs.methods
        results.methods["Local models"] = (
            f"Local scores (the posterior mean of the centre of a window, cut at the border, over the same place of the"
            f" network's training images) with windows of {', '.join(map(str, sides[:-1]))} pixels, and the optimal denoiser."
            f" Compared on {config.inputs} noisy unseen images a level, the same for all; both networks together."
        )
        results.methods["Boundary"] = (
            f"Where the posterior of noisy training patches, squares in the middle of {config.inputs} images, has the mean"
            " entropy ln 2: two images on average; linear between sides. Of network A's training images."
        )
        results.methods["Early"] = (
            "The first half of the checkpoints, which are equally spaced in the logarithm of the step."
        )
        results.methods["Intervals"] = "95 %, bootstrap over inputs; the best side is chosen anew in each draw."
        return results


def window_sides(config: NetworkPhasesConfig, images: ImageSet) -> list[int]:
    """The windows' sides that are smaller than the images, and the images' own. Raises UserError for fewer than two."""
    own = max(images.image_shape[1:])
    sides = sorted({side for side in config.sides if side < own} | {own})
    if len(sides) < 2:
        raise UserError(f"no window is smaller than images of {own} pixels: name smaller sides")
    return sides


def _measured(
    pair: Watched, sides: list[int], unseen: ImageSet, config: NetworkPhasesConfig, workspace: Workspace
) -> dict[str, Floats]:
    """The arrays of `Phases`."""
    inputs = forward_inputs(chosen(unseen, config.inputs, config.seed), config.levels, config.seed)
    to_local, spread = [], []
    for name in NETWORKS:
        outputs = []
        for network in pair.networks(name, workspace.device):
            with torch.no_grad():
                outputs.append(
                    [
                        network(noisy.to(workspace.device), sigma).cpu()
                        for noisy, sigma in zip(inputs, config.levels, strict=True)
                    ]
                )
        local = np.empty((len(outputs), len(config.levels), len(sides), config.inputs))
        for place, side in enumerate(sides):
            model = _local(pair.training[name], side)
            for level, (noisy, sigma) in enumerate(zip(inputs, config.levels, strict=True)):
                wanted = model(noisy, sigma)
                for step, row in enumerate(outputs):
                    local[step, level, place] = squared_error(row[level], wanted).numpy()
        to_local.append(local)
        spread.append(
            [[squared_error(images, images.mean(0, keepdim=True)).numpy() for images in row] for row in outputs]
        )
    entries = np.resize(np.arange(pair.size), config.inputs)
    entropy = []
    for side in sides:
        denoiser = OptimalDenoiser(middle(pair.training[NETWORKS[0]], side))
        entropy.append(
            [
                float(posterior_entropy(denoiser, entries, sigma, config.seed + k).mean())
                for k, sigma in enumerate(config.levels)
            ]
        )
    return {
        "entropy": np.array(entropy),
        "to_local": np.mean(to_local, axis=0),
        "spread": np.mean(spread, axis=0),
    }


def _local(images: ImageSet, side: int) -> LocalScoreDenoiser | OptimalDenoiser:
    """The local model of a side; as large as the image it is the optimal denoiser."""
    whole = side >= max(images.image_shape[1:])
    return OptimalDenoiser(images) if whole else LocalScoreDenoiser(images, side)


def _title(size: int) -> str:
    return f"N = {size:,}"


def early(count: int) -> int:
    """How many of so many checkpoints are early ones."""
    return max(1, count // 2)


def beyond(sides: npt.NDArray[np.int64], boundary: Floats) -> Floats:
    """Share of the levels at which a side lies beyond the boundary, of those where this is known: (..., levels) -> (...)."""
    known = np.isfinite(boundary)
    if not known.any():
        return np.full(sides.shape[:-1], np.nan)
    return np.asarray((sides[..., known] > boundary[known]).mean(-1))


def _show(results: Results, phases: Phases, size: int, config: NetworkPhasesConfig) -> None:
    section = f"On the diagram, N = {size:,}"
    best, steps = phases.best_side(), config.steps
    shown = sorted({round(place) for place in np.linspace(0, len(steps) - 1, min(len(steps), SHOWN))})
    colours = palette.sequence(len(shown))
    lines = [
        charts.Series(f"step {steps[k]:,}", config.levels, best[k], colour=colours[place])
        for place, k in enumerate(shown)
    ]
    lines.append(charts.Series("boundary, I = ln N", config.levels, phases.boundary, colour=palette.INK, dashed=True))
    results.add_chart(
        f"diagram-{size}",
        f"Which window networks act like, N = {size:,}",
        f"The side of the local model that is nearest to the networks, at some steps; the largest, {phases.sides[-1]}, is the"
        " optimal denoiser. Above the dashed line a noisy window names its training image.",
        section,
        charts.lines(charts.Panel(lines, "side of the window, pixels", _title(size))),
    )
    results.add_chart(
        f"entropy-{size}",
        f"What a noisy window leaves open, N = {size:,}",
        "Entropy of the posterior of noisy training patches over ln N: 0, the patch names its training image.",
        section,
        charts.heat_table(
            phases.entropy.T / np.log(size),
            [f"σ = {level:g}" for level in config.levels],
            [str(side) for side in phases.sides],
            x_label="side of the window, pixels",
            value_range=(0.0, 1.0),
        ),
        folded=True,
    )


def _show_match(results: Results, found: Mapping[int, Phases], config: NetworkPhasesConfig) -> None:
    colours = palette.sequence(len(config.levels))
    panels = [
        charts.Panel(
            [
                charts.Series(f"σ = {level:g}", config.steps, phases.match()[:, k], colour=colours[k])
                for k, level in enumerate(config.levels)
            ],
            "determination",
            _title(size),
            y_range=(None, 1.0),
        )
        for size, phases in sorted(found.items(), reverse=True)
    ]
    results.add_chart(
        "match",
        "How much the best local model says of a network",
        "Coefficient of determination of the network's outputs by the nearest local model: 1, it is the network; 0, no better"
        " than the network's mean output.",
        "How well",
        charts.lines(panels, "training step"),
    )
    rows = [
        {
            "N": size,
            "step": step,
            "σ": level,
            "side": int(phases.best_side()[t, k]),
            "boundary": phases.boundary[k],
            "determination": phases.match()[t, k],
        }
        for size, phases in found.items()
        for t, step in enumerate(config.steps)
        for k, level in enumerate(config.levels)
    ]
    results.add_table("sides", "Nearest local models", "Of both networks together.", pd.DataFrame(rows))


def _claims(results: Results, found: Mapping[int, Phases], config: NetworkPhasesConfig) -> None:
    sizes = list(found)
    large, small = found[sizes[-1]], found[sizes[0]]
    half = early(len(config.steps))
    reason = config.untested
    if not reason and config.inputs < ENOUGH_INPUTS:
        reason = f"{config.inputs} inputs; at least {ENOUGH_INPUTS} are asked for."
    match, drawn_match, drawn_side = large.match().mean(1), *large.redrawn(redrawn_weights(config.inputs))
    drawn_match = drawn_match.mean(2)  # (draws, steps)
    top = int(match[:half].argmax())
    drawn_beyond = beyond(drawn_side[:, top], large.boundary)
    last_small, drawn_small = small.best_side(), small.redrawn(redrawn_weights(config.inputs))[1]
    top_small = int(small.match().mean(1)[:half].argmax())
    moved = beyond(last_small[-1], small.boundary) - beyond(last_small[top_small], small.boundary)
    drawn_moved = beyond(drawn_small[:, -1], small.boundary) - beyond(drawn_small[:, top_small], small.boundary)
    tests: list[tuple[str, str, str, float, Floats, Rule]] = [
        (
            "Early in training a local model matches the network.",
            BIRD,
            f"highest coefficient of determination in the first half of the checkpoints, mean over σ, N = {sizes[-1]:,}",
            float(match[:half].max()),
            drawn_match[:, :half].max(1),
            Rule(at_least=MATCHES, because="four fifths of how the network's outputs differ"),
        ),
        (
            "Later the network leaves the local models.",
            BIRD,
            f"the same, minus that of the last checkpoint, N = {sizes[-1]:,}",
            float(match[:half].max() - match[-1]),
            drawn_match[:, :half].max(1) - drawn_match[:, -1],
            Rule(above=0.0),
        ),
        (
            "Where it matches a local model, the network lies on the generalizing side of the boundary.",
            OURS,
            f"share of noise levels at which the side is at most that of the boundary, step {config.steps[top]:,},"
            f" N = {sizes[-1]:,}",
            float(1 - beyond(large.best_side()[top], large.boundary)),
            1 - drawn_beyond,
            Rule(above=0.5),
        ),
        (
            "Training takes a network that memorizes across the boundary.",
            OURS,
            f"share of noise levels beyond the boundary at the last step, minus that at step {config.steps[top_small]:,},"
            f" N = {sizes[0]:,}",
            float(moved),
            drawn_moved,
            Rule(above=0.0),
        ),
    ]
    for sentence, source, quantity, value, drawn, rule in tests:
        note = reason or ("" if np.isfinite(value) else "the boundary lies outside of the sides at every noise level.")
        interval = None
        if not note:
            low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            interval = (min(float(low), value), max(float(high), value))
        results.claims.append(
            Claim(sentence, source, quantity, None if note else value, rule, interval=interval, note=note)
        )


def _headline(found: Mapping[int, Phases], config: NetworkPhasesConfig) -> str:
    size, phases = list(found.items())[-1]
    match = phases.match().mean(1)
    top = int(match.argmax())
    last = "" if top == len(match) - 1 else f", at step {config.steps[-1]:,} {match[-1]:.2f}"
    return (
        f"With N = {size:,} the nearest local model says most of the network at step {config.steps[top]:,} (coefficient of"
        f" determination {match[top]:.2f}){last}."
    )
