"""Checkpoints of other projects with reference outputs (``../shared/golden/foreign``): unpacked once, compared by one rule."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import GOLDEN
from torch import Tensor, nn

from scorescope.networks import OpenedNetwork, open_checkpoint

FOREIGN = GOLDEN / "foreign"
TOLERANCE = 1e-4


class Foreign:
    """The cases, unpacked into one folder of the session.

    Args:
        folder: where unpacked files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, case: str, name: str) -> Path:
        """A file of a case as its repository writes it; the test is skipped where the case is not there."""
        stored, packed = FOREIGN / case / name, FOREIGN / case / f"{name}.xz"
        if stored.exists():
            return stored
        if not packed.exists():
            pytest.skip(f"golden data foreign/{case}/{name} is not in ../shared/golden")
        unpacked = self.folder / case / name
        if not unpacked.exists():
            unpacked.parent.mkdir(exist_ok=True)
            unpacked.write_bytes(lzma.decompress(packed.read_bytes()))
        return unpacked

    def reference(self, case: str) -> dict[str, Any]:
        """The arrays of a case."""
        path = FOREIGN / case / "reference.npz"
        if not path.exists():
            pytest.skip(f"golden data foreign/{case} is not in ../shared/golden")
        return dict(np.load(path))

    def opened(self, case: str, name: str, architecture: str | None = None, **arguments: Any) -> OpenedNetwork:
        """A checkpoint of a case, for images of its reference's size."""
        sides = self.reference(case)["clean"].shape[2:]
        return open_checkpoint(self.file(case, name), architecture, arguments, sides=(sides[0], sides[1]))


def errors(
    opened: OpenedNetwork,
    reference: dict[str, Any],
    array: str,
    *,
    classless: bool = False,
    network: nn.Module | None = None,
) -> list[float]:
    """``|D − array| / max(1, largest |array|)`` of every noise level.

    Args:
        opened: the checkpoint.
        reference: arrays of the case.
        array: which of its denoised images.
        classless: whether no class is asked for.
        network: called instead of the checkpoint's.
    """
    labels = torch.from_numpy(reference["labels"]) if "labels" in reference and not classless else None
    found = []
    for noisy, sigma, expected in zip(reference["noisy"], reference["sigma"], reference[array], strict=True):
        images: Tensor = torch.from_numpy(noisy)
        with torch.no_grad():
            denoised = opened.preconditioning.denoise(
                network or opened.network, images, torch.full((len(images),), float(sigma), dtype=torch.float64), labels
            )
        found.append(float(np.abs(denoised.numpy() - expected).max() / max(1.0, np.abs(expected).max())))
    return found
