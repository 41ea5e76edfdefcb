"""Training runs on disk: several networks side by side, saved as they go, resumed where they were.

While a network is trained, ``NAME.training.safetensors`` beside its folder holds the last saved state (see `saved`); when
it is finished, the folder appears and that file goes.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import torch
from accelerate import Accelerator
from torch import nn

from scorescope.data import ImageSet, disjoint_subsets
from scorescope.foundation import UserError, track
from scorescope.foundation.memory import reuse_freed_memory
from scorescope.networks import NetworkConfig, build_network, preconditioning_from, save_network
from scorescope.training.accelerated import AcceleratedTrainer
from scorescope.training.config import TrainingConfig
from scorescope.training.loop import Trainer
from scorescope.training.saved import SavedState, claimed, forget

CURVE_POINTS = 200


class Selection(pydantic.BaseModel):
    """Which part of a data set a network was trained on: the beginning of one of several equal, shuffled shares.

    Attributes:
        total: images in the data set.
        size: images taken.
        count: shares.
        share: which one, from 0.
        seed: of the shuffle.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    total: int
    size: int
    count: int = 2
    share: int = 0
    seed: int = 0

    def choose(self, images: ImageSet) -> ImageSet:
        """The images themselves. Raises UserError if there are not so many."""
        return images.subset(disjoint_subsets(self.total, self.size, count=self.count, seed=self.seed)[self.share])


@dataclass(frozen=True)
class TrainingJob:
    """One network to train.

    Attributes:
        folder: where the checkpoint goes.
        network: architecture, preconditioning and image shape; `sigma_range` and `training` are filled in.
        images: training images.
        config: how.
        selection: how `images` were chosen from a data set, for the checkpoint's record; see `Selection`.
        observe: what to measure on the moving average on the way, as a function of (network, steps finished); its
            numbers go into the checkpoint's record. Every process of a job calls it.
        observe_every: steps from one such measurement to the next; 0 for none. The last step is always measured.
        checkpoints: steps finished -> folder in which the moving average of that step is kept, besides the last; one that is
            there stays as it is. Its record says the step.
    """

    folder: Path
    network: NetworkConfig
    images: ImageSet
    config: TrainingConfig
    selection: Selection | None = None
    observe: Callable[[nn.Module, int], dict[str, float]] | None = None
    observe_every: int = 0
    checkpoints: Mapping[int, Path] = field(default_factory=dict)


def train_networks(
    jobs: Sequence[TrainingJob],
    *,
    device: torch.device | str = "cpu",
    description: str = "training",
    save_every: int = 100,
    accelerator: Accelerator | None = None,
) -> list[Path]:
    """Train several networks side by side, each on its share of the cores, and save them.

    Small networks use one core each far better than they share two. Jobs whose folder exists are done already; a job that
    was interrupted goes on from its last saved step and ends with the same weights.

    Args:
        jobs: what to train; equal numbers of steps progress together.
        device: where.
        description: of the progress bar.
        save_every: steps between saved states.
        accelerator: for one job on several devices or in mixed precision; only its main process writes.

    Returns:
        The checkpoint folders, in the order of `jobs`.

    Raises:
        UserError: diverging loss; a saved state of another configuration; another process that trains the same; disk full.
    """
    for job in jobs:
        if job.folder.exists():
            forget(job.folder)
    open_jobs = [job for job in jobs if not job.folder.exists()]
    if open_jobs:
        reuse_freed_memory()
        with contextlib.ExitStack() as claims:
            if accelerator is None or accelerator.is_main_process:
                for job in open_jobs:
                    claims.enter_context(claimed(job.folder))
            _train(open_jobs, torch.device(device), description, save_every, accelerator)
    return [job.folder for job in jobs]


def _train(
    jobs: Sequence[TrainingJob],
    device: torch.device,
    description: str,
    save_every: int,
    accelerator: Accelerator | None,
) -> None:
    threads = torch.get_num_threads()
    share = max(1, threads // len(jobs))
    with concurrent.futures.ThreadPoolExecutor(len(jobs), initializer=torch.set_num_threads, initargs=(share,)) as pool:
        try:
            runs = list(pool.map(lambda job: _Run(job, device, accelerator), jobs))
            first = min(run.trainer.finished for run in runs)
            last = max(job.config.steps for job in jobs)
            for _ in track(range(first, last), description, total=last, done=first):
                behind = min(run.trainer.finished for run in runs)
                moving = [run for run in runs if run.trainer.finished == behind and not run.complete]
                list(pool.map(_Run.advance, moving))
                if (behind + 1) % save_every == 0:
                    list(pool.map(_Run.save_state, moving))
            for run in runs:
                run.finish()
        finally:
            torch.set_num_threads(threads)


class _Run:
    """A job in progress: its trainer, its learning curve and its saved state."""

    def __init__(self, job: TrainingJob, device: torch.device, accelerator: Accelerator | None) -> None:
        self.job = job
        self.fingerprint = job.images.fingerprint()
        self.saved = SavedState(job.folder, self._identity())
        network = build_network(job.network, seed=job.config.seed)
        self.accelerator = accelerator
        self.main = accelerator is None or accelerator.is_main_process
        used = preconditioning_from(job.network.preconditioning, job.network.preconditioning_arguments)
        self.trainer = (
            Trainer(network, used, job.images, job.config, device)
            if accelerator is None
            else AcceleratedTrainer(network, used, job.images, job.config, accelerator)
        )
        self.losses: list[float] = []
        self.observed: list[dict[str, float]] = []
        self.seconds = 0.0
        found = self.saved.read()
        if found is not None:
            self.trainer.restore(found[0])
            self.losses, self.observed, self.seconds = (found[1][key] for key in ("losses", "observed", "seconds"))

    @property
    def complete(self) -> bool:
        return self.trainer.finished >= self.job.config.steps

    def advance(self) -> None:
        started = time.perf_counter()
        rate = self.job.config.learning_rate_at(self.trainer.finished)
        self.losses.append(self.trainer.step().loss)
        self.seconds += time.perf_counter() - started
        finished, every = self.trainer.finished, self.job.observe_every
        told = {"loss": self.losses[-1], "learning rate": rate}
        if self.job.observe is not None and every and (finished % every == 0 or self.complete):
            self._check_weights()
            found = self.job.observe(self.trainer.average, finished)
            self.observed.append({"step": finished, **found})
            told |= found
        folder = self.job.checkpoints.get(finished)
        if folder is not None and self.main and not folder.exists():
            self._save_network(folder, {"step": finished})
        if self.accelerator is not None:
            self.accelerator.log(told, step=finished)

    def save_state(self) -> None:
        if self.main:
            self._check_weights()
            progress = {"losses": self.losses, "observed": self.observed, "seconds": self.seconds}
            self.saved.write(self.trainer.state(), progress)

    def finish(self) -> None:
        if self.main:
            self._save_network(self.job.folder, self._curve())
            forget(self.job.folder)
        if self.accelerator is not None:
            for tracker in self.accelerator.trackers:  # not end_training, which would take the process group down
                tracker.finish()
            self.accelerator.wait_for_everyone()

    def _check_weights(self) -> None:
        """Normalization can hide a divergence from the loss: the weights cannot."""
        if not all(bool(torch.isfinite(value).all()) for value in self.trainer.average.state_dict().values()):
            raise UserError(
                f"training diverged by step {self.trainer.finished}: the weights are no longer finite; try a learning rate"
                f" below {self.job.config.learning_rate:g}, or clip the gradients"
            )

    def _save_network(self, folder: Path, found: Mapping[str, Any]) -> None:
        """Save the moving average, with a record of the training and what was `found` on the way."""
        self._check_weights()
        config = self.job.config
        record = {
            "config": config.model_dump(mode="json"),
            "images": self.job.images.stored,
            "data": self.job.images.name,
            "selection": self.job.selection and self.job.selection.model_dump(),
            "data_sha256": self.fingerprint,
            **found,
        }
        if config.compile:
            record["compilation"] = self.trainer.compilation
        network = self.job.network.model_copy(update={"sigma_range": config.objective.sigma_range, "training": record})
        save_network(folder, self.trainer.average, network)

    def _curve(self) -> dict[str, Any]:
        stride = max(1, len(self.losses) // CURVE_POINTS)
        windows = [self.losses[start : start + stride] for start in range(0, len(self.losses), stride)]
        return {
            "loss_every": stride,
            "loss": [sum(window) / len(window) for window in windows],
            "observed": self.observed,
            "seconds": round(self.seconds, 1),
        }

    def _identity(self) -> str:
        """What a saved state must agree on to be gone on with."""
        job = self.job
        return json.dumps(
            [job.network.model_dump(mode="json"), job.config.model_dump(mode="json"), self.fingerprint], sort_keys=True
        )
