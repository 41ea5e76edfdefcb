"""Training runs to compare: the same network trained again with another seed, another target or another draw of the images.

A run is one `TrainingConfig`: its seed decides initial weights, order of the images, noise levels and noise. Two runs with
the same seed and different targets therefore see the same noisy images in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation.processes import process_count
from scorescope.networks import NetworkConfig, architectures
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig, TrainingJob
from scorescope.training.divided import train_divided


def trained_runs(
    images: Sequence[ImageSet],
    runs: Sequence[TrainingConfig],
    width: int,
    workspace: Workspace,
    description: str,
    architecture: str = "unet",
) -> list[NetworkDenoiser]:
    """The networks of several runs, from the cache or trained now, a few side by side.

    Args:
        images: training images of every run.
        runs: how each is trained.
        width: channels of the first block.
        workspace: whose cache keeps the networks.
        description: of the progress bar.
        architecture: one that has a ``width``.
    """
    jobs = []
    for chosen, how in zip(images, runs, strict=True):
        entry = architectures[architecture]
        network = NetworkConfig(
            architecture=architecture,
            arguments=entry.arguments_for(chosen.image_shape) | {"width": width},
            preconditioning=entry.preconditioning,
            image_shape=chosen.image_shape,
            sigma_range=how.objective.sigma_range,
        )
        identity = {"network": network.model_dump(), "training": how.model_dump(), "images": chosen.fingerprint()}
        jobs.append(TrainingJob(workspace.network_folder(identity), network, chosen, how))
    # A network a core: more of them at once would only hold more memory.
    together = torch.get_num_threads() * process_count()
    folders = []
    for start in range(0, len(jobs), together):
        part = jobs[start : start + together]
        said = f"{description}, {start + 1} to {start + len(part)} of {len(jobs)}"
        folders += train_divided(part, device=workspace.device, description=said)
    return [NetworkDenoiser.open(folder, "network").to(workspace.device) for folder in folders]
