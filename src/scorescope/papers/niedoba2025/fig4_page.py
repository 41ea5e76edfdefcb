"""The page of figure 4: errors of patches of every side, the schedules chosen from them, and what these are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import spearmanr

from scorescope.denoisers import ShareSchedule, WindowSchedule
from scorescope.lenses.patch_fits import PatchErrors
from scorescope.probes.intervals import mean_over_images
from scorescope.study import charts, palette
from scorescope.study.claims import Rule
from scorescope.study.deciding import decided, key_of, series_of
from scorescope.study.results import Results

SOURCE = "niedoba2025, figure 4"
PATCHES, SCHEDULES = "Patches of every side", "The schedules that fit the networks"
LOW_END = 0.05
FEWEST_LEVELS = 6
SHOWN_SIDES = 7
LOWEST_SHOWN = 1e-6
Floats = npt.NDArray[np.float64]


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
