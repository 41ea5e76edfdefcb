"""Several networks to train, several processes: each process trains some of them, and all get all of them.

This is how a study trains the networks that it compares: one network a process loses nothing to waiting, as small
networks would if every step of theirs was shared. `scorescope train` shares the steps of its one network instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from scorescope.foundation.processes import from_all, process_count, process_index, share_folder, working_alone
from scorescope.training.run import TrainingJob, train_networks


def train_divided(
    jobs: Sequence[TrainingJob], *, device: torch.device | str = "cpu", description: str = "training"
) -> list[Path]:
    """Train several networks as `train_networks` does, divided among the processes.

    A network that any process has already is not trained again. On hosts without a common file system every host
    gets a copy in the same place.

    Args:
        jobs: what to train, the same in every process.
        device: where.
        description: of the progress bar.

    Returns:
        The checkpoint folders, in the order of `jobs`.

    Raises:
        UserError: as `train_networks`.
    """
    owners = _owners(jobs)
    own = [job for job, owner in zip(jobs, owners, strict=True) if owner == process_index()]
    with working_alone():
        train_networks(own, device=device, description=description)
    for job, owner in zip(jobs, owners, strict=True):
        share_folder(job.folder, owner)
    return [job.folder for job in jobs]


def _owners(jobs: Sequence[TrainingJob]) -> list[int]:
    """For each job the first process that has its network, or else the one that is to train it."""
    finished = from_all([job.folder.exists() for job in jobs])  # by process, then job
    return [
        next((process for process, has in enumerate(finished) if has[index]), index % process_count())
        for index in range(len(jobs))
    ]
