"""What is under the microscope: networks, the images they were trained on, and the rival explanations of what they do."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers import Denoiser, NetworkDenoiser, OptimalDenoiser, denoisers
from scorescope.foundation import UserError
from scorescope.noise import log_spaced_sigmas

OPTIMAL = "optimal"
LOWEST_SIGMA, HIGHEST_SIGMA = 0.03, 80.0


@dataclass(frozen=True)
class Trained:
    """Networks, and what each was trained on.

    Attributes:
        networks: one network, or two, by the name that charts give them.
        training: the images that each was trained on.
        held_out: images that none was trained on; None if there are none.
    """

    networks: Mapping[str, NetworkDenoiser]
    training: Mapping[str, ImageSet]
    held_out: ImageSet | None

    @property
    def first(self) -> NetworkDenoiser:
        """The network that is compared with the training-free denoisers."""
        return next(iter(self.networks.values()))

    @property
    def first_training(self) -> ImageSet:
        """Its training images."""
        return self.training[next(iter(self.networks))]

    def sigmas(self, count: int) -> list[float]:
        """Levels from high to low, log-spaced over what every network was trained on, within [0.03, 80]."""
        low = max([LOWEST_SIGMA, *(network.sigma_range[0] for network in self.networks.values())])
        high = min([HIGHEST_SIGMA, *(network.sigma_range[1] for network in self.networks.values())])
        return [float(sigma) for sigma in log_spaced_sigmas(count, low, high)]


@dataclass(frozen=True)
class Subject(Trained):
    """What is under the microscope: networks, and what they are compared with.

    Attributes:
        names: of the rival explanations; all training-free denoisers that are not costly by default.
        given: rival explanations that are built already, by name; None to build those named.
    """

    names: tuple[str, ...] = ()
    given: Mapping[str, Denoiser] | None = None

    @functools.cached_property
    def optimal(self) -> OptimalDenoiser:
        """The optimal denoiser of the first network's training images."""
        return OptimalDenoiser(self.first_training)

    @functools.cached_property
    def mechanisms(self) -> Mapping[str, Denoiser]:
        """Rival explanations by name, built on the same images when they are first asked for."""
        return mechanisms_of(self.first_training, self.names) if self.given is None else self.given

    @functools.cached_property
    def shared(self) -> dict[str, Any]:
        """What one lens built and another needs as well, by a name that says with which settings."""
        return {}


def mechanisms_of(images: ImageSet, names: Sequence[str]) -> dict[str, Denoiser]:
    """The rival explanations on a training set: those named, or all training-free ones that are not costly and take it.

    Raises UserError if one that is named does not take these images.
    """
    if names:
        return {name: denoisers[name].build(images) for name in names}
    built = {}
    for name, entry in denoisers.items():
        if name != OPTIMAL and not entry.costly:
            try:
                built[name] = entry.build(images)
            except UserError:  # such as images too large for a covariance matrix
                continue
    return built


def chosen(images: ImageSet, count: int, seed: int) -> Tensor:
    """`count` images, (count, C, H, W) float: a random choice without repeats, or all of a smaller set in turn."""
    order = np.random.default_rng(seed).permutation(images.stored)
    return images.tensor(np.resize(order, count))


def mean_intensity(images: ImageSet, seed: int) -> float:
    """The mean of up to 512 images: what networks that were not trained on levels that drown the images start around."""
    return float(chosen(images, 512, seed).mean())
