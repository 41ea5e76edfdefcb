"""The commands on single networks and denoisers: sample, denoise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scorescope.app.models import NETWORK, ModelChoice, open_denoiser, open_network, word_for
from scorescope.app.plugins import load_plugins
from scorescope.data import load_images
from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation import UserError, new_file
from scorescope.foundation.processes import by_first
from scorescope.lenses.measurements import MeasurementConfig, chosen, draw_samples, mean_intensity
from scorescope.noise import add_noise, check_sigmas
from scorescope.posterior.processes import check_same_images
from scorescope.probes.errors import psnr
from scorescope.study.pictures import grid, strip
from scorescope.study.workspace import available_device


def sample(
    choice: str | ModelChoice,
    data: str | None,
    out: Path,
    count: int,
    seed: int,
    flow: Mapping[str, Any],
    ascent: Mapping[str, Any],
    device: str,
    plugins: Sequence[Path],
) -> str:
    """Draw samples of a network, or of a denoiser of a data set, into a PNG file.

    Settings that are None keep their defaults; `flow` is for denoisers that are told sigma, `ascent` for those that are not.
    """
    load_plugins(plugins)
    flow, ascent = ({name: value for name, value in given.items() if value is not None} for given in (flow, ascent))
    images = load_images(data).train if data is not None else None
    word, place = word_for(choice), available_device(device)
    denoiser: Denoiser
    if images is not None:
        check_same_images(images)
        denoiser, origin = open_denoiser(choice, images, place)
    elif isinstance(choice, ModelChoice):
        denoiser, origin = open_network(choice, place)
    else:
        raise UserError(f"{choice} is made of training images: say which with --data")
    blind = isinstance(denoiser, NetworkDenoiser) and denoiser.blind
    if blind and flow:
        raise UserError(f"{word} is blind and climbs until its noise is gone: leave out --steps")
    if ascent and not blind:
        raise UserError(
            f"{word} is told the noise level and needs no ascent: leave out --h, --beta and --constant-step"
        )
    config = MeasurementConfig(seed=seed, **flow, **ascent)
    centre = mean_intensity(images, seed) if images is not None else 0.0
    drawn = draw_samples(denoiser, count, centre, config)
    write_once(out, strip(drawn.images.cpu().numpy()).png())
    return f"{origin}\n{count} samples of {word}, {drawn.converged.mean():.0%} converged: {out}"


def chosen_denoiser(
    denoiser: str | None, model: Path | None, arch: str | None, arch_arg: Sequence[str] | None, class_label: int | None
) -> str | ModelChoice:
    """A registered name or a network, from the options that name one of them.

    Raises UserError if neither or both are named, or if something is said of a network where there is none.
    """
    if (denoiser is None) == (model is None):
        raise UserError("give one of --denoiser NAME (see scorescope list denoisers) and --model PATH")
    if denoiser is not None and denoiser.startswith(NETWORK):
        model, denoiser = Path(denoiser.removeprefix(NETWORK)), None
    if model is not None:
        return ModelChoice.of(model, arch, arch_arg, class_label)
    if arch is not None or arch_arg or class_label is not None:
        raise UserError(
            f"--arch, --arch-arg and --class-label are about a network, and {denoiser} is none: leave them out"
        )
    return str(denoiser)


def denoise(
    choice: str | ModelChoice,
    data: str,
    sigma: float,
    out: Path,
    count: int,
    seed: int,
    device: str,
    plugins: Sequence[Path],
) -> str:
    """Noise and denoise images of a data set, and write them side by side into a PNG file."""
    check_sigmas([sigma])
    load_plugins(plugins)
    images = load_images(data)
    check_same_images(images.train)
    denoiser, origin = open_denoiser(choice, images.train, available_device(device))
    word = word_for(choice)
    clean = chosen(images.test or images.train, count, seed)
    noisy = add_noise(clean, sigma, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        denoised = denoiser(noisy, sigma)
    error = psnr((denoised.cpu() - clean).square().mean())
    rows = np.stack([clean.numpy(), noisy.numpy(), denoised.cpu().numpy()])
    write_once(out, grid(rows, row_labels=["clean", f"noisy, σ = {sigma:g}", word]).png())
    return f"{origin}\n{word} at σ = {sigma:g}: PSNR {error:.2f} dB over {count} images: {out}"


def write_once(path: Path, content: bytes) -> None:
    """Write a file, once if several processes computed its content together."""

    def write() -> None:
        with new_file(path) as temporary:
            temporary.write_bytes(content)

    by_first(write)
