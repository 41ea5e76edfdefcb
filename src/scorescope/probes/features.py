"""Feature spaces: what an image is compared by, when pixels are not what counts.

A feature space maps images (B, C, H, W) in [-1, 1] to vectors (B, F). The similarity of two images is the cosine of their
vectors, as in Niedoba et al. (ICML 2025, arXiv 2411.19339, figure 9), and the quality of samples is told by how the vectors
of samples and of real images are distributed (`scorescope.probes.quality`). Which space was used belongs beside every number:
numbers of different spaces cannot be compared.

Here are the idea, plain pixels, and functions of the user's own. Networks in TorchScript files are in `features_torchscript`,
the space that needs no file in `features_embedded`, and words like "sscd:FILE" are understood by `features_opening`.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from scorescope.data.images import ImageSet, to_float
from scorescope.foundation import UserError

Features = npt.NDArray[np.float32]
AT_ONCE = 64


class FeatureSpace(nn.Module, ABC):
    """A map from images to vectors.

    Attributes:
        name: a few words, for tables and captions.
        description: what it is and how images are prepared for it, in a sentence.
        published: whether Fréchet distances in it can be compared with the FID of papers.
        classifies: whether `log_probabilities` can be asked.
    """

    name: str
    description: str
    published: bool = False
    classifies: bool = False

    def forward(self, images: Tensor) -> Tensor:
        """Vectors of images, (B, C, H, W) in [-1, 1] -> float (B, F).

        Raises UserError for images of another shape, with NaN or infinite values, or of a kind that the space does not take.
        """
        vectors = self.features(_checked(images, self.name))
        if vectors.ndim != 2 or len(vectors) != len(images):
            raise UserError(
                f"{self.name} must give one vector an image, ({len(images)}, F), and gave {tuple(vectors.shape)}"
            )
        if not bool(torch.isfinite(vectors).all()):
            raise UserError(f"{self.name} gave vectors with NaN or infinite values")
        return vectors

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """The vectors themselves, for checked images."""

    def log_probabilities(self, images: Tensor) -> Tensor:
        """Log probabilities of classes, (B, C, H, W) in [-1, 1] -> (B, K). Raises UserError if the space has no classes."""
        raise UserError(f"{self.name} knows no classes, and the inception score needs them")


class PixelFeatures(FeatureSpace):
    """The pixels themselves, centred by the image's own mean, as `scorescope.probes.similarity` has them."""

    name = "pixels"
    description = "pixels, centred by the mean of their image"

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureSpace.features`."""
        flat = images.flatten(1).float()
        return flat - flat.mean(1, keepdim=True)


class FunctionFeatures(FeatureSpace):
    """A function of the user's own.

    Args:
        function: images (B, C, H, W) float32 in [-1, 1] -> (B, F), as a tensor or an array.
        name: what tables call it.
    """

    def __init__(self, function: Callable[[Tensor], Any], name: str) -> None:
        super().__init__()
        self.function = function
        self.name = name
        self.description = f"the function {name}"

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureSpace.features`. Raises UserError if the function fails."""
        try:
            return torch.as_tensor(self.function(images)).float()
        except Exception as error:
            raise UserError(f"{self.name} fails: {type(error).__name__}: {first_line(error)}") from error


def function_features(file_and_name: str) -> FunctionFeatures:
    """The space of a function in a Python file, "file.py:function"; the file is run, by its owner's wish.

    Raises UserError if there is no such file or function, or the file fails.
    """
    path, _, name = file_and_name.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path) if Path(path).is_file() else None
    if not path or spec is None or spec.loader is None:
        raise UserError(
            f"a feature function is written FILE.py:FUNCTION, and {file_and_name!r} names no Python file that is there"
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path} fails: {type(error).__name__}: {first_line(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"{path} has no function {name!r}")
    return FunctionFeatures(function, file_and_name)


def vectors_of(
    space: Callable[[Tensor], Tensor],
    images: ImageSet | Tensor,
    *,
    device: torch.device | str = "cpu",
    at_once: int = AT_ONCE,
) -> Features:
    """Vectors of many images, a batch at a time; besides the result, memory does not grow with their number.

    Args:
        space: a `FeatureSpace` on `device`, or one of its methods.
        images: a set, or (N, C, H, W) in [-1, 1].
        device: where the vectors are computed.
        at_once: images a batch.

    Returns:
        float32 (N, F).
    """
    parts = []
    with torch.no_grad():
        for batch in _batches(images, at_once):
            parts.append(space(batch.to(device)).float().cpu().numpy())
    return np.concatenate(parts)


def cosines(first: Features, second: Features) -> npt.NDArray[np.float64]:
    """Cosine of corresponding vectors, (N, F) twice -> (N,) in [-1, 1]; that of a vector of zeros is 0."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(1) / np.where(lengths > 0, lengths, 1.0)
    return np.asarray(cosine.clip(-1, 1))


def first_line(error: BaseException) -> str:
    """What an error says, as far as one line goes; the last one of a TorchScript traceback, which says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if "TorchScript interpreter" in lines[0] else lines[0]


def _batches(images: ImageSet | Tensor, at_once: int) -> Iterator[Tensor]:
    if isinstance(images, ImageSet):
        for _, pixels in images.chunks(at_once):
            yield to_float(pixels)
    else:
        yield from torch.split(images, at_once)


def _checked(images: Tensor, name: str) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise UserError(f"{name} takes images (B, 1 or 3, H, W), found {tuple(images.shape)}")
    if not images.is_floating_point() or not bool(torch.isfinite(images).all()):
        raise UserError(f"{name} takes float images in [-1, 1] without NaN and infinite values")
    return images.float()
