"""The comparison of figure 7 within one class: does the order of denoisers come from averaging over classes?

*Forward*: noisy training images of the class. *Paths*: states of the first network's own sampling whose sample is of the
class: by the class it was asked for, if it is conditional; else as a classifier of labelled training images tells
(`scorescope.probes.features_classes`); how often it is right stands beside the class score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from scorescope.foundation.progress import track
from scorescope.lenses.inputs import TRAIN, Inputs, ReverseInputs, forward, outputs
from scorescope.lenses.subject import OPTIMAL
from scorescope.papers.niedoba2025.classical import CLASSICAL_NAMES
from scorescope.papers.niedoba2025.samples import Cast
from scorescope.probes.distances import squared_difference
from scorescope.probes.features import FeatureSpace, vectors_of
from scorescope.probes.features_classes import FeatureClasses
from scorescope.probes.intervals import mean_over_images
from scorescope.sampling import last
from scorescope.study import charts
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided, series_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

ONE_CLASS = "Within one class"
SOURCE = "niedoba2025, asked for by its reviewers"
FORWARD, PATHS = "noisy training images of the class", "paths to samples of the class"
MOST_DRAWN = 30  # times as many paths are drawn as are wanted, at most
ENOUGH_PATHS = 16
Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class ClassPaths:
    """Trajectories of the first network that end in one class.

    Attributes:
        rows: which of the shared starts.
        said: how their class is known, in words.
    """

    rows: list[int]
    said: str


def class_paths(
    cast: Cast, label: int, count: int, space: FeatureSpace, classes: FeatureClasses | None, workspace: Workspace
) -> ClassPaths:
    """The first starts, at most `count`, from which the first network samples the class.

    Args:
        cast: what is sampled.
        label: the class.
        count: how many paths are wanted; at most 30 times as many are drawn.
        space: whose vectors `classes` takes.
        classes: tells the class of a sample; not asked for a conditional network.
        workspace: of the run; samples are drawn in the cells of `samples_of`.
    """
    network = cast.first.denoiser
    if network.class_label is not None:
        said = f"the network is conditional and was asked for class {network.class_label}"
        return ClassPaths(list(range(count)) if network.class_label == label else [], said)
    if classes is None:
        return ClassPaths([], "nothing tells the class of a sample")
    found: list[int] = []
    size = cast.config.at_once
    for start in track(range(0, MOST_DRAWN * count, size), f"paths to class {label}"):
        rows = range(start, start + size)

        def drawn() -> list[int]:
            samples = last(cast.trajectory(cast.first.name, rows, workspace.device)).noisy  # noqa: B023
            known = torch.isfinite(samples).flatten(1).all(1)
            vectors = vectors_of(space, torch.where(known.view(-1, 1, 1, 1), samples, 0.0), device=workspace.device)
            told = classes.classes[classes.log_probabilities(vectors).argmax(1)]
            return [row for row, is_known, each in zip(rows, known, told, strict=True) if is_known and each == label]  # noqa: B023

        found += workspace.computed(f"paths to class {label}/{start}", drawn)
        if len(found) >= count:
            break
    return ClassPaths(found[:count], "a classifier of labelled training images told the class of each sample")


def distances_in_class(
    cast: Cast, label: int, count: int, paths: ClassPaths, workspace: Workspace
) -> dict[str, dict[str, Floats]]:
    """Squared differences of the denoisers made from training images to the first network: kind -> name -> (S, B)."""
    found: dict[str, dict[str, Floats]] = {}
    compared = [name for name in cast.training_free if name not in CLASSICAL_NAMES]
    for kind, inputs in _inputs(cast, label, count, paths, workspace).items():
        made = {
            name: outputs(f"{name} in class {label}", cast.denoisers[name], inputs, workspace)
            for name in [cast.first.name, *compared]
        }
        network = made[cast.first.name]
        found[kind] = {name: squared_difference(made[name], network) for name in compared}
    return found


def _inputs(cast: Cast, label: int, count: int, paths: ClassPaths, workspace: Workspace) -> dict[str, Inputs]:
    config = cast.comparison.config.model_copy(update={"image_class": label, "inputs": count})
    inputs: dict[str, Inputs] = {}
    noisy = forward(dataclasses.replace(cast.comparison, config=config), cast.first, TRAIN)
    if noisy is not None:
        inputs[FORWARD] = noisy
    if paths.rows:

        def states() -> npt.NDArray[np.float32]:
            parts: list[list[npt.NDArray[Any]]] = []
            for row in track(paths.rows, f"paths to class {label}"):
                visited = cast.trajectory(cast.first.name, range(row, row + 1), workspace.device)
                parts.append([state.noisy[0].float().numpy() for state in visited][:-1])
            return np.swapaxes(np.array(parts), 0, 1)

        found = workspace.computed(f"states to class {label}", states)
        inputs[PATHS] = ReverseInputs(f"paths to class {label}", cast.sigmas, found, np.full(len(paths.rows), label))
    return inputs


def show_one_class(
    results: Results, cast: Cast, label: int, paths: ClassPaths, found: Mapping[str, Mapping[str, Floats]]
) -> None:
    """Curves over sigma, a table of their means, and the claim."""
    panels, rows = [], []
    for kind, distances in found.items():
        count = next(iter(distances.values())).shape[1]
        series = [series_of(name, cast.sigmas, mean_over_images(values)) for name, values in distances.items()]
        panels.append(charts.Panel(series, "mean squared difference", f"{kind} ({count})", y_log=True))
        for name, values in distances.items():
            rows.append({"inputs": kind, "denoiser": name, "mean": float(values.mean()), "images": count})
    results.add_chart(
        "one-class",
        f"Distance to {cast.first.name} within class {label}",
        f"Mean squared difference between {cast.first.name} and each training-free denoiser, on inputs of class {label} alone"
        f" (paths: {paths.said}). Bands: 95 % intervals over images.",
        ONE_CLASS,
        charts.lines(panels),
    )
    results.add_table(
        "one-class",
        f"Distance to {cast.first.name} within class {label}",
        "Mean squared difference over all levels and inputs.",
        pd.DataFrame(rows),
    )
    kind = PATHS if PATHS in found else FORWARD
    distances = found[kind]
    ratios = {
        name: float(distances[name].mean() / distances[OPTIMAL].mean())
        for name in ("pspc-flex", "pspc-square")
        if name in distances
    }
    count = distances[OPTIMAL].shape[1]
    results.claims.append(
        decided(
            "Averaged within one class, PSPC is closer to the network than the optimal denoiser is.",
            SOURCE,
            f"mean squared difference of PSPC over that of the optimal denoiser, {kind}",
            ratios,
            max,
            Rule(below=1.0),
            "" if count >= ENOUGH_PATHS else f"{count} inputs; at least {ENOUGH_PATHS} are asked for",
            "no PSPC is among the denoisers",
        )
    )
