"""The commands on single networks and denoisers: sample, denoise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from scorescope.app.models import open_denoiser, open_network
from scorescope.app.plugins import load_plugins
from scorescope.data import load_images
from scorescope.foundation import new_file
from scorescope.noise import add_noise, check_sigmas
from scorescope.studies.measurements import MeasurementConfig, chosen, draw_samples
from scorescope.studies.pictures import grid, strip
from scorescope.studies.workspace import available_device


def sample(model: Path, out: Path, count: int, seed: int, device: str) -> str:
    """Draw samples of a network into a PNG file."""
    network = open_network(model, available_device(device))
    samples, converged = draw_samples(network, count, 0.0, MeasurementConfig(seed=seed))
    _write(out, strip(samples.numpy()).png())
    return f"{count} samples of {model.name}, {converged:.0%} converged: {out}"


def denoise(
    word: str, data: str, sigma: float, out: Path, count: int, seed: int, device: str, plugins: Sequence[Path]
) -> str:
    """Noise and denoise images of a data set, and write them side by side into a PNG file."""
    check_sigmas([sigma])
    load_plugins(plugins)
    images = load_images(data)
    denoiser = open_denoiser(word, images.train, available_device(device))
    clean = chosen(images.test or images.train, count, seed)
    noisy = add_noise(clean, sigma, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        denoised = denoiser(noisy, sigma)
    error = 10 * np.log10(4 / (denoised - clean).square().mean().item())
    rows = np.stack([clean.numpy(), noisy.numpy(), denoised.cpu().numpy()])
    _write(out, grid(rows, row_labels=["clean", f"noisy, σ = {sigma:g}", word]).png())
    return f"{word} at σ = {sigma:g}: PSNR {error:.2f} dB over {count} images: {out}"


def _write(path: Path, content: bytes) -> None:
    with new_file(path) as temporary:
        temporary.write_bytes(content)
