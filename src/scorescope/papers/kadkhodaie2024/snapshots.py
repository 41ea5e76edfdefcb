"""Networks at several lengths of training, all from one run: what a run of S steps passes on its way.

Where the learning rate does not depend on how long the run will be, and weights are averaged over a share of the steps so
far, a run of S steps has, after its first s, the weights of a run of s steps. So the shorter runs cost nothing: they are
kept on the way, each as the checkpoint that a run of that length would have ended with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scorescope.data.images import ImageSet
from scorescope.denoisers import NetworkDenoiser
from scorescope.papers.kadkhodaie2024.class_networks import NetworkSettings, training_job
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig, TrainingJob
from scorescope.training.divided import train_divided


def check_schedule(training: TrainingConfig) -> None:
    """Raise ValueError for a learning rate that depends on the run's length, so that snapshots are not shorter runs."""
    if training.schedule == "cosine":
        raise ValueError("a cosine schedule depends on how long the run is: choose inverse-sqrt or constant")


def snapshots(
    sets: Mapping[str, ImageSet], settings: NetworkSettings, lengths: Sequence[int], workspace: Workspace
) -> dict[str, list[NetworkDenoiser]]:
    """For each set of images a network at every length of training, trained side by side or taken from the cache.

    Args:
        sets: name -> training images.
        settings: the same for all; ``training.steps`` is replaced by each length.
        lengths: steps, increasing.
        workspace: says where the cache is.

    Raises:
        ValueError: see `check_schedule`.
        UserError: an architecture that is not known or does not fit the images; otherwise as `train_networks`.
    """
    check_schedule(settings.training)
    jobs = {
        name: [_of_length(images, settings, steps, workspace) for steps in lengths] for name, images in sets.items()
    }
    longest = [
        replace(own[-1], checkpoints={job.config.steps: job.folder for job in own[:-1]}) for own in jobs.values()
    ]
    said = f"training {len(longest)} × {settings.architecture}"
    train_divided(longest, device=workspace.device, description=said)
    # What was not passed just now, because the longest run was there already, is trained for itself; all are shared.
    train_divided([job for own in jobs.values() for job in own], device=workspace.device, description=said)
    return {
        name: [NetworkDenoiser.open(job.folder, name).to(workspace.device) for job in own] for name, own in jobs.items()
    }


def _of_length(images: ImageSet, settings: NetworkSettings, steps: int, workspace: Workspace) -> TrainingJob:
    training = settings.training.model_copy(update={"steps": steps})
    return training_job(images, settings.model_copy(update={"training": training}), workspace)
