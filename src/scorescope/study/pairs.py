"""Two networks that differ in everything but the distribution: disjoint training images, other weights at the start.

What such a pair has in common it can only have from the distribution and the architecture (Kadkhodaie et al. 2024). The two
subsets of a size are the beginnings of two shuffled halves, so the images of a small N are among those of a larger one. A
network is trained once for its settings and its images, kept in the cache that all runs share, and copied into the run folder;
some come with the package and are not trained at all.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pydantic

from scorescope.data import ImageSet
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError, new_folder
from scorescope.foundation.processes import by_first
from scorescope.networks import NetworkConfig, architectures
from scorescope.networks.checkpoint import DESCRIPTION
from scorescope.study.storage import read_json
from scorescope.study.workspace import Workspace
from scorescope.training import Selection, TrainingConfig, TrainingJob
from scorescope.training.divided import train_divided
from scorescope.training.shipped import network_identity, shipped_network

NETWORKS = ("A", "B")


def _increasing(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if not sizes or list(sizes) != sorted(set(sizes)):
        raise ValueError("sizes must increase")
    return sizes


Sizes = Annotated[tuple[pydantic.PositiveInt, ...], pydantic.AfterValidator(_increasing)]
"""Numbers of training images of a list of networks: at least one, increasing."""


@dataclass(frozen=True)
class Pair:
    """The training images of two networks.

    Attributes:
        training: name -> its images.
        selections: name -> how they were chosen from all images.
    """

    training: dict[str, ImageSet]
    selections: dict[str, Selection]

    @property
    def size(self) -> int:
        """N, how many images each network has."""
        return self.training[NETWORKS[0]].stored


def check_sizes(sizes: Sequence[int], images: ImageSet) -> None:
    """Raises UserError if two disjoint subsets of the largest size do not fit into the images."""
    if sizes[-1] > images.stored // len(NETWORKS):
        raise UserError(
            f"N = {sizes[-1]} asked for: two disjoint halves of the {images.stored} images of {images.name}"
            f" have {images.stored // len(NETWORKS)} each; set sizes to smaller ones"
        )


def choose_pair(images: ImageSet, size: int, seed: int) -> Pair:
    """Two disjoint subsets of `size` images, the beginnings of two halves shuffled by `seed`."""
    selections = {
        name: Selection(total=images.stored, size=size, count=len(NETWORKS), share=share, seed=seed)
        for share, name in enumerate(NETWORKS)
    }
    return Pair({name: selection.choose(images) for name, selection in selections.items()}, selections)


def train_pair(
    pair: Pair,
    width: int | None,
    training: TrainingConfig,
    workspace: Workspace,
    *,
    architecture: str = "unet",
    arguments: Mapping[str, Any] | None = None,
    into: str = "networks",
) -> dict[str, NetworkDenoiser]:
    """The networks of a pair by name, come with the package, from the cache or trained now, each copied into the run folder.

    Args:
        pair: what each is trained on.
        width: of an architecture that has one; None for what fits the images.
        training: how; the two networks' seeds are 2·seed and 2·seed + 1.
        workspace: where the cache is, and the run folder.
        architecture: a name that ``scorescope list networks`` shows.
        arguments: of the architecture, over those that fit the images and the width.
        into: folder of the copies, within the run folder.
    """
    jobs, shipped = [], []
    widths = {} if width is None else {"width": width}
    for index, (name, images) in enumerate(pair.training.items()):
        entry = architectures[architecture]
        network = NetworkConfig(
            architecture=architecture,
            arguments=entry.arguments_for(images.image_shape) | widths | dict(arguments or {}),
            preconditioning=entry.preconditioning,
            image_shape=images.image_shape,
            sigma_range=training.objective.sigma_range,
        )
        how = training.model_copy(update={"seed": 2 * training.seed + index})
        shipped.append(shipped_network(network, how, images))
        folder = workspace.network_folder(network_identity(network, how, images.fingerprint()))
        jobs.append(TrainingJob(folder, network, images, how, pair.selections[name]))
    _, height, width_in_pixels = jobs[0].images.image_shape
    told = f"training two networks, N = {pair.size}, {height}×{width_in_pixels} pixels"
    own = [job for job, there in zip(jobs, shipped, strict=True) if there is None]
    if own:
        train_divided(own, device=workspace.device, description=told)
    networks = {}
    for name, job, there in zip(pair.training, jobs, shipped, strict=True):
        folder = there or job.folder
        networks[name] = NetworkDenoiser.open(folder, name).to(workspace.device)
        copy = workspace.folder / into / f"{name}-{pair.size}"
        by_first(functools.partial(_keep_copy, folder, copy))
    return networks


def shipped_record(workspace: Workspace, size: int, into: str = "networks") -> dict[int, dict[str, Any]]:
    """N -> how the first network of a pair was trained, if it came with the package; nothing if it did not.

    Args:
        workspace: with the run folder that holds the pair's copies.
        size: N.
        into: folder of the copies.
    """

    def found() -> dict[int, dict[str, Any]]:
        record = read_json(workspace.folder / into / f"{NETWORKS[0]}-{size}" / DESCRIPTION)["training"]
        return {size: record} if "command" in record else {}

    return by_first(found)


def _keep_copy(folder: Path, copy: Path) -> None:
    if not copy.exists():
        with new_folder(copy) as temporary:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
