"""The noisy images on which denoisers are compared: forward from images, and reverse from a network's own sampling.

Every level has a seed of its own, so that a part of the levels can be computed without the others. What a denoiser makes of
them is stored in cells of a few levels each: a run that was interrupted goes on after the last.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data import ImageSet
from scorescope.denoisers import Denoiser
from scorescope.foundation.progress import track
from scorescope.lenses.comparison import Compared, Comparison
from scorescope.lenses.subject import chosen
from scorescope.noise import add_noise
from scorescope.probes.errors import reverse_inputs
from scorescope.probes.similarity import nearest
from scorescope.study.workspace import Workspace
from scorescope.training.randomness import mixed

LEVELS_A_CELL = 4
CENTRE_IMAGES = 512
TRAIN, HELD_OUT, REVERSE, EXPLORED = "train", "held-out", "reverse", "explored"
Labels = npt.NDArray[np.int64]
IN_WORDS = {
    TRAIN: "noisy training images",
    HELD_OUT: "noisy held-out images",
    REVERSE: "states of the network's own sampling",
    EXPLORED: "images with the same noise at every level",
}


class Inputs(ABC):
    """Noisy images at S levels, B at each.

    Attributes:
        kind: ``train``, ``held-out``, ``reverse`` or ``explored``.
        key: what cells call them; equal for equal inputs.
        sigmas: S levels, high to low.
        labels: classes of the images, int (B,); None where they are not known.
    """

    def __init__(self, kind: str, key: str, sigmas: Sequence[float], labels: Labels | None) -> None:
        self.kind = kind
        self.key = key
        self.sigmas = list(sigmas)
        self.labels = labels

    @abstractmethod
    def at(self, level: int) -> Tensor:
        """The noisy images of one level, (B, C, H, W)."""


class ForwardInputs(Inputs):
    """``x + σ n``, fresh noise a level.

    Args:
        kind: ``train`` or ``held-out``.
        key: what cells call them.
        sigmas: S levels.
        clean: (B, C, H, W).
        seed: of the noise.
        labels: classes of the images.
    """

    def __init__(
        self, kind: str, key: str, sigmas: Sequence[float], clean: Tensor, seed: int, labels: Labels | None = None
    ) -> None:
        super().__init__(kind, key, sigmas, labels)
        self.clean = clean
        self.seed = seed

    def at(self, level: int) -> Tensor:
        """See `Inputs.at`."""
        return add_noise(self.clean, self.sigmas[level], torch.Generator().manual_seed(mixed(self.seed, level)))


class ReverseInputs(Inputs):
    """States of a network's own flow.

    Args:
        key: what cells call them.
        sigmas: S levels.
        states: (S, B, C, H, W).
        labels: classes of the training images that the samples are nearest to.
    """

    def __init__(
        self, key: str, sigmas: Sequence[float], states: npt.NDArray[np.float32], labels: Labels | None = None
    ) -> None:
        super().__init__(REVERSE, key, sigmas, labels)
        self.states = states

    def at(self, level: int) -> Tensor:
        """See `Inputs.at`."""
        return torch.from_numpy(self.states[level])


def forward(comparison: Comparison, one: Compared, kind: str) -> Inputs | None:
    """Forward inputs for a network from its training images, or from held-out ones; None where there are none."""
    config = comparison.config
    images: ImageSet | None = one.training if kind == TRAIN else comparison.held_out
    if images is None:
        return None
    if config.image_class is not None:
        images = images.of_class(config.image_class)
    key = f"{kind} {one.training_key}" if kind == TRAIN else kind
    # the same images as `measurements.chosen` takes, with their classes
    entries = np.resize(np.random.default_rng(config.seed).permutation(images.stored), config.inputs)
    labels = None if images.labels is None else np.asarray(images.own_labels()[entries], dtype=np.int64)
    return ForwardInputs(kind, key, comparison.sigmas, images.tensor(entries), config.seed, labels)


def reverse(comparison: Comparison, one: Compared, workspace: Workspace) -> Inputs | None:
    """The states of a network's own flow by Heun's method, at the levels that it was trained on; None if they are none.

    The flow starts from noise around the mean intensity of the training images, which matters only where its highest level
    does not drown them.
    """
    config, sigmas = comparison.config, [comparison.sigmas[place] for place in one.within(comparison.sigmas)]
    if not sigmas:
        return None

    def states() -> dict[str, npt.NDArray[np.generic]]:
        centre = float(chosen(one.training, CENTRE_IMAGES, config.seed).mean())
        shape, device = one.denoiser.image_shape, workspace.device

        def there(noisy: Tensor, sigma: float) -> Tensor:
            denoised: Tensor = one.denoiser(noisy.to(device), sigma)
            return denoised.cpu()

        found = reverse_inputs(there, shape, sigmas, config.inputs, config.seed, centre)
        kept: dict[str, npt.NDArray[np.generic]] = {"noisy": np.stack([state.noisy.numpy() for state in found])}
        if one.training.labels is not None:
            neighbours = nearest(found[-1].denoised, one.training).index[:, 0] % one.training.stored
            kept["labels"] = np.asarray(one.training.own_labels()[neighbours], dtype=np.int64)
        return kept

    stored = workspace.computed(f"reverse/{one.name}", states)
    return ReverseInputs(f"reverse {one.name}", sigmas, stored["noisy"], stored.get("labels"))


def outputs(name: str, denoiser: Denoiser, inputs: Inputs, workspace: Workspace) -> npt.NDArray[np.float32]:
    """What a denoiser makes of inputs, (S, B, C, H, W), computed in cells of a few levels.

    Args:
        name: of the denoiser in cells; another one for every denoiser of the run.
        denoiser: any; networks are on the run's device.
        inputs: what it gets.
        workspace: of the run.
    """
    parts = []
    for start in track(range(0, len(inputs.sigmas), LEVELS_A_CELL), f"{name} on {IN_WORDS[inputs.kind]}"):
        levels = range(start, min(start + LEVELS_A_CELL, len(inputs.sigmas)))
        compute = functools.partial(_denoised, denoiser, inputs, levels, workspace)
        parts.append(workspace.computed(f"{inputs.key}/{name}/{start}", compute))
    return np.concatenate(parts)


def _denoised(denoiser: Denoiser, inputs: Inputs, levels: range, workspace: Workspace) -> npt.NDArray[np.float32]:
    together = len(levels) if workspace.device.type == "cuda" else 1
    return denoised_at(denoiser, inputs, levels, workspace.device, together)


def denoised_at(
    denoiser: Denoiser, inputs: Inputs, levels: Sequence[int], device: torch.device, together: int
) -> npt.NDArray[np.float32]:
    """What a denoiser makes of the inputs of some levels, (levels, B, C, H, W).

    Args:
        denoiser: any.
        inputs: what it gets.
        levels: places in theirs.
        device: where it gets them.
        together: levels in one batch: a processor loses nothing by one, a device waits once for every batch.
    """
    rows = []
    with torch.no_grad():
        for start in range(0, len(levels), together):
            some = levels[start : start + together]
            noisy = torch.stack([inputs.at(level) for level in some])  # (levels, B, C, H, W)
            sigma = torch.tensor([inputs.sigmas[level] for level in some], dtype=noisy.dtype)
            batch, levels_of = noisy.flatten(0, 1).to(device), sigma.repeat_interleave(noisy.shape[1]).to(device)
            denoised = denoiser(batch, levels_of if len(some) > 1 else inputs.sigmas[some[0]])
            rows.append(denoised.cpu().float().reshape(noisy.shape).numpy())
    return np.concatenate(rows)
