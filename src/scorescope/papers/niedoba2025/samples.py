"""Samples of every denoiser from the same noise: networks, the optimal denoiser, and the training-free ones.

A denoiser is sampled by its probability-flow ODE from ``y = m + σ_0 n_i``, where m is the mean intensity of the training images
and n_i is the same for every denoiser, so that sample i of one can be laid beside sample i of another. Levels are those
that *every* network of the study was trained on. Samples are computed in cells of a few trajectories each: memory does not
grow with their number, and a run that was killed goes on after the last cell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor

from scorescope.denoisers import Denoiser
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.comparison import Compared, Comparison
from scorescope.lenses.drawing import guarded
from scorescope.lenses.inputs import CENTRE_IMAGES
from scorescope.lenses.rivals import Builder, MechanismConfig
from scorescope.lenses.subject import OPTIMAL, chosen
from scorescope.noise import edm_sigmas
from scorescope.papers.niedoba2025.compared import ComparedConfig, open_comparison
from scorescope.probes.features import Features, FeatureSpace, vectors_of
from scorescope.sampling import State, euler, heun, last
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training.randomness import mixed

Images = npt.NDArray[np.float32]
SAMPLERS: Mapping[str, Callable[..., Iterator[State]]] = {"euler": euler, "heun": heun}
ENOUGH_SAMPLES = 16
DROWNS = 10.0  # σ from which noise drowns images in [-1, 1]
MIDDLE_LEVEL = 1.0
SAMPLED = ("pspc-flex", "pspc-square", "gaussian", "closed-form")


class SampledConfig(ComparedConfig):
    """Settings of every study of samples, besides networks and images.

    Attributes:
        mechanisms: the training-free denoisers that are sampled beside the networks and the optimal denoiser.
        sampler: ``euler`` or ``heun``.
        samples: of every denoiser.
        at_once: trajectories in a cell.
        features: the space in which samples are compared; see `scorescope.probes.features_opening`.
    """

    mechanisms: MechanismConfig = MechanismConfig(names=SAMPLED)
    sampler: Literal["euler", "heun"] = "euler"
    samples: int = pydantic.Field(64, ge=2)
    at_once: int = pydantic.Field(32, ge=1)
    features: str = "embedded"

    @property
    def too_few(self) -> str:
        """Why no claim is decided on these samples; empty if they are enough."""
        if self.samples >= ENOUGH_SAMPLES:
            return ""
        return f"{self.samples} samples of each denoiser; at least {ENOUGH_SAMPLES} are asked for"


@dataclasses.dataclass(frozen=True)
class Cast:
    """Everything that is sampled.

    Attributes:
        comparison: networks and images; its levels are those that every network was trained on.
        config: the settings.
        denoisers: name -> denoiser: the networks, the optimal one, the others.
        centre: mean intensity of the training images.
        said: how the training-free denoisers were built, where that is not plain.
        left_out: name -> why it is not there.
    """

    comparison: Comparison
    config: SampledConfig
    denoisers: dict[str, Denoiser]
    centre: float
    said: str
    left_out: dict[str, str]

    @property
    def sigmas(self) -> list[float]:
        """Noise levels, high to low."""
        return self.comparison.sigmas

    @property
    def first(self) -> Compared:
        """The network whose training images the training-free denoisers are built from."""
        return self.comparison.networks[0]

    @property
    def networks(self) -> list[str]:
        """Names of the networks."""
        return [one.name for one in self.comparison.networks]

    @property
    def training_free(self) -> list[str]:
        """Names of the others."""
        return [name for name in self.denoisers if name not in self.networks]

    def starts(self, rows: range) -> Tensor:
        """Where trajectories begin, (n, C, H, W): trajectory i does not depend on how many there are."""
        noise = [
            torch.randn(self.first.denoiser.image_shape, generator=torch.Generator().manual_seed(self._seed(row)))
            for row in rows
        ]
        return self.centre + self.sigmas[0] * torch.stack(noise)

    def trajectory(self, name: str, rows: range, device: torch.device) -> Iterator[State]:
        """States of a denoiser's own flow; a trajectory that leaves all bounds goes on as NaN."""
        return SAMPLERS[self.config.sampler](guarded(self.denoisers[name], device), self.starts(rows), self.sigmas)

    def batches(self) -> list[range]:
        """Trajectories by cell."""
        count, size = self.config.samples, self.config.at_once
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def describe(self, results: Results) -> None:
        """Write into a page's methods what was sampled, and how."""
        config, sigmas = self.config, self.sigmas
        results.methods["Networks"] = "\n\n".join(f"{one.name}: {one.said}" for one in self.comparison.networks)
        results.methods["Sampling"] = (
            f"{config.samples} trajectories of each denoiser's probability-flow ODE by {config.sampler.capitalize()}'s method"
            f" on {len(sigmas)} EDM levels from σ = {sigmas[0]:.3g} to {sigmas[-1]:.3g} and then to 0, all from the same"
            f" noise around the mean intensity {self.centre:.2f}. Training-free denoisers are built from the training images of"
            f" {self.first.name}." + (f" {self.said}" if self.said else "")
        )
        if sigmas[0] < DROWNS:
            results.methods["Starts"] = (
                f"No level above σ = {sigmas[0]:.3g} was trained on by every network, and noise of that level does not drown"
                " images in [−1, 1]: the starts miss what such an image would show, for all denoisers alike."
            )
        if self.left_out:
            results.methods["Left out"] = "; ".join(f"{name}: {why}" for name, why in self.left_out.items()) + "."
        results.methods["Units"] = "Images in [−1, 1]; σ is the noise's standard deviation in that unit."
        results.methods["Seed"] = f"{config.seed} for images and noise."

    def _seed(self, row: int) -> int:
        return mixed(self.config.seed, row)


def open_cast(config: SampledConfig, workspace: Workspace) -> Cast:
    """Open or train the networks, and build the training-free denoisers for the first.

    Raises:
        UserError: as `open_comparison` and `Builder`; no two levels that every network was trained on; a network that is
            called like a training-free denoiser.
    """
    # Levels that are not named follow from the networks: while these are opened, there is none to be warned of but one in the
    # middle.
    asked = config if config.sigmas else config.model_copy(update={"sigmas": (MIDDLE_LEVEL,)})
    comparison = open_comparison(asked, workspace)
    comparison = dataclasses.replace(comparison, sigmas=_shared_levels(config, comparison.networks), config=config)
    first = comparison.networks[0]
    built = Builder(comparison, config.mechanisms, workspace).of(first)
    free: dict[str, Denoiser] = {OPTIMAL: first.optimal, **built.denoisers}
    for one in comparison.networks:
        if one.name in free:
            raise UserError(f"a network and a training-free denoiser are both called {one.name}: rename the checkpoint")
    networks: dict[str, Denoiser] = {one.name: one.denoiser for one in comparison.networks}
    centre = float(chosen(first.training, CENTRE_IMAGES, config.seed).mean())
    return Cast(comparison, config, {**networks, **free}, centre, built.said, built.left_out)


def samples_of(cast: Cast, name: str, workspace: Workspace) -> Images:
    """Samples of a denoiser, (n, C, H, W); a trajectory that left all bounds is NaN."""

    def sampled(rows: range) -> Images:
        final: State = last(cast.trajectory(name, rows, workspace.device))
        return final.noisy.float().numpy()

    parts = []
    for rows in track(cast.batches(), f"sampling with {name}"):
        parts.append(workspace.computed(f"samples/{name}/{rows.start}", lambda: sampled(rows)))  # noqa: B023
    return np.concatenate(parts)


def vectors_of_samples(space: FeatureSpace, samples: Images, device: torch.device) -> Features:
    """Vectors of samples, (n, F); that of a sample that is NaN is NaN."""
    known = np.isfinite(samples).all((1, 2, 3))
    if not known.any():
        raise UserError("none of the samples is finite: the sampler left all bounds; try more levels")
    found = vectors_of(space, torch.from_numpy(samples[known]), device=device)
    vectors = np.full((len(samples), found.shape[1]), np.nan, dtype=np.float32)
    vectors[known] = found
    return vectors


def _shared_levels(config: SampledConfig, networks: Sequence[Compared]) -> list[float]:
    """The levels named, as far as every network was trained on them, or a schedule over what all were trained on."""
    ranges: list[tuple[float, float]] = [one.denoiser.sigma_range for one in networks]
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    if config.sigmas:
        levels = [sigma for sigma in config.noise_levels() if low <= sigma <= high]
    elif max(low, config.sigma_min) < min(high, config.sigma_max):
        spaced: Any = edm_sigmas(config.levels, max(low, config.sigma_min), min(high, config.sigma_max))
        levels = [
            float(sigma) for sigma in spaced.clamp(low, high).tolist()
        ]  # the ends, which roots and powers may miss
    else:
        levels = []
    if len(levels) < 2:
        raise UserError(
            f"sampling takes two levels at least that every network was trained on, and all were trained on σ from {low:.3g}"
            f" to {high:.3g}: set sigmas, or sigma_min and sigma_max, within that"
        )
    return levels
