"""Shrinkage: in which basis does a model shrink noisy images, and how much of each direction does it keep?

At a noisy image the symmetric part of its derivative has eigenvectors, the directions of its own basis, and eigenvalues, the
factors by which it shrinks along them (Kadkhodaie et al. 2024, figure 3). `probes.spectra` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.lenses.base import DERIVATIVE, Lens, lens
from scorescope.lenses.settings import LensSettings
from scorescope.lenses.subject import Subject, chosen
from scorescope.lenses.waves import (
    RANK,
    Found,
    claims,
    level_line,
    mean_by_rank,
    mean_of,
    over_images,
    rank_line,
    waves,
)
from scorescope.noise import log_spaced_sigmas
from scorescope.probes.intervals import mean_over_images
from scorescope.probes.spectra import HARMONIC, Spectrum, spectra
from scorescope.probes.spectrum_settings import SpectrumSettings
from scorescope.study import charts, palette, pictures
from scorescope.study.glances import small_chart
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

LOWEST, HIGHEST = 0.1, 1.0
SHOWN = (1, 2, 3, 5, 9, 17, 33, 64)
SIDE_ENOUGH, IMAGES_ENOUGH = 20, 2


@dataclass(frozen=True)
class ShrinkageFound:
    """Spectra at a few noisy images.

    Attributes:
        found: S lists of B spectra.
        settings: how much of each was measured.
        images: name of the set that the images are from.
    """

    found: list[list[Spectrum]]
    settings: SpectrumSettings
    images: str


@lens(
    "shrinkage",
    question="In which basis does it shrink noisy images, how much of each direction does it keep, and does the basis follow"
    " the image?",
    needs=(DERIVATIVE,),
)
class Shrinkage(Lens):
    """Eigenvalues, eigenvectors and harmonicity of the model's derivative."""

    def measure(self, subject: Subject, settings: LensSettings, workspace: Workspace) -> ShrinkageFound:
        """See `Lens.measure`."""
        images = subject.held_out or subject.first_training
        clean = chosen(images, settings.spectrum_images, settings.seed + 2).to(workspace.device)
        sigmas, how = levels(subject.first, settings.spectrum_levels), settings.spectrum
        found = stored_spectra("shrinkage", subject.first, clean, sigmas, how, settings.seed, workspace)
        return ShrinkageFound(found, how, images.name)

    def show(self, results: Results, measured: ShrinkageFound) -> None:
        """See `Lens.show`."""
        found, section = measured.found, self.title
        row = found[len(found) // 2]
        show_spectra(results, found, row, section)
        claims(results, row, _untested(row))
        results.methods |= spectrum_methods(measured.settings)
        sigmas = ", ".join(f"{one[0].sigma:.2g}" for one in found)
        results.methods["Shrinkage"] = f"At {len(row)} images of {measured.images}, σ = {sigmas}."
        if not all(one.converged for line in found for one in line):
            results.methods["Shrinkage"] += (
                f" Some eigenpairs had not converged after {measured.settings.most_products} products, and are approximate."
            )
        kept = over_images(row, lambda one: one.eigenvalues).value
        trace = float(np.mean([one.trace.value for one in row]))
        results.add_glance(
            section,
            f"{trace:.0f} of {row[0].dimension}",
            f"directions of a noisy image are kept at σ = {row[0].sigma:.2g}.",
            small_chart(
                [charts.Series("λ", np.arange(1, len(kept) + 1), kept, colour=palette.BLUE)], "rank of the direction"
            ),
        )


def show_spectra(results: Results, found: Found, row: Sequence[Spectrum], section: str) -> None:
    """All charts and pictures of spectra and their table; `row` is the level at which ranks are shown."""
    eigenvectors(results, row, section)
    eigenvalues(results, found, section)
    effective_dimension(results, found, section)
    coefficients(results, row, section)
    unexplained(results, row, section)
    waves(results, found, row, section)
    numbers(results, found, section)


def stored_spectra(
    cell: str,
    denoiser: Denoiser,
    clean: Tensor,
    sigmas: Sequence[float],
    settings: SpectrumSettings,
    seed: int,
    workspace: Workspace,
) -> list[list[Spectrum]]:
    """What `spectra` returns, as a cell of the run."""
    stored = workspace.computed(
        cell, lambda: [[one.stored() for one in row] for row in spectra(denoiser, clean, sigmas, settings, seed)]
    )
    return [[Spectrum.restored(one) for one in row] for row in stored]


def levels(denoiser: Denoiser, count: int) -> list[float]:
    """`count` noise levels from 0.1 to 1, increasing, or the part of that range which a network was trained on."""
    low, high = LOWEST, HIGHEST
    if isinstance(denoiser, NetworkDenoiser):
        low, high = max(low, denoiser.sigma_range[0]), min(high, denoiser.sigma_range[1])
    if not low < high:
        return [low]
    return [float(sigma) for sigma in np.sort(log_spaced_sigmas(count, low, high))]


def _untested(row: list[Spectrum]) -> str:
    side = min(row[0].pictures.shape[-2:])
    if side < SIDE_ENOUGH:
        return f"it takes images of {SIDE_ENOUGH}×{SIDE_ENOUGH} pixels to tell, these have {side}"
    return "" if len(row) >= IMAGES_ENOUGH else f"it takes {IMAGES_ENOUGH} images to tell, this is one"


def spectrum_methods(how: SpectrumSettings) -> dict[str, str]:
    """How spectra are measured, for the foot of a page."""
    differences = how.finite_differences
    return {
        "Jacobian": f"Exact, and decomposed in full, for images of up to {how.exact_up_to} values. For larger ones the leading"
        f" {how.eigenpairs} eigenpairs of (J + Jᵀ)/2 by block Lanczos, residuals at most {how.tolerance:g}; trace by Hutch++"
        f" with {how.products} products, asymmetry by {how.products // 2} random signs."
        + (f" Not differentiable ones: central differences of step {differences:g}." if differences else ""),
        "Coefficients": "Of brightness above black, x + 1, since a bias-free network maps black to black.",
        "Harmonicity": "One wave: the disc of one period per image side in the cosine transform that holds most energy."
        " Contours: where the structure tensor's root exceeds a third of its strongest. Control:"
        f" {how.rotations} uniformly random rotations of the leading {how.eigenpairs} eigenvectors.",
    }


def eigenvalues(results: Results, found: Found, section: str) -> None:
    """Decay of the shrinkage factors, one line a level."""
    series = []
    for row, colour in zip(found, palette.sequence(len(found)), strict=True):
        mean = over_images(row, lambda one: one.eigenvalues)
        series.append(rank_line(f"σ = {row[0].sigma:.2g}", mean, colour))
    exact = all(one.exact for row in found for one in row)
    results.add_chart(
        "eigenvalues",
        "How much of each direction is kept",
        f"Eigenvalues of the symmetric part of the Jacobian, sorted{'' if exact else ' (the leading ones)'}: shrinkage factors"
        f" of the denoiser in its own basis, which fall the sooner the more noise there is. {mean_of(found)}.",
        section,
        charts.lines(
            charts.Panel(series, "eigenvalue λ", y_range=(-0.2, 1.3), levels={0.0: "removed", 1.0: "kept"}), RANK
        ),
    )


def coefficients(results: Results, row: Sequence[Spectrum], section: str) -> None:
    """Shrinkage against the best one in that basis, and the coefficients of the clean image."""
    sizes = over_images(row, lambda one: np.abs(one.coefficients))
    oracle = over_images(row, lambda one: one.oracle)
    kept = over_images(row, lambda one: one.eigenvalues)
    sigma = row[0].sigma
    panels = [
        charts.Panel(
            [
                rank_line("eigenvalue λ", kept, palette.BLUE),
                rank_line("best in this basis", oracle, palette.ORANGE, dashed=True),
            ],
            "share kept",
            "Shrinkage",
            y_range=(-0.2, 1.3),
        ),
        charts.Panel(
            [rank_line("|⟨x, e⟩| of the clean image", sizes, palette.GREEN)],
            "magnitude",
            "Coefficients of the clean image",
            y_log=True,
            levels={sigma: "noise σ"},
        ),
    ]
    results.add_chart(
        "coefficients",
        "Shrinkage factors and coefficients",
        f"At σ = {sigma:.2g}: the factor by which each coefficient shrinks, beside what would be best if the clean image were"
        " known, x²/(x² + σ²); and the clean image's coefficients (brightness above black) in the same basis, which fall"
        f" together with the factors. {mean_of([row])}.",
        section,
        charts.lines(panels, RANK),
        folded=True,
    )


def unexplained(results: Results, row: Sequence[Spectrum], section: str) -> None:
    """What the leading k leave of the clean image's contrast and of the denoised image."""
    ranks = np.arange(len(row[0].contrast_left))
    series = [
        charts.Series("of the clean image's contrast (energy)", ranks[1:], mean_by_rank(row, "contrast_left")[1:]),
        charts.Series("of the denoised image (norm)", ranks[1:], mean_by_rank(row, "denoised_left")[1:], dashed=True),
    ]
    results.add_chart(
        "unexplained",
        "What the leading eigenvectors leave unexplained",
        f"At σ = {row[0].sigma:.2g}: share of the clean image's energy about its mean outside of the first k eigenvectors, and"
        " relative distance of the denoised image to the shrunk coefficients on them alone, which ends above zero where the"
        f" Jacobian is not symmetric or the denoiser not bias-free. {mean_of([row])}.",
        section,
        charts.lines(charts.Panel(series, "share left", y_range=(0.0, 1.0)), "number k of eigenvectors"),
        folded=True,
    )


def eigenvectors(results: Results, row: Sequence[Spectrum], section: str) -> None:
    """Eigenvectors as images, a row an image."""
    ranks = [rank for rank in SHOWN if rank <= min(one.kept for one in row)]
    tiles = [np.concatenate([one.pictures[:3], one.pictures[[2 + rank for rank in ranks]]]) for one in row]
    captions = [["", "", "", *(f"λ {one.eigenvalues[rank - 1]:.2f}" for rank in ranks)] for one in row]
    results.add_sheet(
        "eigenvectors",
        "Eigenvectors as images",
        f"Images with noise of σ = {row[0].sigma:.2g}, as they are denoised, and eigenvectors of the Jacobian there, by rank,"
        " with their eigenvalues (mid-grey is 0): the paper sees oscillations along contours and in flat regions.",
        section,
        pictures.grid(
            np.stack(tiles),
            row_labels=[f"image {place + 1}" for place in range(len(row))],
            column_labels=["clean", "noisy", "denoised", *(f"e{rank}" for rank in ranks)],
            captions=captions,
        ),
    )


def effective_dimension(results: Results, found: Found, section: str) -> None:
    """Trace and asymmetry over sigma."""
    sigmas = [row[0].sigma for row in found]
    trace = mean_over_images([[one.trace.value for one in row] for row in found])
    skew = mean_over_images([[one.asymmetry.value for one in row] for row in found])
    panels = [
        charts.Panel(
            [level_line(sigmas, "tr ∇D", trace, palette.BLUE)], "dimensions", "Effective dimension", y_range=(0.0, None)
        ),
        charts.Panel(
            [level_line(sigmas, "‖J − Jᵀ‖/‖J‖", skew, palette.ORANGE)],
            "relative size",
            "Asymmetry",
            y_range=(0.0, None),
        ),
    ]
    results.add_chart(
        "dimension",
        "How many directions are kept, and how symmetric the Jacobian is",
        f"Effective dimension: the trace of the Jacobian, of {found[0][0].dimension} for a denoiser that keeps everything."
        f" Asymmetry: 0 for a posterior mean, √2 for a random matrix. {mean_of(found)}, 95 % intervals over images.",
        section,
        charts.lines(panels),
    )


def numbers(results: Results, found: Found, section: str) -> None:
    """All of it in a table, a row a level."""
    rows = []
    for row in found:
        line: dict[str, object] = {
            "σ": row[0].sigma,
            "effective dimension": float(np.mean([one.trace.value for one in row])),
            "asymmetry": float(np.mean([one.asymmetry.value for one in row])),
            "lowest λ": float(np.mean([one.lowest for one in row])),
            "λ below 0": float(np.mean([one.negative for one in row])) if row[0].exact else math.nan,
        }
        for name in HARMONIC:
            line[name] = float(np.mean([one.harmonic[name][0] for one in row]))
            line[f"{name}, rotated"] = float(np.mean([one.harmonic[name][1].mean() for one in row]))
        rows.append(line)
    errors = [one.trace.error for row in found for one in row]
    results.add_table(
        "spectra",
        "The Jacobian over noise levels",
        f"Means over {len(found[0])} images. Largest standard error of a trace {max(errors):.2g}. Empty: only the leading"
        " eigenpairs of these images were computed. λ below 0 counts those below −0.0001.",
        pd.DataFrame(rows),
        section=section,
    )


def arrays(results: Results, found: Found) -> None:
    """Everything that was measured rank by rank, as arrays (levels, images, ranks), and the eigenvectors."""
    names = ("eigenvalues", "coefficients", "oracle", "contrast_left", "denoised_left")
    for name in (*names, "frequency", "concentration", "on_contours", "along", "pictures"):
        results.arrays[name] = np.stack([[getattr(one, name) for one in row] for row in found])
    results.arrays["sigma"] = np.array([row[0].sigma for row in found])
    for name, control in (
        (name, np.stack([[one.harmonic[name][1] for one in row] for row in found])) for name in HARMONIC
    ):
        results.arrays[f"{name}_rotated"] = control
