"""Figure 4: how large a patch knows as much as the image, and which patch a network acts like.

First: posterior means of patches of every side against the same patches of the optimal denoiser, on noisy training images.
Where noise is low a small patch already names its training image, and both agree. Second: against the patches of the network,
on the states of its own sampling. The side that is nearest, level by level, is a window schedule s(σ) for this network; the
same with masks of its own heatmaps gives λ(σ). The paper's schedules stand beside them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch
from scipy.stats import spearmanr

from scorescope.denoisers import FlexPatchDenoiser, ShareSchedule, SquarePatchDenoiser, WindowSchedule
from scorescope.foundation.progress import track
from scorescope.lenses.comparison import Compared, Comparison
from scorescope.lenses.inputs import HELD_OUT, TRAIN, Inputs, forward, outputs, reverse
from scorescope.lenses.network_heatmaps import measured_heatmaps
from scorescope.lenses.patch_fits import PatchErrors, side_errors
from scorescope.papers.niedoba2025.compared import PAPER, PAPER_SETTINGS, TINY_SETTINGS, ComparedConfig, open_comparison
from scorescope.probes.distances import squared_difference
from scorescope.probes.intervals import mean_over_images
from scorescope.probes.patches import SHARES, all_sides, share_errors
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided, key_of, series_of
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

PAPERS_SQUARE, CHOSEN_SQUARE = "pspc-square, the paper's sides", "pspc-square, chosen sides"
PAPERS_FLEX, CHOSEN_FLEX = "pspc-flex, the paper's λ", "pspc-flex, chosen λ"
Floats = npt.NDArray[np.float64]
SOURCE = "niedoba2025, figure 4"
PATCHES, SCHEDULES = "Patches of every side", "The schedules that fit the networks"
LOW_END = 0.05
FEWEST_LEVELS = 6
SHOWN_SIDES = 7
LOWEST_SHOWN = 1e-6


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
        results = comparison.page(self.name, self.title, workspace)
        results.headline = headline(found)
        show(results, found, config.inputs)
        add_claims(results, found, comparison.too_few())
        comparison.describe(results, PATCHES)
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


def headline(found: Sequence[PatchErrors]) -> str:
    """The chosen schedules in a sentence."""
    if not found:
        return "No noise level lies where a network was trained."
    parts = [
        f"{one.network}: {', '.join(f'{side}' for side in one.windows.sides)}"
        f" (σ from {one.sigmas[0]:.2g} down to {one.sigmas[-1]:.2g})"
        for one in found
    ]
    return (
        f"Side of the patches that each network is nearest to, in pixels, from high to low noise. {'; '.join(parts)}."
    )


def show(results: Results, found: Sequence[PatchErrors], inputs: int) -> None:
    """Both panels of every network, the schedules, the tables."""
    for one in found:
        places = sorted({int(k) for k in np.linspace(0, len(one.sides) - 1, SHOWN_SIDES).round()})
        colours = palette.sequence(len(places))

        def panel(errors: Floats, title: str, lowest: float | None) -> charts.Panel:
            lines = [
                series_of(f"side {one.sides[place]}", one.sigmas, mean_over_images(errors[:, :, place]), colour=colour)  # noqa: B023
                for place, colour in zip(places, colours, strict=True)  # noqa: B023
            ]
            return charts.Panel(lines, "mean squared error", title, y_log=True, y_range=(lowest, None))

        results.add_chart(
            f"patches-{key_of(one.network)}",
            f"Patch posterior means, {one.network}",
            "Mean squared error a value between posterior means of square patches, given their noisy pixels alone, and the same"
            " patches of a whole denoised image; all windows of a side. Above: of what the optimal denoiser makes of noisy"
            f" training images; below: of what the network makes of the states of its own sampling. {inputs} images a level;"
            f" bands: 95 % intervals; cut off below {LOWEST_SHOWN:g}.",
            PATCHES,
            charts.lines(
                [
                    panel(one.to_optimal, "against the optimal denoiser, noisy training images", LOWEST_SHOWN),
                    panel(one.to_network, f"against {one.network}, states of its own sampling", None),
                ],
                heights=[1.3, 1.3],
            ),
        )
    if found:
        _schedules(results, found)
    _tables(results, found)


def _schedules(results: Results, found: Sequence[PatchErrors]) -> None:
    widest = max(found, key=lambda one: len(one.sigmas))
    sides = [charts.Series(one.network, one.sigmas, one.windows.sides) for one in found]
    shares = [charts.Series(one.network, one.sigmas, one.masks.shares) for one in found]
    size = widest.sides[-1]
    papers = WindowSchedule.for_images(size, size), ShareSchedule.paper()
    sides.append(_papers(widest.sigmas, [papers[0].side(float(sigma)) for sigma in widest.sigmas]))
    shares.append(_papers(widest.sigmas, [papers[1].share(float(sigma)) for sigma in widest.sigmas]))
    results.add_chart(
        "schedules",
        "Schedules chosen for each network",
        "Above: the side of the patches that are nearest to the network; below: the share λ of its sensitivity heatmaps that"
        " the masks of PSPC-Flex hold when it is nearest to the network. Both on states of the network's own sampling. Dashed:"
        " the paper's schedule for CIFAR-10, sides in proportion to the image.",
        SCHEDULES,
        charts.lines([charts.Panel(sides, "side (pixels)", "s(σ)"), charts.Panel(shares, "share λ", "λ(σ)")]),
    )
    rows = [
        {
            "network": one.network,
            "σ": float(sigma),
            "side": one.windows.sides[level],
            "the paper's side": papers[0].side(float(sigma)),
            "λ": one.masks.shares[level],
            "the paper's λ": papers[1].share(float(sigma)),
        }
        for one in found
        for level, sigma in enumerate(one.sigmas)
    ]
    results.add_table(
        "schedules", "The chosen schedules", "Beside the paper's, sides in proportion.", pd.DataFrame(rows)
    )


def _papers(sigmas: Floats, values: Sequence[float]) -> charts.Series:
    return charts.Series("the paper's", sigmas, values, colour=palette.GREY, dashed=True)


def _tables(results: Results, found: Sequence[PatchErrors]) -> None:
    rows = []
    for one in found:
        for panel, errors in (("optimal, forward", one.to_optimal), ("network, reverse", one.to_network)):
            for level, sigma in enumerate(one.sigmas):
                row: dict[str, object] = {"network": one.network, "against": panel, "σ": float(sigma)}
                rows.append(
                    row | {f"side {side}": float(errors[level, :, k].mean()) for k, side in enumerate(one.sides)}
                )
    results.add_table(
        "patches", "Errors of patches", "Mean squared error a value, images in [−1, 1].", pd.DataFrame(rows)
    )
    fits = [
        {
            "network": one.network,
            "denoiser": name,
            "mean squared difference": float(distance.mean()),
            "explained": float(1 - distance.sum() / one.fit["optimal"].sum()),
        }
        for one in found
        for name, distance in one.fit.items()
    ]
    if fits:
        results.add_table(
            "fit",
            "What the chosen schedules are worth",
            "Distance to the network on noisy held-out images, on which nothing was chosen, over all noise levels together.",
            pd.DataFrame(fits),
        )


def add_claims(results: Results, found: Sequence[PatchErrors], few: str) -> None:
    """The paper's two sentences."""
    lowest = {
        one.network: float(one.to_optimal[-1].mean(0).max() / one.spread) for one in found if one.sigmas[-1] <= LOW_END
    }
    results.claims.append(
        decided(
            "Below a noise level patch posterior means equal the patches of the optimal denoiser.",
            SOURCE,
            "mean squared error of the worst side at the lowest level, over the variance of the images",
            lowest,
            max,
            Rule(at_most=0.01, because="a hundredth of what there is to say"),
            few,
            f"no network was trained at σ = {LOW_END:g} or less",
        )
    )
    trends = {}
    for one in found:
        if len(one.sigmas) >= FEWEST_LEVELS:
            sides = one.windows.sides
            # of equal sides everywhere there is no trend at all
            trends[one.network] = float(spearmanr(one.sigmas, sides).statistic) if len(set(sides)) > 1 else 0.0
    results.claims.append(
        decided(
            "On the states of its sampling the side that is nearest to the network grows with the noise level.",
            SOURCE,
            "rank correlation between σ and the best side",
            trends,
            min,
            Rule(at_least=0.8, because="a clear trend over the levels"),
            few,
            f"no network was trained on {FEWEST_LEVELS} of the levels",
        )
    )
