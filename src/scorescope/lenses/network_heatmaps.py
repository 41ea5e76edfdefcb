"""Sensitivity heatmaps of a network, measured once for each noise level and kept in the cache of all runs.

``G(p, q; σ) = E Σ_c Σ_c' |∂D(y, σ)_{c,p} / ∂y_{c',q}|`` over noisy training images (Niedoba et al. 2025, section 4). They
are in ``heatmaps/KEY/sigma=VALUE.npy``, KEY standing for the network's weights, its class, the training images, how many of
them and the seed, so that whatever asks for the same heatmaps again finds them: figure 3, and the masks of `pspc-flex`.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from scorescope.denoisers import NetworkDenoiser
from scorescope.denoisers.heatmaps import StoredHeatmaps, store_heatmaps
from scorescope.foundation.files import write_json
from scorescope.foundation.processes import by_first
from scorescope.lenses.comparison import Compared
from scorescope.lenses.subject import chosen
from scorescope.noise import add_noise
from scorescope.probes.sensitivity import sensitivity
from scorescope.study.workspace import Workspace
from scorescope.training.randomness import mixed

RECORD = "heatmaps.json"


def weights_key(denoiser: NetworkDenoiser) -> str:
    """SHA-256 (hex) of a network's tensors and of how it is used."""
    used = (
        denoiser.preconditioning.model_dump(mode="json"),
        type(denoiser.preconditioning).__name__,
        denoiser.class_label,
    )
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    for name, value in sorted(denoiser.network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def heatmaps_folder(one: Compared, images: int, seed: int, workspace: Workspace) -> Path:
    """Where the cache keeps the heatmaps of a network, there or not."""
    key = [weights_key(one.denoiser), one.training_key, images, seed]
    return workspace.cache / "heatmaps" / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:20]


def measured_heatmaps(
    one: Compared, sigmas: Sequence[float], images: int, seed: int, workspace: Workspace
) -> StoredHeatmaps:
    """Heatmaps of all output pixels at some noise levels, measured now where the cache lacks them.

    Args:
        one: the network, with its training images.
        sigmas: noise levels in units of [-1, 1].
        images: noisy training images that each heatmap is averaged over.
        seed: of the images and the noise.
        workspace: whose cache and device are used.
    """
    folder = heatmaps_folder(one, images, seed, workspace)
    clean = chosen(one.training, images, seed)
    for sigma in sigmas:
        if by_first(lambda: (folder / f"sigma={float(sigma)!r}.npy").exists()):  # noqa: B023
            continue
        generator = torch.Generator().manual_seed(
            mixed(seed, int.from_bytes(struct.pack("<d", float(sigma)), "little"))
        )
        values = _measured(one, clean, float(sigma), generator, workspace)
        by_first(lambda: store_heatmaps(folder, float(sigma), values))  # noqa: B023
    said = {"network": one.name, "training images": one.training.name, "averaged over": images, "seed": seed}
    by_first(lambda: write_json(folder / RECORD, said))
    return StoredHeatmaps(folder, sigmas)


def _measured(
    one: Compared, clean: torch.Tensor, sigma: float, generator: torch.Generator, workspace: Workspace
) -> npt.NDArray[np.float32]:
    noisy = add_noise(clean, sigma, generator).to(workspace.device)
    _, height, width = one.denoiser.image_shape
    found = sensitivity(one.denoiser, noisy, sigma).cpu().numpy()
    return np.asarray(found.reshape(height, width, height, width), dtype=np.float32)
