"""Figure 4: how large a patch knows as much as the image, and which patch a network acts like.

First: posterior means of patches of every side against the same patches of the optimal denoiser, on noisy training images.
Where noise is low a small patch already names its training image, and both agree. Second: against the patches of the network,
on the states of its own sampling. The side that is nearest, level by level, is a window schedule s(σ) for this network; the
same with masks of its own heatmaps gives λ(σ). The paper's schedules stand beside them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pydantic
import torch

from scorescope.denoisers import FlexPatchDenoiser, SquarePatchDenoiser
from scorescope.foundation.progress import track
from scorescope.lenses.comparison import Compared, Comparison
from scorescope.lenses.inputs import HELD_OUT, TRAIN, Inputs, forward, outputs, reverse
from scorescope.lenses.network_heatmaps import measured_heatmaps
from scorescope.lenses.patch_fits import PatchErrors, side_errors
from scorescope.papers.niedoba2025 import fig4_page
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS, ComparedConfig, open_comparison
from scorescope.probes.distances import squared_difference
from scorescope.probes.patches import SHARES, all_sides, share_errors
from scorescope.study.base import Study, study
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

PAPERS_SQUARE, CHOSEN_SQUARE = "pspc-square, the paper's sides", "pspc-square, chosen sides"
PAPERS_FLEX, CHOSEN_FLEX = "pspc-flex, the paper's λ", "pspc-flex, chosen λ"
Floats = npt.NDArray[np.float64]


class Fig4Config(ComparedConfig):
    """Settings of figure 4.

    Attributes:
        sides: of the patches; by default all odd ones from 3 on, and the whole image.
        heatmap_images: noisy training images that the heatmaps behind λ(σ) are averaged over.
        shares: λ to choose from.
        share_inputs: states a level that λ is chosen on.
    """

    sides: tuple[pydantic.PositiveInt, ...] = ()
    heatmap_images: int = pydantic.Field(3, ge=1)
    shares: tuple[float, ...] = pydantic.Field(SHARES, min_length=1)
    share_inputs: int = pydantic.Field(4, ge=1)

    def sides_for(self, height: int, width: int) -> list[int]:
        """The sides for images of a size."""
        return sorted(set(self.sides)) or all_sides(height, width)


@study
class Fig4(Study[Fig4Config]):
    """Patch posterior means against the optimal denoiser and against networks."""

    name = "niedoba2025/fig4"
    title = "Patches of every side"
    question = "From which side on does a patch know as much as the image, and which side does a network act like?"
    paper = f"{PAPER}, figure 4"
    Config = Fig4Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            **TINY_SETTINGS,
            "levels": 4,
            "sigma_min": 0.05,
            "sigma_max": 20.0,
            "heatmap_images": 1,
            "shares": (0.3, 0.7, 1.0),
            "share_inputs": 2,
        },
        "small": {},
        "paper": {**PAPER_SETTINGS, "heatmap_images": 100, "share_inputs": 100},
    }

    def run(self, config: Fig4Config, workspace: Workspace) -> Results:
        """See `Study.run`."""
        comparison = open_comparison(config, workspace)
        found = measure(comparison, config, workspace)
        results = Results(study=self.name, title=self.title)
        results.headline = fig4_page.headline(found)
        fig4_page.show(results, found, config.inputs)
        fig4_page.add_claims(results, found, comparison.too_few())
        comparison.describe(results, fig4_page.PATCHES)
        results.methods["Choice of λ"] = (
            f"On {config.share_inputs} states of each network's own sampling a level, with masks of the network's own heatmaps"
            f" ({config.heatmap_images} noisy training images), among {', '.join(f'{share:g}' for share in config.shares)}."
        )
        return results


def measure(comparison: Comparison, config: Fig4Config, workspace: Workspace) -> list[PatchErrors]:
    """Errors of every network at the levels that it was trained on; one cell a level and panel."""
    found = []
    for one in comparison.networks:
        states = reverse(comparison, one, workspace)
        inputs = forward(comparison, one, TRAIN)
        if states is None or inputs is None:
            continue
        _, height, width = one.denoiser.image_shape
        sides = config.sides_for(height, width)
        to_optimal = side_errors(
            f"patches {one.training_key}", one, inputs, one.optimal, one.within(inputs.sigmas), sides, workspace
        )
        to_network = side_errors(
            f"patches {one.name}", one, states, one.denoiser, range(len(states.sigmas)), sides, workspace
        )
        to_shares = _share_errors(one, states, config, workspace)
        pixels = one.training.read(0, min(4096, one.training.stored))
        measured = PatchErrors(
            one.name,
            np.array(states.sigmas),
            sides,
            to_optimal,
            to_network,
            to_shares,
            list(config.shares),
            float(np.var(pixels / 127.5)),
            {},
        )
        found.append(PatchErrors(**{**vars(measured), "fit": _fit(comparison, one, measured, config, workspace)}))
    return found


def _share_errors(one: Compared, states: Inputs, config: Fig4Config, workspace: Workspace) -> Floats:
    """Errors of every share, (S, B', K)."""
    heatmaps = measured_heatmaps(one, states.sigmas, config.heatmap_images, config.seed, workspace)

    def at(level: int) -> Floats:
        noisy, sigma = states.at(level)[: config.share_inputs].to(workspace.device), states.sigmas[level]
        with torch.no_grad():
            made = one.denoiser(noisy, sigma)
        return share_errors(one.training, heatmaps, noisy, sigma, made, config.shares)

    levels = track(range(len(states.sigmas)), f"masks of every share, {one.name}")
    return np.stack(
        [workspace.computed(f"shares {one.name}/{level}", functools.partial(at, level)) for level in levels]
    )


def _fit(
    comparison: Comparison, one: Compared, found: PatchErrors, config: Fig4Config, workspace: Workspace
) -> dict[str, Floats]:
    """What the chosen schedules are worth on inputs that they were not chosen on: noisy held-out images."""
    inputs = forward(comparison, one, HELD_OUT)
    if inputs is None:
        return {}
    sigmas = [comparison.sigmas[place] for place in one.within(comparison.sigmas)]
    heatmaps = measured_heatmaps(one, sigmas, config.heatmap_images, config.seed, workspace)
    rivals = {
        "optimal": one.optimal,
        PAPERS_SQUARE: SquarePatchDenoiser(one.training),
        CHOSEN_SQUARE: SquarePatchDenoiser(one.training, found.windows),
        PAPERS_FLEX: FlexPatchDenoiser(one.training, heatmaps),
        CHOSEN_FLEX: FlexPatchDenoiser(one.training, heatmaps, found.masks),
    }
    made = outputs(one.name, one.denoiser, inputs, workspace)
    levels = one.within(inputs.sigmas)
    return {
        name: squared_difference(made, outputs(f"{name} for {one.name}", rival, inputs, workspace))[levels]
        for name, rival in rivals.items()
    }
