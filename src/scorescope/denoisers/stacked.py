"""A mixture of training-free denoisers that denoises unseen images best: no network is asked.

At every noise level, and in each of R frequency bands, ``D(y, σ) = Σ_k a_k(σ) D_k(y, σ)`` with the coefficients that minimize
``‖x − Σ_k a_k D_k(x + σ n)‖²`` over held-out images x (stacked generalization, Wolpert 1992; linear stacking, Breiman 1996).
The members each explain something; their best mixture says how far they go together.

Coefficients are fitted at a list of levels, each when it is first needed, and interpolated in log σ. A ridge of a
millionth of the members' power keeps them small where members agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers.base import Denoiser, float64_device
from scorescope.denoisers.registry import DenoiserEntry, denoisers
from scorescope.foundation import UserError
from scorescope.noise import add_noise, edm_sigmas

RIDGE = 1e-6
HELD_OUT_SHARE = 0.1
MEMBERS = ("optimal", "gaussian", "pspc-square", "local-score", "closed-form", "wavelet")


class StackedDenoiser(Denoiser):
    """The linear combination of denoisers with the least error on held-out images.

    Args:
        members: K denoisers of one image shape.
        held_out: images that none of them was made from.
        bands: R, how many frequency bands have coefficients of their own: band r > 0 is the r-th octave below the
            highest frequency, the last one what remains down to the mean.
        count: how many held-out images to fit on; fewer where there are fewer.
        levels: noise levels at which coefficients are fitted; outside them the nearest level's are used.
        seed: of the noise that is added to the held-out images.

    Raises:
        UserError: no members, members or held-out images of different shapes, bands or count below 1, levels that are
            not positive and finite.
    """

    name = "stacked"
    differentiable = False

    def __init__(
        self,
        members: Sequence[Denoiser],
        held_out: ImageSet,
        *,
        bands: int = 1,
        count: int = 128,
        levels: Sequence[float] | None = None,
        seed: int = 0,
    ) -> None:
        if not members:
            raise UserError("a mixture of denoisers needs at least one")
        super().__init__(members[0].image_shape)
        shapes = {member.image_shape for member in members} | {held_out.image_shape}
        if len(shapes) > 1:
            raise UserError(f"members and held-out images must have one shape, found {sorted(shapes)}")
        if bands < 1 or count < 1:
            raise UserError(f"bands and count are at least 1, found {bands} and {count}")
        chosen = sorted(float(level) for level in (edm_sigmas(18).tolist() if levels is None else levels))
        if not chosen or not all(math.isfinite(level) and level > 0 for level in chosen):
            raise UserError(f"levels are positive and finite, found {chosen}")
        self.members = torch.nn.ModuleList(members)
        self.levels = chosen
        self.seed = seed
        self.clean = held_out.tensor(range(min(count, held_out.stored)))
        self.register_buffer("masks", _octaves(self.image_shape[1], self.image_shape[2], bands))
        self._fitted: dict[int, Tensor] = {}

    masks: Tensor

    def coefficients(self, sigma: float) -> Tensor:
        """``a`` at a noise level, float64 (R, K), lowest band last."""
        place = sum(level <= sigma for level in self.levels)
        if place == 0:
            return self._at(0)
        if place == len(self.levels):
            return self._at(place - 1)
        low, high = self.levels[place - 1], self.levels[place]
        share = math.log(sigma / low) / math.log(high / low)
        return (1 - share) * self._at(place - 1) + share * self._at(place)

    def denoise(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """See `Denoiser.denoise`; mixed in float64, where the images are."""
        place = float64_device(noisy.device)
        if self.masks.device != place:
            self.to(place)
        spectra = self._spectra(self._outputs(noisy, sigma).to(place))  # (K, B, C, H, F)
        mixing = {level: self.coefficients(level) for level in set(sigma.tolist())}
        weights = torch.stack([mixing[level] for level in sigma.tolist()]).to(place)  # (B, R, K)
        filters = torch.einsum("brk,rhf->kbhf", weights, self.masks.double())
        mixed = (filters[:, :, None] * spectra).sum(0)
        denoised: Tensor = torch.fft.irfft2(mixed, s=noisy.shape[-2:], norm="ortho")
        return denoised.to(noisy.dtype)

    def _at(self, place: int) -> Tensor:
        if place not in self._fitted:
            self._fitted[place] = self._fit(self.levels[place], self.seed + place)
        return self._fitted[place]

    def _fit(self, sigma: float, seed: int) -> Tensor:
        """Least squares in every band, by the normal equations of its spectra (Parseval)."""
        clean = self.clean.to(self.masks.device)
        noisy = add_noise(clean, sigma, torch.Generator().manual_seed(seed))
        outputs = self._spectra(self._outputs(noisy, torch.full((len(clean),), sigma, device=clean.device)))
        target, members = self._spectra(clean), len(self.members)
        coefficients = []
        for mask in self.masks.double() * _multiplicity(*clean.shape[-2:]).to(clean.device):
            products = torch.einsum("kbchf,lbchf,hf->kl", outputs.conj(), outputs, mask.to(outputs.dtype)).real
            aims = torch.einsum("kbchf,bchf,hf->k", outputs.conj(), target, mask.to(outputs.dtype)).real
            ridge = RIDGE * products.diagonal().mean().clamp(min=1e-300) * torch.eye(members, device=products.device)
            coefficients.append(torch.linalg.solve(products + ridge, aims))
        return torch.stack(coefficients).cpu()

    def _outputs(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([member(noisy, sigma) for member in self.members])  # (K, B, C, H, W)

    def _spectra(self, images: Tensor) -> Tensor:
        spectra: Tensor = torch.fft.rfft2(images.double(), norm="ortho")
        return spectra


def stacked_of(images: ImageSet) -> StackedDenoiser:
    """The mixture of the quick training-free denoisers; a tenth of the images is held out to fit it.

    Raises UserError if there are fewer than two images.
    """
    if images.stored < 2:
        raise UserError(
            f"{images.name}: a mixture needs at least 2 images, one of them held out, found {images.stored}"
        )
    kept = images.stored - max(1, round(HELD_OUT_SHARE * images.stored))
    order = torch.randperm(images.stored, generator=torch.Generator().manual_seed(0)).numpy()
    training = images.subset(sorted(order[:kept].tolist()))
    return StackedDenoiser([denoisers[name].build(training) for name in MEMBERS], images.subset(order[kept:]))


denoisers.add(
    StackedDenoiser.name,
    DenoiserEntry(
        stacked_of,
        "the best mixture of the others",
        "linear stacking: Breiman, Machine Learning 24 (1996)",
        f"training images, of which {HELD_OUT_SHARE:.0%} are held out",
        costly=True,
    ),
)


def _octaves(height: int, width: int, bands: int) -> Tensor:
    """Masks over the half spectrum, (R, H, W//2 + 1), float32, that sum to one everywhere; highest octave first."""
    rows = torch.fft.fftfreq(height).abs()[:, None]
    columns = torch.fft.rfftfreq(width)[None]
    frequency = torch.maximum(rows, columns)  # 0 to 1/2 cycles a pixel
    masks, upper = [], math.inf
    for band in range(bands - 1):
        lower = 0.25 / 2**band
        masks.append((frequency > lower) & (frequency <= upper))
        upper = lower
    masks.append(frequency <= upper)
    return torch.stack(masks).float()


def _multiplicity(height: int, width: int) -> Tensor:
    """How many coefficients of the full spectrum each one of the half spectrum stands for, (1, W//2 + 1)."""
    count = torch.full((1, width // 2 + 1), 2.0, dtype=torch.float64)
    count[:, 0] = 1
    if width % 2 == 0:
        count[:, -1] = 1
    return count
