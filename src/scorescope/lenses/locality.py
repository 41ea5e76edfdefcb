"""Locality: at how large a part of the noisy image does the model look to make one pixel, and which patches does it act like?

Its sensitivity heatmaps ``G(p, σ) = E Σ_c |∂D(y, σ)_{p,c} / ∂y|`` say where it looks: exact derivatives, averaged over noisy
training images. Posterior means of patches of every side, against the patches of what it makes on its own way from noise to an
image, say which side it acts like (Niedoba et al. 2025, figures 3 and 4).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from scorescope.denoisers import WindowSchedule
from scorescope.foundation import UserError
from scorescope.lenses.base import DERIVATIVE, Lens, lens
from scorescope.lenses.comparison import Compared, Comparison, comparison_of
from scorescope.lenses.inputs import IN_WORDS, REVERSE, reverse
from scorescope.lenses.network_heatmaps import measured_heatmaps
from scorescope.lenses.patch_fits import side_errors
from scorescope.lenses.settings import LensSettings
from scorescope.lenses.subject import Subject, chosen
from scorescope.noise import add_noise
from scorescope.probes.concentration import (
    SHARES,
    Concentration,
    Floats,
    concentration,
    concentration_around,
    of_the_wiener_filter,
    some_pixels,
)
from scorescope.probes.patches import all_sides, best_sides
from scorescope.probes.sensitivity import sensitivity
from scorescope.study import charts, palette, pictures
from scorescope.study.deciding import key_of
from scorescope.study.glances import small_chart
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training.randomness import mixed

WIENER = "gaussian"


@dataclass(frozen=True)
class LocalityFound:
    """Where one network looks, and which patches it acts like.

    Attributes:
        name: of the network.
        concentrations: of its heatmaps, and of the Wiener filter's where that can be had.
        images: noisy training images that the heatmaps are averages of.
        pixels: output pixels that were looked at; None for all of them.
        sigmas: levels of the patches, (S,).
        sides: the side that it is nearest to at each.
        papers: the side of the paper's schedule.
        patch_inputs: states a level that the sides were chosen on.
    """

    name: str
    concentrations: list[Concentration]
    images: int
    pixels: int | None
    sigmas: Floats
    sides: list[int]
    papers: list[int]
    patch_inputs: int


@lens(
    "locality",
    question="At how large a part of the noisy image does it look to make one pixel, and which patches does it act like?",
    needs=(DERIVATIVE,),
)
class Locality(Lens):
    """Heatmaps, their concentration, and the side of the patches that the model is nearest to."""

    def measure(self, subject: Subject, settings: LensSettings, workspace: Workspace) -> LocalityFound:
        """See `Lens.measure`."""
        comparison = comparison_of(subject, settings.deviation_levels, settings.deviation_inputs, settings.seed)
        (one,) = comparison.networks
        _, height, width = one.denoiser.image_shape
        few = settings.heatmap_pixels is not None and settings.heatmap_pixels < height * width
        if few:
            found = [_around_some_pixels(comparison, one, settings, workspace)]
            found += _of_the_wiener_filter(comparison, workspace)
        else:
            found = concentrations(comparison, settings.heatmap_images, workspace)
        states = reverse(comparison, one, workspace)
        assert states is not None  # the levels of a subject are those that it was trained on
        sides = all_sides(height, width)
        if settings.patch_sides is not None:
            kept = np.linspace(0, len(sides) - 1, min(settings.patch_sides, len(sides))).round().astype(int)
            sides = [sides[place] for place in kept]
        levels = range(len(states.sigmas))
        errors = side_errors(
            f"patches {one.name}", one, states, one.denoiser, levels, sides, workspace, settings.patch_inputs
        )
        papers = WindowSchedule.for_images(height, width)
        return LocalityFound(
            name=one.name,
            concentrations=found,
            images=settings.heatmap_images,
            pixels=found[0].sides.shape[1] if few else None,
            sigmas=np.array(states.sigmas),
            sides=list(best_sides(states.sigmas, sides, errors.mean(1)).sides),
            papers=[papers.side(sigma) for sigma in states.sigmas],
            patch_inputs=min(settings.patch_inputs, settings.deviation_inputs),
        )

    def show(self, results: Results, measured: LocalityFound) -> None:
        """See `Lens.show`."""
        show_sides(results, measured.concentrations, measured.images, self.title)
        lines = [
            charts.Series(measured.name, measured.sigmas, measured.sides),
            charts.Series("the paper's", measured.sigmas, measured.papers, colour=palette.GREY, dashed=True),
        ]
        results.add_chart(
            "best-side",
            "Side of the patches that it acts like",
            "At every noise level, the side of the square patches whose posterior means are nearest to the model's, on"
            f" {measured.patch_inputs} {IN_WORDS[REVERSE]}. Dashed: the schedule of Niedoba et al. 2025 for CIFAR-10, in"
            " proportion to the image.",
            self.title,
            charts.lines(charts.Panel(lines, "side (pixels)")),
        )
        show_heatmaps(results, measured.concentrations, self.title)
        describe_heatmaps(results, measured.images)
        if measured.pixels is not None:
            results.methods["Heatmaps"] = (
                f"Exact derivatives by batched vector-Jacobian products, absolute values summed over channels, averaged over"
                f" {measured.images} noisy training images a level, of {measured.pixels} output pixels on a grid."
            )
        own = measured.concentrations[0]
        sides = own.mean(SHARES[1])
        results.add_glance(
            self.title,
            f"{sides[-1]:.0f} → {sides[0]:.0f} px",
            f"is the side of the square that holds {SHARES[1]:.0%} of what it looks at, from the lowest to the highest noise.",
            small_chart([charts.Series(own.name, own.sigmas, sides)], charts.SIGMA),
        )


def _around_some_pixels(
    comparison: Comparison, one: Compared, settings: LensSettings, workspace: Workspace
) -> Concentration:
    """Concentration of the heatmaps of a few output pixels, which are not kept for other runs."""
    _, height, width = one.denoiser.image_shape
    pixels = some_pixels(height, width, settings.heatmap_pixels or height * width)
    clean = chosen(one.training, settings.heatmap_images, settings.seed)

    def maps_at(sigma: float) -> Any:
        generator = torch.Generator().manual_seed(mixed(settings.seed, comparison.sigmas.index(sigma)))
        noisy = add_noise(clean, sigma, generator).to(workspace.device)
        return sensitivity(one.denoiser, noisy, sigma, pixels).cpu().numpy()

    compute = functools.partial(concentration_around, one.name, maps_at, comparison.sigmas, (height, width), pixels)
    return _stored(f"concentration/{one.name}", compute, workspace)


def concentrations(comparison: Comparison, images: int, workspace: Workspace) -> list[Concentration]:
    """Concentration of every network's heatmaps at the levels that it was trained on, and of the Wiener filter's."""
    found = []
    for one in comparison.networks:
        sigmas = [comparison.sigmas[place] for place in one.within(comparison.sigmas)]
        if sigmas:
            heatmaps = measured_heatmaps(one, sigmas, images, comparison.config.seed, workspace)
            size = one.denoiser.image_shape[1:]
            compute = functools.partial(concentration, one.name, heatmaps, sigmas, size)
            found.append(_stored(f"concentration/{one.name}", compute, workspace))
    return found + _of_the_wiener_filter(comparison, workspace)


def _of_the_wiener_filter(comparison: Comparison, workspace: Workspace) -> list[Concentration]:
    """That of the training set's best linear denoiser; none for images too large for a covariance matrix."""
    training = comparison.networks[0].training
    with contextlib.suppress(UserError):  # the page then says so
        compute = functools.partial(of_the_wiener_filter, training, comparison.sigmas)
        return [_stored(f"concentration/{WIENER}", compute, workspace)]
    return []


def _stored(cell: str, compute: Any, workspace: Workspace) -> Concentration:
    return Concentration(**workspace.computed(cell, lambda: dict(vars(compute()))))


def show_concentration(results: Results, found: Sequence[Concentration], images: int, section: str) -> None:
    """The curves, a sheet for every network, the table."""
    show_sides(results, found, images, section)
    show_heatmaps(results, found, section)


def show_sides(results: Results, found: Sequence[Concentration], images: int, section: str) -> None:
    """How far around a pixel each looks, over the noise level."""
    wiener = (
        "Dashed: the training set's Wiener filter, the best linear denoiser."
        if any(one.name == WIENER for one in found)
        else "The Wiener filter is left out: these images are too large for their covariance matrix."
    )
    results.add_chart(
        "concentration",
        "How far around a pixel the networks look",
        "Side of the square around an output pixel that holds a share of its sensitivity, averaged over output pixels"
        f" (bands: the middle half of them). Heatmaps are averages over {images} noisy training images; of a square that"
        f" goes past the border only what is inside counts. {wiener}",
        section,
        concentration_chart(found),
    )


def show_heatmaps(results: Results, found: Sequence[Concentration], section: str) -> None:
    """A sheet for every network, and all sides in a table."""
    for one in found:
        results.add_sheet(
            f"heatmaps-{key_of(one.name)}",
            f"Heatmaps of {one.name if one.name != WIENER else 'the Wiener filter'}",
            "Sensitivity of one output pixel (row, column) to every input pixel, noise falling from left to right; square root,"
            " each scaled to its own largest value.",
            section,
            heatmap_sheet(one),
            folded=one.name == WIENER,
        )
    results.add_table(
        "concentration",
        "Sides of the squares",
        "In pixels, averaged over output pixels; of squares that go past the border only the inside counts.",
        sides_table(found),
        formats={f"{share:.0%}": ".1f" for share in SHARES},
        section=section,
    )


def concentration_chart(found: Sequence[Concentration]) -> Figure:
    """Sides over σ, one panel a share, one line a network."""
    panels = []
    for share in SHARES:
        series = []
        for one in found:
            low, high = one.quartiles(share)
            series.append(charts.Series(one.name, one.sigmas, one.mean(share), low, high, dashed=one.name == WIENER))
        panels.append(charts.Panel(series, "side (pixels)", f"{share:.0%} of the sensitivity"))
    return charts.lines(panels, share_y=True)


def heatmap_sheet(one: Concentration, levels: int = 8) -> pictures.Sheet:
    """Heatmaps of a few pixels, noise falling from left to right, each scaled to its largest value, square root."""
    shown = sorted({int(k) for k in np.linspace(0, len(one.sigmas) - 1, levels).round()})
    maps = np.sqrt(one.examples[:, shown])
    peaks = maps.max((2, 3), keepdims=True)
    scaled = 2 * maps / np.where(peaks > 0, peaks, 1) - 1
    columns = [f"σ = {one.sigmas[k]:.2g}" for k in shown]
    return pictures.grid(scaled[:, :, None], row_labels=one.pixels, column_labels=columns)


def sides_table(found: Sequence[Concentration]) -> pd.DataFrame:
    """All sides."""
    rows = []
    for one in found:
        for level, sigma in enumerate(one.sigmas):
            row: dict[str, object] = {"heatmaps of": one.name, "σ": float(sigma)}
            rows.append(row | {f"{share:.0%}": float(one.mean(share)[level]) for share in SHARES})
    return pd.DataFrame(rows)


def describe_heatmaps(results: Results, images: int) -> None:
    """How heatmaps were measured and where they are."""
    results.methods["Heatmaps"] = (
        f"Exact derivatives by batched vector-Jacobian products, absolute values summed over channels, averaged over {images}"
        " noisy training images a level. They are kept in heatmaps/KEY/sigma=VALUE.npy in the cache of networks"
        " ($SCORESCOPE_CACHE, else ~/.cache/scorescope), one file a noise level, float32 (H, W, H, W), output pixel first;"
        " pspc-flex takes its masks from the same files, and StoredHeatmaps(folder) opens them."
    )
