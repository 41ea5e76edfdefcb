"""Feature spaces of networks in TorchScript files: SSCD, Inception, and any other.

A TorchScript file holds a program with its weights. It is run by PyTorch's own interpreter, not by Python, but it is a
program: open files of people you trust.

*SSCD* (Pizzi et al., CVPR 2022, arXiv 2202.10261) is trained to find copies of images and is what Niedoba et al. compare
samples by. *Inception* is the network of the Fréchet inception distance (Heusel et al., NeurIPS 2017, arXiv 1706.08500).
Both are used with the preparation of images that was published with them, because their numbers mean little without it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from scorescope.foundation import UserError
from scorescope.probes.features import FeatureSpace, first_line

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INCEPTION_SIDE, INCEPTION_CENTRE = 299, 128.0
SSCD_SIDE = 288
RANGES: dict[str, tuple[float, float]] = {"signed": (1.0, 0.0), "unit": (0.5, 0.5), "bytes": (127.5, 127.5)}


@dataclass(frozen=True)
class Preparation:
    """What is done to images in [-1, 1] before a network sees them, in this order.

    Attributes:
        channels: 3 repeats a grey image, 1 takes the mean of colours, None leaves them.
        size: side to which they are resized, bilinear with antialiasing; None leaves them.
        range: ``signed`` [-1, 1], ``unit`` [0, 1] or ``bytes`` [0, 255].
        mean: subtracted, in that range, one number or one a channel.
        std: divided by afterwards.
    """

    channels: Literal[1, 3] | None = None
    size: int | None = None
    range: Literal["signed", "unit", "bytes"] = "signed"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, images: Tensor) -> Tensor:
        """Prepared images, (B, C, H, W) -> (B, C', H', W')."""
        prepared = with_channels(images.clamp(-1, 1), self.channels)
        if self.size is not None:
            prepared = interpolate(
                prepared, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
        scale, shift = RANGES[self.range]
        mean, std = (prepared.new_tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (prepared * scale + shift - mean) / std

    def words(self) -> str:
        """The preparation as a sentence says it."""
        size = f"resized to {self.size}×{self.size}" if self.size else "in their own size"
        low, high = {"signed": (-1, 1), "unit": (0, 1), "bytes": (0, 255)}[self.range]
        channels = f", {self.channels} channel{'s' if self.channels == 3 else ''}" if self.channels else ""
        scaled = ""
        if self.mean != (0.0,) or self.std != (1.0,):
            scaled = f", minus {_numbers(self.mean)} over {_numbers(self.std)}"
        return f"images {size}{channels}, in [{low}, {high}]{scaled}"


SSCD_PREPARATION = Preparation(channels=3, size=SSCD_SIDE, range="unit", mean=IMAGENET_MEAN, std=IMAGENET_STD)


class ScriptFeatures(FeatureSpace):
    """Any network in a TorchScript file.

    Args:
        path: of the file; its ``forward`` takes prepared images and returns (B, F), or (B, F, 1, 1).
        preparation: of the images.
        name: what tables call it; by default the file's name.

    Raises:
        UserError: the file is missing or holds no TorchScript.
    """

    def __init__(self, path: Path | str, preparation: Preparation, name: str | None = None) -> None:
        super().__init__()
        self.script = load_script(path)
        self.preparation = preparation
        self.name = name or Path(path).name
        self.description = f"{self.name} (TorchScript file {Path(path).name}; {preparation.words()})"

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureSpace.features`. Raises UserError if the network does not take the images."""
        return run_script(self.script, self.name, self.preparation(images)).float()


def sscd(path: Path | str) -> ScriptFeatures:
    """SSCD from its published TorchScript file: images of 288×288, three channels, ImageNet's mean and deviation."""
    return ScriptFeatures(path, SSCD_PREPARATION, "SSCD")


class InceptionFeatures(FeatureSpace):
    """Inception with the FID's own preparation: 8-bit images, three channels, resized to 299×299.

    The TorchScript file that StyleGAN's authors published (``inception-2015-12-05.pt``, the weights of 2015) resizes and scales
    images itself, and says so by arguments called ``return_features`` and ``no_output_bias``; it also gives the classes that
    the inception score needs. Any other file is given what the original graph was: images resized as TensorFlow 1 did (see
    `resize_like_tensorflow`) and scaled to ``(x − 128) / 128``.

    Args:
        path: of the TorchScript file.

    Raises:
        UserError: the file is missing or holds no TorchScript.
    """

    published = True
    name = "Inception"

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self.script = load_script(path)
        arguments = {argument.name for argument in self.script.forward.schema.arguments}
        self.prepares_itself = "return_features" in arguments
        self.classifies = self.prepares_itself and "no_output_bias" in arguments
        who = "which the file does itself" if self.prepares_itself else "as TensorFlow 1 did, scaled to (x − 128) / 128"
        self.description = (
            f"Inception (TorchScript file {Path(path).name}; 8-bit images, 3 channels, resized to 299×299, {who})"
        )

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureSpace.features`."""
        levels = as_bytes(images)
        if self.prepares_itself:
            return run_script(self.script, self.name, levels.to(torch.uint8), return_features=True).float()
        prepared = (resize_like_tensorflow(levels, INCEPTION_SIDE) - INCEPTION_CENTRE) / INCEPTION_CENTRE
        return run_script(self.script, self.name, prepared).float()

    def log_probabilities(self, images: Tensor) -> Tensor:
        """See `FeatureSpace.log_probabilities`; the classes' biases are left out, as in the published score."""
        if not self.classifies:
            return super().log_probabilities(images)
        found = run_script(self.script, self.name, as_bytes(images).to(torch.uint8), no_output_bias=True)
        return found.double().clamp_min(torch.finfo(torch.float32).tiny).log()


def as_bytes(images: Tensor) -> Tensor:
    """What an 8-bit colour file of an image in [-1, 1] holds: float (B, 3, H, W), whole numbers from 0 to 255."""
    return with_channels(((images.clamp(-1, 1) + 1) * 127.5).round(), 3)


def with_channels(images: Tensor, channels: int | None) -> Tensor:
    """Images (B, C, H, W) with 1 or 3 channels: grey repeated, colours averaged."""
    if channels is None or images.shape[1] == channels:
        return images
    return images.expand(-1, 3, -1, -1) if channels == 3 else images.mean(1, keepdim=True)


def resize_like_tensorflow(images: Tensor, side: int) -> Tensor:
    """Bilinear resizing as in TensorFlow 1, (B, C, H, W) -> (B, C, side, side).

    Output pixel i lies at ``i · H / side`` of the input, corner on corner and without antialiasing. Published FIDs are
    computed from images resized like that; another convention shifts them.
    """
    rows, columns = (_interpolation(length, side).to(images) for length in images.shape[-2:])
    return rows @ images @ columns.T


def load_script(path: Path | str) -> Any:
    """A TorchScript module, in evaluation mode. Raises UserError if the file is missing or holds none."""
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's, about TorchScript as a whole
            script: Any = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
            return script.eval()
    except Exception as error:
        raise UserError(
            f"{path} holds no TorchScript network ({first_line(error)}): it must be a file of torch.jit.save, not a state dict"
        ) from error


def run_script(script: Any, name: str, images: Tensor, **arguments: bool) -> Tensor:
    """What the network says of prepared images, (B, F). Raises UserError if it fails or says something else."""
    try:
        found = script(images, **arguments)
    except Exception as error:
        shape = tuple(images.shape[1:])
        raise UserError(f"{name} does not take images {shape} in {images.dtype}: {first_line(error)}") from error
    if not isinstance(found, Tensor):
        raise UserError(f"{name} must return one tensor (B, F), and returned a {type(found).__name__}")
    return found.flatten(1) if found.ndim == 4 and found.shape[2:] == (1, 1) else found


def _interpolation(length: int, side: int) -> Tensor:
    """The matrix (side, length) of linear interpolation at ``i · length / side``."""
    place = torch.arange(side, dtype=torch.float64) * (length / side)
    below = place.floor().long().clamp(max=length - 1)
    above = (below + 1).clamp(max=length - 1)
    share = place - below
    matrix = torch.zeros(side, length, dtype=torch.float64)
    matrix[torch.arange(side), below] += 1 - share
    matrix[torch.arange(side), above] += share
    return matrix


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")" if len(values) > 1 else f"{values[0]:g}"
