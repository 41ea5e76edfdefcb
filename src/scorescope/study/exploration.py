"""What an explorer shows of one run: noisy images and what every denoiser makes of them, where pixels come from, samples.

It lies in the run folder as ``exploration.json`` (names, levels, texts) and ``exploration.npz`` (arrays). Images are kept as
bytes, as they are shown; numbers that are read are kept as they were measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scorescope.foundation import UserError
from scorescope.study.storage import read_arrays, read_json, write_arrays, write_strict_json

SCHEMA = 1
EXPLORATION_FILE, ARRAYS_FILE = "exploration.json", "exploration.npz"
Bytes = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Exploration:
    """What was measured at I noisy images and S noise levels, for D denoisers, P output pixels and K windows.

    Attributes:
        model: what the network is called.
        training_set: name of its training images.
        held_out_set: name of the held-out images; empty if there are none.
        denoisers: D names: the network, the optimal denoiser, then the mechanisms, the nearest to the network first.
        sigmas: S levels, high to low.
        kinds: for every image ``held-out`` or ``training``.
        sides: of the K windows, in pixels; the last covers the whole image from every pixel.
        spectrum_sigmas: L levels at which the derivative was decomposed; empty if it was not.
        missing: part of the explorer -> why it is not there, in a sentence.
        clean: the images, (I, C, H, W).
        noisy: (S, I, C, H, W), the same noise at every level.
        denoised: (S, I, D, C, H, W).
        distances: mean squared difference of every denoiser to the network, (S, I, D).
        pixels: row and column of the P output pixels, (P, 2).
        sensitivity: at which part of the noisy image the network looks to make each of them, (S, I, P, H, W): the square
            root of the summed magnitudes of the derivative, as a share of its largest, in 255ths; S = 0 where it is not there.
        peaks: the largest of every map, not its square root, (S, I, P).
        side_errors: mean squared difference between what the window of each side makes of the 3×3 pixels around each output
            pixel, and the network, (S, I, P, K).
        best: which of the windows explains it: of those that are as near as the nearest, the smallest, (S, I, P).
        behind: the likeliest training images of that window of every output pixel, (S, I, P, T): places in
            `training`; −1 where there are fewer, −2 where the image is not kept.
        behind_entries: the same as entries of the training set.
        weights: their posterior weights, (S, I, P, T).
        effective: exp of the entropy of that window's weights, (S, I, P).
        training: M training images that are referred to, (M, C, H, W).
        entries: which entries of the training set they are, (M,).
        samples: of the network, the nearest to a training image first, (n, C, H, W).
        neighbours: places in `training` of the most similar training images of every sample, (n, k).
        similarity: their cosine similarities to the sample, (n, k).
        spectrum_images: clean, noisy and denoised image at every level, (L, B, 3, C, H, W).
        eigenvectors: by rank, mid-grey 0, the largest entry black or white, (L, B, N, C, H, W).
        eigenvalues: of them, (L, B, N).
    """

    model: str
    training_set: str
    held_out_set: str
    denoisers: list[str]
    sigmas: list[float]
    kinds: list[str]
    sides: list[int]
    spectrum_sigmas: list[float]
    clean: Bytes
    noisy: Bytes
    denoised: Bytes
    distances: Singles
    pixels: Integers
    sensitivity: Bytes
    peaks: Singles
    side_errors: Singles
    best: Integers
    behind: Integers
    behind_entries: Integers
    weights: Singles
    effective: Singles
    training: Bytes
    entries: Integers
    samples: Bytes
    neighbours: Integers
    similarity: Singles
    spectrum_images: Bytes
    eigenvectors: Bytes
    eigenvalues: Singles
    missing: dict[str, str] = field(default_factory=dict)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that is an array, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def words(self) -> dict[str, Any]:
        """Everything else."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, np.ndarray)}

    def save(self, folder: Path) -> None:
        """Write both files, the small one last. Raises UserError if the disk is full."""
        write_arrays(folder / ARRAYS_FILE, self.arrays())
        write_strict_json(folder / EXPLORATION_FILE, {"schema": SCHEMA, **self.words()})

    @classmethod
    def load(cls, folder: Path) -> Exploration:
        """What `save` wrote. Raises UserError if a file is missing or damaged, or of another schema."""
        path = folder / EXPLORATION_FILE
        record = read_json(path)
        schema = record.pop("schema", None) if isinstance(record, dict) else None
        if schema != SCHEMA:
            raise UserError(f"{path} has schema {schema}, this version reads {SCHEMA}: run scorescope explain again")
        values = {**record, **read_arrays(folder / ARRAYS_FILE)}
        lacking = {entry.name for entry in fields(cls)} ^ set(values)
        if lacking:
            raise UserError(f"{path} is damaged ({', '.join(sorted(lacking))}): run scorescope explain again")
        return cls(**values)
