"""Whether an opened network denoises, and if it does not, which other way of using it would.

A checkpoint of another project seldom says all of how it is used: what its network predicts, over which schedule, in which
order its attention cuts its channels. What was assumed is checked by the one thing that every diffusion model does: a few
images are noised at four levels, and the gain in PSNR of denoising them is compared with that of a Gaussian model of the
data, the best linear filter. A network that is used wrongly loses where a Gaussian gains.

Where there is reason to doubt, the alternatives that the format's reader wrote down (see `networks.readers.formats`) are
tried, one assumption after the other, each with the best of those before, and ranked by their gain.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.data import ImageSet
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.networks import OpenedNetwork, classes_of, open_checkpoint
from scorescope.noise import add_noise
from scorescope.probes.errors import squared_error

LEVELS = (0.1, 0.3, 0.9, 2.5)
# how many images at most, and how many values in them, so that large images cost no more
IMAGES, FEWEST, VALUES = 16, 4, 1 << 17
GAUSSIAN_IMAGES, GAUSSIAN_VALUES = 512, 1 << 24
# dB: how far below the Gaussian is far; how negative a gain may be by chance; how much better is clearly better; how much
# worse is about as good, and how much is the same
FAR_BELOW, NEGATIVE, CLEARLY, AS_GOOD, EQUAL = 3.0, 1.0, 3.0, 0.5, 0.1

Opener = Callable[[Mapping[str, Any]], OpenedNetwork]


@dataclass(frozen=True)
class Trial:
    """One way of using the network.

    Attributes:
        arguments: what was said beside the user's own words, as for ``--arch-arg``; empty for the way it was opened.
        gains: PSNR of denoised minus that of noisy images at every level, dB.
    """

    arguments: Mapping[str, Any]
    gains: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the levels, dB."""
        return sum(self.gains) / len(self.gains)

    @property
    def words(self) -> str:
        """The arguments as a command line has them."""
        return " ".join(f"--arch-arg {name}={_written(value)}" for name, value in self.arguments.items())


@dataclass(frozen=True)
class OpeningCheck:
    """What was found.

    Attributes:
        sigmas: the levels.
        images: how many images.
        data: what the data set is called.
        gaussian: gains of the Gaussian model, dB.
        own: the network as it was opened.
        trials: other ways that were tried, best first.
    """

    sigmas: tuple[float, ...]
    images: int
    data: str
    gaussian: tuple[float, ...]
    own: Trial
    trials: tuple[Trial, ...] = field(default=())

    @property
    def gaussian_mean(self) -> float:
        """Over the levels, dB."""
        return sum(self.gaussian) / len(self.gaussian)

    @property
    def doubtful(self) -> bool:
        """Whether it loses at some level, or gains far less than the Gaussian model does."""
        return is_doubtful(self.own, self.gaussian_mean)

    @property
    def better(self) -> Trial | None:
        """The best other way, if it is clearly better than the one it was opened in; of equal ones, the shortest to say."""
        if not self.trials or self.trials[0].mean <= self.own.mean + CLEARLY:
            return None
        return _shortest(self.trials, EQUAL)

    @property
    def unambiguous(self) -> Trial | None:
        """A way that may be taken unasked.

        Clearly better than the way in which the network was opened, which is doubtful, about as good as a Gaussian model at
        least, and such that all ways that are about as good say the same and more.
        """
        if self.better is None or not self.doubtful:
            return None
        way = _shortest(self.trials, AS_GOOD)
        rivals = [trial for trial in self.trials if trial.mean >= self.trials[0].mean - AS_GOOD]
        agreed = all(way.arguments.items() <= trial.arguments.items() for trial in rivals)
        return way if agreed and not is_doubtful(way, self.gaussian_mean) else None

    @property
    def sentence(self) -> str:
        """What is to be said of it, in one sentence or two."""
        levels = ", ".join(f"{sigma:g}" for sigma in self.sigmas)
        measured = (
            f"denoising {self.images} images of {self.data} at σ = {levels} it gains {_gains(self.own.gains)} dB, a Gaussian"
            f" model of them {_gains(self.gaussian)} dB"
        )
        if not self.doubtful:
            return f"Checked: {measured}."
        said = f"Doubtful: {measured}."
        best = self.better
        if best is not None and is_doubtful(best, self.gaussian_mean):
            return (
                f"{said} The best of {len(self.trials)} other ways of using it gains {best.mean:+.1f} dB on average, no good"
                f" either ({best.words}): it was trained little, or on other images."
            )
        if best is not None:
            return (
                f"{said} Used otherwise it gains {best.mean:+.1f} dB on average instead of {self.own.mean:+.1f}:"
                f" {best.words}."
            )
        if self.trials:
            return f"{said} None of {len(self.trials)} other ways of using it is clearly better."
        return f"{said} It was trained little, on other images, or is used in another way than it was trained for."


def _shortest(trials: Sequence[Trial], within: float) -> Trial:
    """Of the ways that are within so many dB of the best, the one with the fewest arguments."""
    near = [trial for trial in trials if trial.mean >= trials[0].mean - within]
    return min(near, key=lambda trial: len(trial.arguments))


def is_doubtful(trial: Trial, gaussian_mean: float) -> bool:
    """Whether gains are negative at a level, or far below those of a Gaussian model on average."""
    return min(trial.gains) < -NEGATIVE or not trial.mean >= gaussian_mean - FAR_BELOW


def check_opening(
    opened: OpenedNetwork,
    images: ImageSet,
    again: Opener,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    class_label: int | None = None,
    always: bool = False,
) -> OpeningCheck:
    """Denoise a few images with an opened network, and if there is reason to doubt, with it used in other ways.

    Args:
        opened: the network; it is moved to `device`.
        images: those that it was trained on, or images like them, of its shape.
        again: opens the same file with more arguments; raises UserError for those that do not fit.
        seed: of the choice of images and their noise.
        device: where networks run.
        class_label: the class that the network is asked for; by default every image's own, if there are classes.
        always: whether other ways are tried without reason to doubt, too.
    """
    place = device or torch.device("cpu")
    order = np.random.default_rng(seed).permutation(images.stored)
    pixels = math.prod(images.image_shape)
    entries = order[: max(FEWEST, min(IMAGES, VALUES // pixels))]
    others = order[len(entries) :] if len(order) >= 2 * len(entries) else order
    few = others[: max(FEWEST, min(GAUSSIAN_IMAGES, GAUSSIAN_VALUES // pixels))]
    clean = images.tensor(entries)
    low, high = opened.config.sigma_range
    sigmas = tuple(float(f"{min(max(level, low), high):.3g}") for level in LEVELS)
    generator = torch.Generator().manual_seed(seed)
    noisy = [add_noise(clean, sigma, generator) for sigma in sigmas]
    gaussian = _few_image_gaussian(images.tensor(few))
    reference = tuple(_gain(gaussian(y, s), clean, y) for y, s in zip(noisy, sigmas, strict=True))
    labels = _labels(opened, images, entries, class_label)

    def gains(of: OpenedNetwork) -> tuple[float, ...]:
        of.network.to(place)
        return tuple(
            _gain(_denoised(of, y.to(place), s, labels).cpu(), clean, y) for y, s in zip(noisy, sigmas, strict=True)
        )

    own = Trial({}, gains(opened))
    trials: tuple[Trial, ...] = ()
    if always or is_doubtful(own, sum(reference) / len(reference)):
        trials = _tried(opened, own, again, gains)
    return OpeningCheck(sigmas, len(entries), images.name, reference, own, trials)


def open_checked(
    path: Path | str,
    architecture: str | None,
    arguments: Mapping[str, Any],
    images: ImageSet,
    device: torch.device,
    class_label: int | None = None,
) -> OpenedNetwork:
    """A checkpoint for use on images, `checked` on them if it takes them. Arguments as `open_checkpoint` has them."""
    sides = images.image_shape[1:]
    opened = open_checkpoint(path, architecture, arguments, sides=sides)
    if opened.config.image_shape != images.image_shape:
        return opened

    def again(more: Mapping[str, Any]) -> OpenedNetwork:
        return open_checkpoint(path, architecture, {**arguments, **more}, sides=sides, like=opened)

    return checked(opened, images, again, device, class_label, said=arguments)


def checked(
    opened: OpenedNetwork,
    images: ImageSet,
    again: Opener,
    device: torch.device,
    class_label: int | None = None,
    said: Mapping[str, Any] | None = None,
) -> OpenedNetwork:
    """An opened network after a look at whether it denoises the images at hand, where something was assumed of it.

    Where it does not, and exactly one other way of using it does, that way is taken, unless it differs in what was `said` by
    the user; what was found is said in its origin. Other arguments as for `check_opening`.
    """
    if not opened.assumed and not opened.notes:
        return opened
    found = check_opening(opened, images, again, device=device, class_label=class_label)
    if not found.doubtful:
        return opened
    other = found.unambiguous
    if other is None or not set(other.arguments).isdisjoint(said or {}):
        return replace(opened, origin=f"{opened.origin} {found.sentence}")
    taken = again(other.arguments)
    return replace(taken, origin=f"{taken.origin} {found.sentence} It is used so from here on.")


def _tried(
    opened: OpenedNetwork, own: Trial, again: Opener, gains: Callable[[OpenedNetwork], tuple[float, ...]]
) -> tuple[Trial, ...]:
    """All other ways that were tried, best first: one assumption after the other, twice if the first round found better."""
    groups = sorted((one.otherwise for one in opened.assumed if one.otherwise), key=_order)
    tried: dict[str, Trial] = {}

    def attempt(arguments: Mapping[str, Any]) -> Trial | None:
        key = json.dumps(arguments, sort_keys=True, default=str)
        if arguments and key not in tried:
            try:
                tried[key] = Trial(arguments, gains(again(arguments)))
            except (UserError, RuntimeError, IndexError, ValueError):  # a way that the file cannot be used in
                return None
        return tried.get(key) if arguments else own

    # with weights that are no good no way is better than another, so both are started from
    starts: list[Mapping[str, Any]] = [{}]
    if opened.both:
        starts.append({"weights": "raw" if opened.weights == "averaged" else "averaged"})
    for start in track(starts, description="trying other ways of using it"):
        best = attempt(start)
        for _ in range(2):
            before = best
            for group in groups:
                names = {name for way in group for name in way}
                kept = {} if best is None else {k: v for k, v in best.arguments.items() if k not in names}
                found = [best, *(attempt({**kept, **way}) for way in group)]
                best = max((one for one in found if one is not None), key=lambda trial: trial.mean, default=None)
            if best is before:
                break
    return tuple(sorted(tried.values(), key=lambda trial: -trial.mean))


def _order(ways: Sequence[Mapping[str, Any]]) -> int:
    """What the network predicts is tried first, as it costs no rebuilding and matters most; ranges and units of σ last."""
    names = {name for way in ways for name in way}
    return (
        0 if names & {"prediction", "preconditioning", "path"} else 2 if names & {"image_range", "sigma_scale"} else 1
    )


def _denoised(opened: OpenedNetwork, noisy: Tensor, sigma: float, labels: Tensor | None) -> Tensor:
    level = torch.full((len(noisy),), sigma, dtype=noisy.dtype, device=noisy.device)
    told = None if labels is None else labels.to(noisy.device)
    with torch.no_grad():
        denoised: Tensor = opened.preconditioning.denoise(opened.network, noisy, level, told)
    return denoised


def _gain(denoised: Tensor, clean: Tensor, noisy: Tensor) -> float:
    """PSNR of the denoised images minus that of the noisy ones, in dB; −99 if they are not finite or worse than that."""
    error, noise = float(squared_error(denoised, clean).mean()), float(squared_error(noisy, clean).mean())
    return max(-99.0, 10 * math.log10(noise / error)) if math.isfinite(error) and error > 0 else -99.0


def _labels(
    opened: OpenedNetwork, images: ImageSet, entries: Sequence[int] | np.ndarray[Any, Any], class_label: int | None
) -> Tensor | None:
    """The classes to ask for: the one chosen, every image's own, none, or the first where there must be one."""
    classes = classes_of(opened.network)
    if not classes.count:
        return None
    if class_label is not None:
        return torch.full((len(entries),), class_label)
    if images.labels is not None:
        own = torch.from_numpy(images.own_labels()[np.asarray(entries)].astype(np.int64))
        if int(own.min()) >= 0 and int(own.max()) < classes.count:
            return own
    return None if classes.optional else torch.zeros(len(entries), dtype=torch.int64)


def _few_image_gaussian(images: Tensor) -> Callable[[Tensor, float], Tensor]:
    """The Wiener filter of the mean and covariance of a few images (n, C, H, W), by way of their n×n products."""
    flat = images.flatten(1).double()
    mean = flat.mean(0)
    centred = flat - mean
    _, lengths, directions = torch.linalg.svd(centred, full_matrices=False)
    variances = lengths**2 / len(flat)

    def denoise(noisy: Tensor, sigma: float) -> Tensor:
        coefficients = (noisy.flatten(1).double() - mean) @ directions.T  # (B, n)
        kept = coefficients * (variances / (variances + sigma**2))
        denoised: Tensor = (mean + kept @ directions).reshape(noisy.shape).to(noisy.dtype)
        return denoised

    return denoise


def _gains(values: Sequence[float]) -> str:
    return ", ".join(f"{value:+.1f}" for value in values)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
