"""What a denoiser keeps of noisy images, direction by direction: eigenpairs of its Jacobian, measured on any denoiser.

At a noisy image ``y = x + σ n`` the symmetric part of ``∇D(y)`` has eigenvectors ``e_k`` and eigenvalues ``λ_k``, the shrinkage
factors. A bias-free network is ``D(y) = ∇D(y) y`` on images whose black is zero, so images are taken as brightness above
black here, ``x + 1``. Of them there are

- the coefficients ``⟨x, e_k⟩``, and what the best shrinkage in that basis would keep, ``⟨x, e_k⟩² / (⟨x, e_k⟩² + σ²)``;
- what the leading k leave unexplained, of the clean image's contrast and of the denoised image;
- effective dimension ``tr ∇D``, asymmetry, negative eigenvalues; harmonicity, against random rotations.

Small images are decomposed in full; of larger ones the leading eigenpairs are found from products, and trace and asymmetry
are estimated, with errors.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation import track
from scorescope.probes.asymmetry import asymmetry, estimated_asymmetry, negative_part
from scorescope.probes.contours import contours_of
from scorescope.probes.eigenpairs import Eigenpairs, all_eigenpairs, leading_eigenpairs, oracle_shrinkage
from scorescope.probes.errors import forward_inputs
from scorescope.probes.harmonicity import against_rotations, concentration_of_rotations, harmonicity
from scorescope.probes.jacobian import DifferenceJacobian, Jacobian, jacobian_at
from scorescope.probes.linear_unet import LinearUNet, is_linear_unet
from scorescope.probes.linearization import Linearization, MatrixJacobian
from scorescope.probes.spectrum_settings import SpectrumSettings
from scorescope.probes.together import JacobianAmongOthers, JacobiansTogether
from scorescope.probes.trace import RandomEstimate, hutch_plus_plus, trace_of

Floats = npt.NDArray[np.float64]
# Images whose products a device makes in one batch, and bytes that the bases of their eigenvectors may take.
_TOGETHER, _BASES_BYTES = 8, 4 * 2**30
HARMONIC = ("concentration", "specialization", "along")


@dataclass(frozen=True)
class Spectrum:
    """What was measured at one noisy image.

    Attributes:
        sigma: its noise level.
        exact: whether the whole Jacobian was decomposed.
        converged: whether the eigenpairs have the residuals that were asked for.
        eigenvalues: λ_k, decreasing: all (d,) if exact, else those of the kept eigenvectors.
        coefficients: ``⟨x, e_k⟩`` of the clean image, brightness above black, (K,) or, if exact, (d,).
        oracle: what the best shrinkage in that basis would keep of each.
        contrast_left: share of the clean image's energy about its mean that the leading k leave, k = 0, 1, …
        denoised_left: ``‖D(y) − Σ_{j≤k} λ_j ⟨y, e_j⟩ e_j‖ / ‖D(y)‖``, k = 0, 1, …
        trace: effective dimension.
        asymmetry: ``‖J − Jᵀ‖ / ‖J‖``.
        negative: how many eigenvalues are below −1e-4; −1 where that is not known.
        lowest: the lowest eigenvalue; NaN where that is not known.
        frequency, concentration, on_contours, along: of the kept eigenvectors, see `Harmonicity`, (K,).
        harmonic: names of `HARMONIC` -> (of the eigenvectors, of each rotation (R,)).
        band: between which concentrations 95 % of the vectors of rotations lie.
        contour_area: share of the pixels that are on contours.
        pictures: clean, noisy and denoised image and the kept eigenvectors, (3 + K, C, H, W) float32.
    """

    sigma: float
    exact: bool
    converged: bool
    eigenvalues: Floats
    coefficients: Floats
    oracle: Floats
    contrast_left: Floats
    denoised_left: Floats
    trace: RandomEstimate
    asymmetry: RandomEstimate
    negative: int
    lowest: float
    frequency: Floats
    concentration: Floats
    on_contours: Floats
    along: Floats
    harmonic: Mapping[str, tuple[float, Floats]]
    band: tuple[float, float]
    contour_area: float
    pictures: npt.NDArray[np.float32]

    @property
    def dimension(self) -> int:
        """d."""
        return int(self.pictures[0].size)

    @property
    def kept(self) -> int:
        """K."""
        return len(self.frequency)

    def stored(self) -> dict[str, Any]:
        """As the workspace keeps it."""
        plain = {
            name: value for name, value in vars(self).items() if name not in ("trace", "asymmetry", "harmonic", "band")
        }
        for name in ("trace", "asymmetry"):
            one: RandomEstimate = getattr(self, name)
            plain[name] = [one.value, one.error, one.draws]
        plain["harmonic"] = {
            name: {"value": value, "control": control} for name, (value, control) in self.harmonic.items()
        }
        return plain | {"band": list(self.band)}

    @classmethod
    def restored(cls, stored: Mapping[str, Any]) -> Spectrum:
        """What `stored` gave."""
        values = dict(stored)
        for name in ("trace", "asymmetry"):
            value, error, draws = values[name]
            values[name] = RandomEstimate(value, error, draws)
        values["harmonic"] = {name: (one["value"], one["control"]) for name, one in values["harmonic"].items()}
        return cls(**values | {"band": tuple(values["band"])})


def spectra(
    denoiser: Denoiser,
    clean: Tensor,
    sigmas: Sequence[float],
    settings: SpectrumSettings,
    seed: int,
    together: int | None = None,
) -> list[list[Spectrum]]:
    """Spectra at every level of each image: S lists of B.

    Args:
        denoiser: any; one that is not differentiable needs ``settings.finite_differences``.
        clean: (B, C, H, W).
        sigmas: S levels.
        settings: how much is measured.
        seed: of noise, starts, signs and rotations.
        together: at how many images products are made in one batch, where that can be; by default a few on a device, where a
            batch takes little longer than one image, and one on a processor.

    Raises:
        UserError: a denoiser that is not differentiable, without a step for finite differences.
    """
    noisy = forward_inputs(clean, sigmas, seed)
    cases = [(level, place) for level in range(len(sigmas)) for place in range(len(clean))]
    most = _at_a_time(denoiser, noisy, settings, together)
    found: list[Spectrum] = []
    for start in track(range(0, len(cases), most), "eigenvectors of Jacobians"):
        some = cases[start : start + most]
        asked = [(clean[place], noisy[level][place], sigmas[level]) for level, place in some]
        if len(some) == 1:
            found.append(spectrum_at(denoiser, *asked[0], settings, seed))
            continue
        jacobians = JacobiansTogether(
            denoiser, torch.stack([each for _, each, _ in asked]), [each for *_, each in asked]
        )
        found += jacobians.each(functools.partial(_spectrum_of, asked, settings, seed))
    return [found[level * len(clean) : (level + 1) * len(clean)] for level in range(len(sigmas))]


def _spectrum_of(
    asked: Sequence[tuple[Tensor, Tensor, float]],
    settings: SpectrumSettings,
    seed: int,
    number: int,
    jacobian: JacobianAmongOthers,
) -> Spectrum:
    clean, noisy, sigma = asked[number]
    return _spectrum(jacobian, clean, noisy, sigma, settings, seed)


def _at_a_time(denoiser: Denoiser, noisy: Sequence[Tensor], settings: SpectrumSettings, together: int | None) -> int:
    """At how many images products are made in one batch: one, but for networks that are differentiated in copies."""
    dimension, device = noisy[0][0].numel(), noisy[0].device
    alone = dimension <= settings.exact_up_to or not isinstance(denoiser, NetworkDenoiser) or is_linear_unet(denoiser)
    if alone or (together is None and device.type != "cuda"):
        return 1
    bases = 3 * 8 * dimension * min(settings.most_products or dimension, dimension)
    return max(1, min(together or _TOGETHER, _BASES_BYTES // bases))


def spectrum_at(
    denoiser: Denoiser, clean: Tensor, noisy: Tensor, sigma: float, settings: SpectrumSettings, seed: int
) -> Spectrum:
    """The spectrum at one noisy image, (C, H, W); see `spectra`."""
    jacobian = jacobian_at(denoiser, noisy, sigma, finite_differences=settings.finite_differences)
    return _spectrum(jacobian, clean, noisy, sigma, settings, seed)


def _spectrum(
    jacobian: Jacobian | LinearUNet | DifferenceJacobian | JacobianAmongOthers,
    clean: Tensor,
    noisy: Tensor,
    sigma: float,
    settings: SpectrumSettings,
    seed: int,
) -> Spectrum:
    generator = torch.Generator().manual_seed(seed)
    exact = jacobian.dimension <= settings.exact_up_to or isinstance(jacobian, DifferenceJacobian)
    held: Linearization = MatrixJacobian(jacobian.matrix(), jacobian.image_shape) if exact else jacobian
    count = min(settings.eigenpairs, jacobian.dimension)
    if exact:
        pairs = all_eigenpairs(held)
        matrix = held.matrix()
        trace, skew = trace_of(matrix), RandomEstimate(asymmetry(matrix), 0.0, len(matrix))
        below = negative_part(pairs.values)
        negative, lowest = below.count, below.lowest
    else:
        most = settings.most_products and max(settings.most_products, count)
        pairs = leading_eigenpairs(held, count, generator, tolerance=settings.tolerance, most_products=most)
        trace = hutch_plus_plus(held, settings.products, generator)
        skew = estimated_asymmetry(held, settings.products // 2, generator)
        negative, lowest = -1, float("nan")
    clean, noisy, denoised = (image.detach().cpu().double() for image in (clean, noisy, jacobian.denoised))
    coefficients = pairs.coefficients(clean + 1)
    vectors = pairs.vectors[:count].numpy()
    contours, rng = contours_of(clean.numpy()), np.random.default_rng(seed)
    waves = harmonicity(vectors, contours)
    compared = against_rotations(vectors, contours, rng, settings.rotations)
    band = concentration_of_rotations(vectors, rng, max(2, settings.rotations // 5))
    pictures = [*(image.numpy() for image in (clean, noisy, denoised)), *as_pictures(vectors)]
    return Spectrum(
        sigma=float(sigma),
        exact=exact,
        converged=pairs.converged or exact,
        eigenvalues=pairs.values.numpy(),
        coefficients=coefficients.numpy(),
        oracle=oracle_shrinkage(coefficients, sigma).numpy(),
        contrast_left=_contrast_left(pairs, clean),
        denoised_left=_denoised_left(pairs, noisy + 1, denoised + 1),
        trace=trace,
        asymmetry=skew,
        negative=negative,
        lowest=lowest,
        frequency=waves.frequency,
        concentration=waves.concentration,
        on_contours=waves.on_contours,
        along=waves.along,
        harmonic={name: (one.value, one.control) for name, one in compared.items()},
        band=(float(band[0]), float(band[1])),
        contour_area=contours.area,
        pictures=np.stack(pictures).astype(np.float32),
    )


def as_pictures(vectors: Floats) -> Floats:
    """Vectors (K, C, H, W) as images: mid-grey is 0, the entry of largest magnitude is white or black."""
    return np.asarray(vectors / np.abs(vectors).max((1, 2, 3), keepdims=True))


def _contrast_left(pairs: Eigenpairs, clean: Tensor) -> Floats:
    contrast = clean - clean.mean()
    energy = float(contrast.square().sum())
    if not energy:
        return np.zeros(len(pairs.values) + 1)
    held = np.concatenate([[0.0], pairs.coefficients(contrast).square().cumsum(0).numpy()])
    return np.asarray(np.maximum(1 - held / energy, 0.0))


def _denoised_left(pairs: Eigenpairs, noisy: Tensor, denoised: Tensor) -> Floats:
    """From ``‖D − P_k‖² = ‖D‖² − 2 Σ λ_j ⟨y,e_j⟩ ⟨D,e_j⟩ + Σ (λ_j ⟨y,e_j⟩)²``, the vectors being orthonormal."""
    shrunk = pairs.values * pairs.coefficients(noisy)
    energy = float(denoised.square().sum())
    if not energy:
        return np.zeros(len(pairs.values) + 1)
    gained = (2 * shrunk * pairs.coefficients(denoised) - shrunk.square()).cumsum(0).numpy()
    left = 1 - np.concatenate([[0.0], gained]) / energy
    return np.asarray(np.sqrt(np.maximum(left, 0.0)))
