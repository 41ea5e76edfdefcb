"""What only a network can tell: errors on training and unseen images, noise seen in clean ones, whether it models them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scorescope.data import ImageSet
from scorescope.denoisers import Denoiser, GaussianDenoiser
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.noise import log_spaced_sigmas
from scorescope.probes.audit.membership import Membership, error_scores, gap, membership, noise_seen
from scorescope.probes.audit.modelling import Modelling, mean_errors, share_below, worth_denoising
from scorescope.probes.errors import denoising_psnr, forward_inputs, squared_error
from scorescope.probes.proportions import Interval

LOWEST, HIGHEST = 0.03, 20.0
LOW_NOISE = 2
LARGEST_COVARIANCE = 4096
AT_ONCE = 128


@dataclass(frozen=True)
class Denoising:
    """A network on training and on unseen images.

    Attributes:
        sigmas: noise levels, (S,).
        gap: PSNR of training minus unseen images, mean over levels, dB; None without unseen images.
        by_error: membership by denoising error; None without unseen images.
        by_noise: membership by the noise seen in clean images.
        auc: of the denoising error at every level, (S,) value, low and high.
        training_psnr: mean over training images, (S,) dB.
        unseen_psnr: mean over unseen images, (S,); empty without.
        below_mean: see `Modelling`.
        below_gaussian: see `Modelling`.
    """

    sigmas: npt.NDArray[np.float64]
    gap: Interval | None
    by_error: Membership | None
    by_noise: Membership | None
    auc: tuple[Interval, ...]
    training_psnr: npt.NDArray[np.float64]
    unseen_psnr: npt.NDArray[np.float64]
    below_mean: float
    below_gaussian: float


def denoised(
    network: Denoiser,
    sigma_range: tuple[float, float],
    training: ImageSet,
    unseen: ImageSet | None,
    settings: AuditSettings,
    gaussian_of: ImageSet | None = None,
) -> dict[str, Any]:
    """PSNR of every image at every level, what the mean image and the Gaussian denoiser have, and the noise seen.

    Args:
        network: told sigma or blind.
        sigma_range: levels that it was trained on.
        training: T, each image once.
        unseen: images that it has not seen; None if there are none.
        settings: how many images and levels.
        gaussian_of: images of which the mean and covariance are taken, apart from `unseen`; `training` by default.
    """
    low, high = max(LOWEST, sigma_range[0]), min(HIGHEST, sigma_range[1])
    sigmas = [float(sigma) for sigma in log_spaced_sigmas(settings.levels, low, high)]
    fitted = gaussian_of or training
    small = math.prod(fitted.image_shape) <= LARGEST_COVARIANCE
    gaussian = GaussianDenoiser(fitted) if small else None
    mean = gaussian.mean.reshape(fitted.image_shape) if gaussian is not None else _mean(fitted)
    arrays: dict[str, Any] = {"sigma": np.array(sigmas)}
    for name, images in (("training", training), ("unseen", unseen)):
        if images is None:
            continue
        random = np.random.default_rng(settings.seed + 2)
        clean = images.tensor(np.sort(random.permutation(images.stored)[: settings.denoised]))
        psnr = []
        for batch in torch.split(clean, AT_ONCE):
            psnr.append(denoising_psnr(network, batch, sigmas, settings.seed))
        arrays[f"{name}/psnr"] = np.concatenate(psnr, 1)
        arrays[f"{name}/noise"] = noise_seen(network, clean, sigmas[-LOW_NOISE:])
        constant = mean_errors(clean, mean.float(), len(sigmas))
        arrays[f"{name}/mean"] = constant
        arrays[f"{name}/gaussian"] = constant
        if gaussian is not None:
            rows = []
            with torch.no_grad():
                for noisy, sigma in zip(forward_inputs(clean, sigmas, settings.seed), sigmas, strict=True):
                    rows.append(squared_error(gaussian(noisy, sigma), clean).numpy())
            arrays[f"{name}/gaussian"] = np.stack(rows)
    return arrays


def denoising(arrays: Mapping[str, Any]) -> Denoising:
    """The findings from the errors."""
    seen: npt.NDArray[np.float64] = arrays["training/psnr"]
    unseen: npt.NDArray[np.float64] = arrays.get("unseen/psnr", np.zeros((len(seen), 0)))
    below_mean, below_gaussian = 0.0, 0.0
    for name in ("training", "unseen"):
        if f"{name}/psnr" not in arrays:
            continue
        errors = 4 * 10 ** (-np.asarray(arrays[f"{name}/psnr"], np.float64) / 10)
        mean, gaussian = arrays[f"{name}/mean"], arrays[f"{name}/gaussian"]
        worth = worth_denoising(gaussian, mean)
        pair = share_below(errors[worth], mean[worth]), share_below(errors[worth], gaussian[worth])
        if pair[::-1] > (below_gaussian, below_mean):
            below_mean, below_gaussian = pair
    several = seen.shape[1] > 1 and unseen.shape[1] > 1
    return Denoising(
        sigmas=arrays["sigma"],
        gap=gap(error_scores(seen), error_scores(unseen)) if several else None,
        by_error=membership(error_scores(seen), error_scores(unseen)) if several else None,
        by_noise=membership(arrays["training/noise"], arrays["unseen/noise"]) if several else None,
        auc=tuple(membership(one, two).auc for one, two in zip(seen, unseen, strict=True)) if several else (),
        training_psnr=seen.mean(1),
        unseen_psnr=unseen.mean(1) if unseen.shape[1] else np.zeros(0),
        below_mean=below_mean,
        below_gaussian=below_gaussian,
    )


def modelled(found: Denoising | None, nearer: Interval | None) -> Modelling:
    """Whether images are modelled, from what was looked at."""
    if found is None:
        return Modelling(None, None, nearer)
    return Modelling(found.below_mean, found.below_gaussian, nearer)


def _mean(images: ImageSet) -> torch.Tensor:
    total = np.zeros(images.image_shape, np.float64)
    for start in range(0, images.stored, 4096):
        total += images.read(start, min(start + 4096, images.stored)).sum(0, dtype=np.float64)
    return torch.from_numpy(total / images.stored / 127.5 - 1)
