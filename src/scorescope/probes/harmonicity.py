"""Are the eigenvectors of a denoiser waves, and do they follow the image's contours? Numbers for what the eye sees.

For each vector of a basis:

- *frequency* and *concentration*: the energy of its two-dimensional cosine transform, which knows no jump at the borders. The
  disc of one period per image side that holds most of it gives the share it holds (concentration: 1 for a wave, little for a
  mixture of many) and the mean frequency within it, in periods a pixel.
- *on contours*: the share of its energy at the pixels of the clean image's contours (see `contours`).
- *along*: of how fast it changes there, the share of the change that is along the contour; 0 is a vector that only changes
  across it, as the contour itself does, ½ one without a preference.

The leading eigenvectors span a space, and any rotation of them spans the same. So the control is random rotations of them:
what the eigenvectors have and their rotations do not is a property of the basis, not of the space. Two numbers compare: the
mean concentration; and how differently the vectors are placed, the standard deviation over vectors of their share on contours
(*specialization*), since that share's mean is the same for every rotation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from scorescope.probes.contours import Contours, gradients

Floats = npt.NDArray[np.float64]
ROTATIONS = 100


@dataclass(frozen=True)
class Harmonicity:
    """Measurements on K images that are the vectors of a basis.

    Attributes:
        frequency: of the strongest wave, periods a pixel, (K,).
        concentration: share of the energy in that wave, (K,).
        on_contours: share of the energy on contours, (K,).
        along: share of the change on contours that is along them, (K,); NaN where there is no change.
    """

    frequency: Floats
    concentration: Floats
    on_contours: Floats
    along: Floats

    def summary(self) -> dict[str, float]:
        """``concentration``: mean; ``specialization``: deviation of the share on contours; ``along``: mean."""
        known = self.along[np.isfinite(self.along)]
        return {
            "concentration": float(self.concentration.mean()),
            "specialization": float(self.on_contours.std()),
            "along": float(known.mean()) if len(known) else math.nan,
        }


@dataclass(frozen=True)
class Compared:
    """A number of a basis, and the same of random rotations of it.

    Attributes:
        value: of the basis.
        control: of each rotation, (R,).
    """

    value: float
    control: Floats

    @property
    def control_mean(self) -> float:
        """Mean of the rotations."""
        return float(self.control.mean())

    @property
    def control_interval(self) -> tuple[float, float]:
        """What 95 % of the rotations lie in."""
        low, high = np.quantile(self.control, [0.025, 0.975])
        return float(low), float(high)

    @property
    def ratio(self) -> float:
        """Of the basis over the mean of the rotations."""
        return self.value / self.control_mean if self.control_mean else math.nan


def harmonicity(vectors: npt.ArrayLike, contours: Contours) -> Harmonicity:
    """Measure K vectors as images.

    Args:
        vectors: (K, C, H, W), of any length but zero; their energies are summed over channels.
        contours: of the clean image.

    Raises:
        ValueError: vectors of another shape than the contours; a vector of zeros.
    """
    images = _unit(vectors)
    if images.shape[2:] != contours.on.shape:
        raise ValueError(f"vectors {images.shape[2:]} and contours {contours.on.shape} have different shapes")
    frequency, concentration = strongest_wave(images)
    energy = images**2
    down, right = gradients(images)
    change = (down**2 + right**2)[..., contours.on].sum((1, 2))
    along = (down * contours.along[0] + right * contours.along[1])[..., contours.on]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(change > 0, (along**2).sum((1, 2)) / change, np.nan)
    return Harmonicity(frequency, concentration, energy[..., contours.on].sum((1, 2)), share)


def strongest_wave(vectors: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Frequency in periods a pixel, (K,), and share of the energy, (K,), of the strongest wave in (K, C, H, W)."""
    images = _unit(vectors)
    height, width = images.shape[2:]
    energy = (fft.dctn(images, axes=(2, 3), norm="ortho") ** 2).sum(1)  # (K, H, W); index u is u/2 periods a side
    near = _disc()
    held = ndimage.convolve(energy, near[None], mode="constant")
    best = held.reshape(len(images), -1).argmax(1)
    radius = np.hypot(np.arange(height)[:, None] / (2 * height), np.arange(width)[None, :] / (2 * width))
    frequency, concentration = np.empty(len(images)), np.empty(len(images))
    for place, (row, column) in enumerate(zip(*np.unravel_index(best, (height, width)), strict=True)):
        rows, columns = np.ogrid[:height, :width]
        inside = energy[place] * ((rows - row) ** 2 + (columns - column) ** 2 <= _RADIUS**2)
        concentration[place] = inside.sum()
        frequency[place] = (inside * radius).sum() / inside.sum()
    return frequency, concentration


def against_rotations(
    vectors: npt.ArrayLike, contours: Contours, rng: np.random.Generator, rotations: int = ROTATIONS
) -> dict[str, Compared]:
    """The summary of a basis beside that of random rotations of the space it spans.

    Args:
        vectors: orthonormal, (K, C, H, W).
        contours: of the clean image.
        rng: of the rotations, which are uniform over all of them (Haar).
        rotations: how many.

    Returns:
        By the names of `Harmonicity.summary`.
    """
    images = _unit(vectors)
    flat = images.reshape(len(images), -1)
    found: dict[str, list[float]] = {}
    for _ in range(rotations):
        mixed = random_rotation(len(flat), rng) @ flat
        for name, value in harmonicity(mixed.reshape(images.shape), contours).summary().items():
            found.setdefault(name, []).append(value)
    own = harmonicity(images, contours).summary()
    return {name: Compared(own[name], np.array(values)) for name, values in found.items()}


def concentration_of_rotations(
    vectors: npt.ArrayLike, rng: np.random.Generator, rotations: int = ROTATIONS
) -> tuple[Floats, Floats]:
    """Between which concentrations the vectors of random rotations lie, 95 % of them: two numbers, as () arrays."""
    images = _unit(vectors)
    flat = images.reshape(len(images), -1)
    found = [
        strongest_wave((random_rotation(len(flat), rng) @ flat).reshape(images.shape))[1] for _ in range(rotations)
    ]
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975])
    return low, high


def random_rotation(dimension: int, rng: np.random.Generator) -> Floats:
    """A uniform (Haar) random orthogonal matrix (K, K) (Mezzadri 2007)."""
    q, r = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    signs = np.where(np.diag(r) < 0, -1.0, 1.0)
    return np.asarray(q * signs)


_RADIUS = 2  # indices of the cosine transform: one period per side


def _disc() -> Floats:
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    return np.asarray(offsets[:, None] ** 2 + offsets[None, :] ** 2 <= _RADIUS**2, dtype=np.float64)


def _unit(vectors: npt.ArrayLike) -> Floats:
    images = np.asarray(vectors, dtype=np.float64)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"vectors are images (K, C, H, W), at least one, not {images.shape}")
    length = np.sqrt((images**2).sum((1, 2, 3), keepdims=True))
    if not (length > 0).all():
        raise ValueError("a vector of zeros is not one of a basis")
    return np.asarray(images / length)
