"""The runs in which one denoiser takes another's place in an interval of noise levels: who takes part, and what is made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor

from scorescope.data import ImageSet, load_images
from scorescope.data.resolution import at_side
from scorescope.denoisers import Denoiser, NetworkDenoiser, denoisers
from scorescope.denoisers.opened import denoiser_of
from scorescope.denoisers.swapped import SwappedDenoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.audit.counting import Copies, CopyCounter
from scorescope.lenses.subject import mean_intensity
from scorescope.networks import open_checkpoint
from scorescope.noise import edm_sigmas
from scorescope.papers.kadkhodaie2024.class_networks import NetworkSettings, trained_on
from scorescope.posterior.processes import check_same_images
from scorescope.sampling import heun, last
from scorescope.study.provenance import own_training_images
from scorescope.study.workspace import Workspace

Floats = npt.NDArray[np.float64]
MEMORIZING, NETWORK, OTHER_NETWORK = "memorizing denoiser", "network", "other network"
PATH = "network:"
OUT, IN = "out", "in"


class SwappedDenoisersConfig(pydantic.BaseModel):
    """Settings.

    Attributes:
        data: a store, or the name of a built-in data set.
        side: to which images are averaged, pixels; None to leave them as they are.
        few: training images of the denoiser that memorizes, unless its checkpoint says which they were.
        many: training images of what takes its place, none of them among the few.
        network: every network.
        memorizing: ``network`` to train one, ``network:PATH`` for a checkpoint, or the name of a denoiser without training.
        others: what takes its place, in the same words.
        edges: noise levels between the intervals; the first interval is all below the first, the last all above the last.
        levels: of the sampler.
        sigma_min: the lowest, in units of [-1, 1].
        sigma_max: the highest, or the highest that every network was trained on.
        samples: from each run.
        seed: of the images and the noise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    side: pydantic.PositiveInt | None = 14
    few: int = pydantic.Field(100, ge=3)
    many: int = pydantic.Field(20_000, ge=3)
    network: NetworkSettings = NetworkSettings.model_validate(
        {
            "architecture": "mlp",
            "arguments": {"width": 96, "depth": 3},
            "training": {
                "steps": 12_000,
                "batch": 64,
                "learning_rate": 2e-3,
                "objective": {"noise": "log-uniform", "sigma_min": 0.01, "sigma_max": 80.0, "weight": "edm"},
            },
        }
    )
    memorizing: str = "optimal"
    others: tuple[str, ...] = pydantic.Field((NETWORK, "gaussian"), min_length=1)
    edges: tuple[pydantic.PositiveFloat, ...] = pydantic.Field((0.135, 0.37, 1.0, 2.7, 7.4), min_length=2)
    levels: int = pydantic.Field(24, ge=4)
    sigma_min: pydantic.PositiveFloat = 0.01
    sigma_max: pydantic.PositiveFloat = 80.0
    samples: int = pydantic.Field(256, ge=4)
    seed: int = pydantic.Field(0, ge=0)

    @pydantic.field_validator("edges")
    @classmethod
    def _increasing(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if list(edges) != sorted(set(edges)):
            raise ValueError("edges must increase")
        return edges

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """(low, high) of every interval, from low noise to high."""
        return list(itertools.pairwise((0.0, *self.edges, math.inf)))

    @property
    def centres(self) -> Floats:
        """Where charts draw the intervals: their geometric middles, the open ones as far out as their neighbours."""
        edges = np.array(self.edges)
        inner = np.sqrt(edges[:-1] * edges[1:])
        return np.concatenate([[edges[0] ** 2 / inner[0]], inner, [edges[-1] ** 2 / inner[-1]]])


@dataclass(frozen=True)
class Made:
    """The samples of one run.

    Attributes:
        images: (n, C, H, W).
        copies: which of them are copies of the few.
    """

    images: npt.NDArray[np.float32]
    copies: Copies


@dataclass(frozen=True)
class Runs:
    """What was sampled with one denoiser in the memorizing denoiser's place.

    Attributes:
        other: its name.
        alone: its own samples.
        swapped: direction -> the samples for every interval.
    """

    other: str
    alone: Made
    swapped: Mapping[str, list[Made]]

    def copies(self, direction: str) -> list[Copies]:
        """Those of every interval."""
        return [one.copies for one in self.swapped[direction]]

    @property
    def word(self) -> str:
        """What charts and tables call it."""
        return OTHER_NETWORK if self.other == NETWORK else self.other.removeprefix(PATH)


@dataclass(frozen=True)
class AllRuns:
    """Everything that was sampled.

    Attributes:
        few: training images of the memorizing denoiser.
        many: those of what takes its place.
        unseen: images that calibrate the count of copies.
        notes: what was left out of them.
        alone: the memorizing denoiser's own samples.
        runs: for each denoiser that takes its place.
        sigma_max: the highest level of all runs.
    """

    few: ImageSet
    many: ImageSet
    unseen: ImageSet
    notes: tuple[str, ...]
    alone: Made
    runs: list[Runs]
    sigma_max: float


def all_runs(config: SwappedDenoisersConfig, workspace: Workspace) -> AllRuns:
    """Sample everything, each run a cell. Raises UserError for too few images, or a denoiser that does not take them."""
    asked = (config.memorizing, *config.others)
    for name in asked:
        if name != NETWORK and not name.startswith(PATH):
            denoisers[name]  # an unknown name is refused before anything is trained
    paths = {name: name.removeprefix(PATH) for name in asked if name.startswith(PATH)}
    opened = {name: denoiser_of(open_checkpoint(path), path) for name, path in paths.items()}
    few, many, unseen = _sets(config, opened.get(config.memorizing))
    check_same_images(few)
    cast = _cast(config, opened, few, many, workspace)
    high, start = _start(config, cast, many)
    sigmas = edm_sigmas(config.levels, config.sigma_min, high)
    counter = CopyCounter(few, unseen, config.seed)

    def made(run: str, denoiser: Denoiser) -> Made:
        def drawn() -> npt.NDArray[np.float32]:
            sample: Tensor = last(heun(denoiser, start, sigmas)).noisy
            return np.asarray(sample.float().numpy())

        images = workspace.computed(f"samples/{run}", drawn)
        return Made(images, counter.count(torch.from_numpy(images)))

    found = []
    for name in track(config.others, "swapping denoisers"):
        swapped = {}
        for direction in (OUT, IN):
            outer, inner = (MEMORIZING, name) if direction == OUT else (name, MEMORIZING)
            swapped[direction] = [
                made(f"{name} {direction} {low:g}", SwappedDenoiser(cast[outer], cast[inner], low, up))
                for low, up in config.intervals
            ]
        found.append(Runs(name, made(name, cast[name]), swapped))
    return AllRuns(few, many, unseen, counter.sets.notes, made(MEMORIZING, cast[MEMORIZING]), found, high)


def _cast(
    config: SwappedDenoisersConfig,
    opened: Mapping[str, NetworkDenoiser],
    few: ImageSet,
    many: ImageSet,
    workspace: Workspace,
) -> dict[str, Denoiser]:
    """The memorizing denoiser and what takes its place, by name; networks are opened, trained, or in the cache."""
    images = {MEMORIZING: few} if config.memorizing == NETWORK else {}
    if NETWORK in config.others:
        images[OTHER_NETWORK] = many
    trained = trained_on(images, config.network, workspace) if images else {}
    cast: dict[str, Denoiser] = {}
    for name, kind, own in ((MEMORIZING, config.memorizing, few), *((name, name, many) for name in config.others)):
        known = MEMORIZING if own is few else OTHER_NETWORK
        if kind in opened:
            cast[name] = opened[kind].to(workspace.device)
        else:
            cast[name] = trained[known] if kind == NETWORK else denoisers[kind].build(own)
    return cast


def _start(config: SwappedDenoisersConfig, cast: Mapping[str, Denoiser], many: ImageSet) -> tuple[float, Tensor]:
    """The highest level that every network was trained on, and where all runs start.

    Noise that does not drown the images is drawn around their mean intensity.
    """
    networks = [one for one in cast.values() if isinstance(one, NetworkDenoiser)]
    high = min([config.sigma_max, *(one.sigma_range[1] for one in networks)])
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn((config.samples, *many.image_shape), generator=generator)
    centre = mean_intensity(many, config.seed) if high < config.sigma_max else 0.0
    return high, centre + high * noise


def _sets(config: SwappedDenoisersConfig, network: NetworkDenoiser | None) -> tuple[ImageSet, ImageSet, ImageSet]:
    """The few, the many, and images that neither network has seen."""
    data = load_images(config.data)
    order = np.random.default_rng(config.seed).permutation(data.train.stored)
    if network is not None:
        assert network.config is not None
        own, _ = own_training_images(network.config, data.train, flips=False)
        if own.indices is None:
            raise UserError(
                f"{network.name} was trained on all of {data.train.name}: nothing is left for what takes its place"
            )
        order = np.concatenate([own.indices, order[~np.isin(order, own.indices)]])
        config = config.model_copy(update={"few": own.stored})
    used = config.few + config.many
    rest = order[used:]
    if used > len(order) or (data.test is None and len(rest) < 3):
        raise UserError(
            f"few={config.few} and many={config.many} do not fit into the {len(order)} images of {data.train.name}, with some"
            " left that no network is trained on: set them to less"
        )
    unseen = data.test if data.test is not None else data.train.subset(rest)
    sets = [data.train.subset(order[: config.few]), data.train.subset(order[config.few : used]), unseen]
    few, many, left = (one if config.side is None else at_side(one, config.side) for one in sets)
    return few, many, left
