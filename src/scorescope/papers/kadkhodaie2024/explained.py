"""What `explain` says of shrinkage: the basis in which a user's model shrinks a few noisy images, and how much it keeps."""

from __future__ import annotations

import numpy as np

from scorescope.data import ImageSet
from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.lenses.measurements import chosen
from scorescope.noise import log_spaced_sigmas
from scorescope.papers.kadkhodaie2024 import spectra_page as page
from scorescope.papers.kadkhodaie2024.fig3 import spectrum_methods
from scorescope.papers.kadkhodaie2024.spectra import Spectrum, SpectrumSettings, spectra
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

IMAGES, LEVELS, LOWEST, HIGHEST = 3, 4, 0.1, 1.0
# Images of more values than this are decomposed from products, so many of them at most, or a large network takes too long.
SETTINGS = SpectrumSettings(
    eigenpairs=32, exact_up_to=1024, tolerance=1e-2, most_products=160, products=30, rotations=30
)


def add_shrinkage(
    results: Results, denoiser: Denoiser, images: ImageSet, workspace: Workspace, *, seed: int = 0
) -> None:
    """Measure spectra of a denoiser at a few noisy images, and add them to a page, with the claims of figure 3.

    It adds eigenvalues, shrinkage against the best in that basis, eigenvectors as images, effective dimension and asymmetry
    over σ, and the harmonicity numbers. What it measures is a cell of the run.

    Args:
        results: of the page.
        denoiser: one that is not differentiable gets a sentence that says so instead.
        images: what the noisy images are made of, best such that the model was not trained on.
        workspace: of the run.
        seed: of the choice of images, noise, starts, signs and rotations.
    """
    if not denoiser.differentiable:
        results.methods["Shrinkage"] = (
            f"Not measured: {denoiser.name} is not differentiable; the study kadkhodaie2024/fig3 takes finite differences of a"
            " step that you choose (spectrum.finite_differences)."
        )
        return
    clean = chosen(images, IMAGES, seed + 2).to(workspace.device)
    sigmas = levels(denoiser)
    stored = workspace.computed(
        "shrinkage",
        lambda: [[one.stored() for one in row] for row in spectra(denoiser, clean, sigmas, SETTINGS, seed)],
    )
    found = [[Spectrum.restored(one) for one in row] for row in stored]
    row = found[len(found) // 2]
    page.eigenvalues(results, found)
    page.coefficients(results, row)
    page.eigenvectors(results, row)
    page.effective_dimension(results, found)
    page.waves(results, found, row)
    page.numbers(results, found)
    page.claims(results, row, _untested(row))
    results.methods |= spectrum_methods(SETTINGS)
    results.methods["Shrinkage"] = f"At {IMAGES} images of {images.name}, σ = {', '.join(f'{s:.2g}' for s in sigmas)}."
    if not all(one.converged for line in found for one in line):
        largest = SETTINGS.most_products
        results.methods["Shrinkage"] += (
            f" Some eigenpairs had not converged after {largest} products, and are approximate."
        )


def levels(denoiser: Denoiser) -> list[float]:
    """Noise levels from 0.1 to 1, increasing, or the part of that range which a network was trained on."""
    low, high = LOWEST, HIGHEST
    if isinstance(denoiser, NetworkDenoiser):
        low, high = max(low, denoiser.sigma_range[0]), min(high, denoiser.sigma_range[1])
    if not low < high:
        return [low]
    return [float(sigma) for sigma in np.sort(log_spaced_sigmas(LEVELS, low, high))]


def _untested(row: list[Spectrum]) -> str:
    side = min(row[0].pictures.shape[-2:])
    return "" if side >= 20 else f"it takes images of 20×20 pixels to tell, these have {side}"
