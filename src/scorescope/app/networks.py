"""The commands on single networks and denoisers: sample, denoise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.app.choices import ModelChoice, word_for
from scorescope.app.models import open_denoiser, open_network
from scorescope.app.output import PictureFile, batch_size, batches, shown_columns, shown_tiles
from scorescope.app.plugins import load_plugins
from scorescope.data import load_images
from scorescope.denoisers import Denoiser, NetworkDenoiser
from scorescope.foundation import UserError, track
from scorescope.lenses.drawing import draw_samples, start_words
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import mean_intensity
from scorescope.noise import add_noise, check_sigmas
from scorescope.posterior.processes import check_same_images
from scorescope.probes.errors import psnr, squared_error
from scorescope.study.pictures import grid, strip
from scorescope.study.workspace import available_device
from scorescope.training.randomness import mixed

_SHOWN_SAMPLES, _SHOWN_COLUMNS = 256, 64


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
    force: bool = False,
) -> str:
    """Draw samples of a network, or of a denoiser of a data set, into a picture; in batches, of which the first are shown.

    Settings that are None keep their defaults; `flow` is for denoisers that are told sigma, `ascent` for those that are not.
    """
    file = PictureFile(out, force)
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
    centre = mean_intensity(images, seed) if images is not None else 0.0
    most = shown_tiles(denoiser.image_shape, count, _SHOWN_SAMPLES)
    shown: list[Tensor] = []
    converged = 0
    for number, piece in _tracked(count, denoiser.image_shape, "sampling in batches"):
        config = MeasurementConfig(seed=seed if number == 0 else mixed(seed, number), **flow, **ascent)
        drawn = draw_samples(denoiser, len(piece), centre, config, images)
        converged += int(drawn.converged.sum())
        shown += drawn.images[: max(0, most - piece.start)].cpu()
    file.write(strip(torch.stack(shown).numpy()))
    started = start_words(denoiser, images)
    return (
        f"{origin}\n{count} samples of {word}, {converged / count:.0%} converged{first_shown(len(shown), count)}: {out}"
        + (f"\n{word}: {started}" if started else "")
    )


def denoise(
    choice: str | ModelChoice,
    data: str,
    sigma: float,
    out: Path,
    count: int,
    seed: int,
    device: str,
    plugins: Sequence[Path],
    force: bool = False,
) -> str:
    """Noise and denoise images of a data set, in batches, and write the first side by side into a picture."""
    check_sigmas([sigma])
    file = PictureFile(out, force)
    load_plugins(plugins)
    images = load_images(data)
    check_same_images(images.train)
    denoiser, origin = open_denoiser(choice, images.train, available_device(device))
    word, of = word_for(choice), images.test or images.train
    order = np.random.default_rng(seed).permutation(of.stored)
    most = shown_columns(of.image_shape, 3, count, _SHOWN_COLUMNS)
    shown: list[Tensor] = []
    squares = 0.0
    for number, piece in _tracked(count, of.image_shape, "denoising"):
        clean = of.tensor(order[np.arange(piece.start, piece.stop) % of.stored])
        noisy = add_noise(clean, sigma, torch.Generator().manual_seed(seed if number == 0 else mixed(seed, number)))
        with torch.no_grad():
            denoised = denoiser(noisy, sigma).cpu()
        squares += float(squared_error(denoised, clean).sum())
        if piece.start < most:
            shown.append(torch.stack([clean, noisy, denoised])[:, : most - piece.start])
    rows = torch.cat(shown, 1)
    file.write(grid(rows.numpy(), row_labels=["clean", f"noisy, σ = {sigma:g}", word]))
    error = psnr(torch.tensor(squares / count))
    again = f", each of the {of.stored} of {of.name} several times" if count > of.stored else ""
    return (
        f"{origin}\n{word} at σ = {sigma:g}: PSNR {error:.2f} dB over {count} images{again}"
        f"{first_shown(rows.shape[1], count)}: {out}{_out_of_range(denoiser, word, sigma)}"
    )


def first_shown(shown: int, count: int) -> str:
    """What is said where a sheet holds fewer than all."""
    return "" if shown == count else f", the first {shown} of them shown"


def _out_of_range(denoiser: Denoiser, word: str, sigma: float) -> str:
    """A line of its own for a noise level that a network never saw."""
    if not isinstance(denoiser, NetworkDenoiser):
        return ""
    low, high = denoiser.sigma_range
    if low * (1 - 1e-6) <= sigma <= high * (1 + 1e-6):
        return ""
    return f"\n{word} was trained from σ = {low:.3g} to {high:.3g}: what it makes of σ = {sigma:g} says nothing of it"


def _tracked(count: int, image_shape: tuple[int, int, int], description: str) -> Iterator[tuple[int, range]]:
    """Numbered batches, with a progress bar if there are several."""
    pieces = enumerate(batches(count, image_shape))
    total = -(-count // batch_size(image_shape))
    return track(pieces, description, total) if total > 1 else pieces
