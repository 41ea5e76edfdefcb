"""The feature space that needs no file: contours and where they lie, by fixed filters.

An image is brought to 32×32, its luminance centred and divided by its own contrast, and described in four groups:

- *arrangement*: the modulus of the lowest spatial frequencies of every band's energy, ``|FFT |p * ψ_{j,θ}||``, where ψ are
  oriented band-pass filters (the first layer of a scattering network; Bruna & Mallat, arXiv 1203.1512). The modulus forgets
  where the picture lies, not how its parts lie to each other;
- *spectrum*: the modulus of the lowest spatial frequencies of the image, ``|FFT p|``, which forgets the same;
- *energy*: the energy of every band in 4×4 places, so that what lies where still counts;
- *layout*: the picture in 8×8 blocks, and its colours in 4×4.

Of moduli and energies the square root is taken, and what they are on average for *dead leaves* (random overlapping discs, a
model of natural images; Lee, Mumford & Huang 2001) is subtracted: unrelated images have cosines around 0.1 to 0.3 then, not
0.9. Every group has a fixed length, its weight; mean intensity and contrast have small weights of their own.

A copy that is shifted a little, brighter, of less contrast, a little blurred or cropped stays close to its image, closer
than in pixels; the tests measure how much. It knows nothing of objects: it is no SSCD and no Inception, and numbers in it
compare with numbers in it only.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize, pad

from scorescope.probes.features import FeatureSpace

SIDE, MARGIN = 32, 8  # pixels; the margin is mirrored, so that borders make no contours
SCALES, ORIENTATIONS = 4, 4
HIGHEST = 0.375  # cycles a pixel, centre of the finest band; each coarser one lies an octave below
POOLING = 3.0  # pixels, standard deviation
FLAT = 0.05  # contrast below which an image counts as flat
ENERGY_PLACES, LAYOUT_PLACES, COLOUR_PLACES = 4, 8, 4  # a side
ARRANGEMENT_FREQUENCY, SPECTRUM_FREQUENCY = 2, 4  # cycles an image, at most
WEIGHTS = {"arrangement": 1.0, "spectrum": 1.0, "energy": 0.7, "layout": 0.5}
TONE_WEIGHT, COLOUR_WEIGHT = 0.1, 0.5
LEAVES, DISCS = 192, 60
IN_CACHE = 16  # images whose bands are filtered together


class EmbeddedFeatures(FeatureSpace):
    """Fixed filters; takes images of any size, one channel or three. 571 numbers an image, 32 more for colours."""

    name = "embedded"
    description = (
        "fixed oriented filters: modulus of the low frequencies of the picture and of its band energies, energies in 4×4"
        " places, 8×8 layout, tone, colour; needs no file, knows nothing of objects"
    )

    def __init__(self) -> None:
        super().__init__()
        for group, mean in _groups(dead_leaves()).items():
            centre = mean.mean(0) if group != "layout" else torch.zeros(mean.shape[1])
            self.register_buffer(group, centre)

    def features(self, images: Tensor) -> Tensor:
        """See `FeatureSpace.features`."""
        groups = _groups(images)
        parts = [weight * normalize(groups[group] - getattr(self, group), dim=1) for group, weight in WEIGHTS.items()]
        grey = images.mean(1)
        contrast = torch.log(grey.std((1, 2)) + FLAT)
        parts.append(TONE_WEIGHT * torch.stack([grey.mean((1, 2)), contrast], 1))
        if images.shape[1] == 3:
            parts.append(COLOUR_WEIGHT * torch.tanh(_colours(images)))
        return torch.cat(parts, 1)


def dead_leaves() -> Tensor:
    """The images that say what is usual, always the same, float (192, 1, 32, 32): discs of radius 2 to 24 over each other."""
    random = torch.Generator().manual_seed(0)

    def uniform() -> Tensor:
        return torch.rand(LEAVES, 1, 1, generator=random)

    rows = (torch.arange(SIDE) + 0.5)[:, None]
    columns = (torch.arange(SIDE) + 0.5)[None]
    images = torch.zeros(LEAVES, SIDE, SIDE)
    for _ in range(DISCS):
        radius, row, column, value = 2 * 12 ** uniform(), SIDE * uniform(), SIDE * uniform(), 2 * uniform() - 1
        images = torch.where((rows - row) ** 2 + (columns - column) ** 2 < radius**2, value, images)
    return images[:, None]


def _groups(images: Tensor) -> dict[str, Tensor]:
    """The groups before their means are subtracted, each (B, F)."""
    picture = _resized(images, SIDE).mean(1)
    picture = picture - picture.mean((1, 2), keepdim=True)
    picture = picture / (picture.std((1, 2), keepdim=True) + FLAT)
    filters, places = _filters(images.device), _places(images.device)
    spectrum = torch.fft.fft2(pad(picture[:, None], (MARGIN,) * 4, mode="reflect"))
    arrangement, pooled = [], []
    for few in spectrum.split(IN_CACHE):
        energy = _modulus(torch.fft.ifft2(few * filters))  # (b, bands, padded side, padded side)
        arrangement.append(_low_frequencies(_inside(energy), ARRANGEMENT_FREQUENCY))
        pooled.append((places @ energy @ places.T).sqrt().flatten(1))
    return {
        "arrangement": torch.cat(arrangement),
        "spectrum": _low_frequencies(picture[:, None], SPECTRUM_FREQUENCY),
        "energy": torch.cat(pooled),
        "layout": _resized(picture[:, None], LAYOUT_PLACES).flatten(1),
    }


def _colours(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return _resized(torch.stack([red - green, (red + green) / 2 - blue], 1), COLOUR_PLACES).flatten(1)


def _resized(images: Tensor, side: int) -> Tensor:
    return interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


def _inside(padded: Tensor) -> Tensor:
    return padded[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def _modulus(values: Tensor) -> Tensor:
    """|z|; NumPy's loop over it is several times as fast as PyTorch's."""
    return torch.from_numpy(np.abs(values.numpy())) if values.device.type == "cpu" else values.abs()


def _low_frequencies(maps: Tensor, highest: int) -> Tensor:
    """Root of the modulus at the frequencies up to `highest`, one of each conjugate pair, (B, K, H, W) -> (B, F)."""
    across, down = _waves(maps.shape[-1], highest, maps.device), _waves(maps.shape[-2], highest, maps.device)
    # Of every side only the few waves that are asked for: two small products in place of a whole transform.
    real, imaginary = maps @ across.real.T, maps @ across.imag.T  # (B, K, H, 2·highest + 1)
    spectrum = _modulus(
        torch.complex(down.real @ real - down.imag @ imaginary, down.real @ imaginary + down.imag @ real)
    )
    rows, columns = zip(
        *[
            (row, column)
            for column in range(highest + 1)
            for row in range(-highest, highest + 1)
            if column > 0 or row >= 0
        ],
        strict=True,
    )
    chosen: Tensor = spectrum[..., [row % (2 * highest + 1) for row in rows], list(columns)]
    return chosen.sqrt().flatten(1)


@functools.lru_cache(8)
def _waves(side: int, highest: int, device: torch.device) -> Tensor:
    """Waves of 0 … highest, −highest … −1 cycles over `side` pixels, orthonormal: complex64 (2·highest + 1, side)."""
    cycles = torch.fft.fftfreq(2 * highest + 1, 1 / (2 * highest + 1), dtype=torch.float64)
    phase = -2 * math.pi / side * cycles[:, None] * torch.arange(side)
    return torch.polar(torch.full_like(phase, side**-0.5), phase).to(torch.complex64).to(device)


@functools.lru_cache(4)
def _filters(device: torch.device) -> Tensor:
    """Oriented band-pass filters over the full spectrum of a padded image, (bands, side, side)."""
    side = SIDE + 2 * MARGIN
    rows, columns = torch.fft.fftfreq(side)[:, None], torch.fft.fftfreq(side)[None]
    bands = []
    for scale in range(SCALES):
        centre = HIGHEST / 2**scale
        for step in range(ORIENTATIONS):
            angle = math.pi * step / ORIENTATIONS
            along = columns * math.cos(angle) + rows * math.sin(angle)
            across = rows * math.cos(angle) - columns * math.sin(angle)
            band = torch.exp(-(((along - centre) / (0.35 * centre)) ** 2 + (across / (0.63 * centre)) ** 2) / 2)
            band[0, 0] = 0
            bands.append(band)
    return torch.stack(bands).to(device)


@functools.lru_cache(4)
def _places(device: torch.device) -> Tensor:
    """Weights with which the pixels of a padded image make its places, (places, side): blocks with soft edges."""
    pixels = torch.arange(-MARGIN, SIDE + MARGIN)
    distance = (torch.arange(SIDE)[:, None] - pixels[None]).float()
    soft = torch.exp(-((distance / POOLING) ** 2) / 2).reshape(ENERGY_PLACES, -1, len(pixels)).sum(1)
    return (soft / soft.sum(1, keepdim=True)).to(device)
