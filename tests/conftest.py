"""Fixtures shared by all tests: where the golden data is, and small real image sets."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from scorescope.data.images import ImageSet

if not torch.cuda.is_available():
    # Triton reads it when it is imported, which other libraries may do before the tests of device kernels.
    os.environ["TRITON_INTERPRET"] = "1"

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """Open a golden file by name, or skip the test if it is not beside the project."""

    def open_golden(name: str) -> Any:
        path = GOLDEN / name
        if not path.exists():
            pytest.skip(f"golden data {name} is not in ../shared/golden")
        return np.load(path)

    return open_golden


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8×8, with labels."""
    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype(np.uint8)[:, None]
    return ImageSet(pixels, data.target, name="digits")


def relative_error(found: Any, expected: Any) -> float:
    """‖a − b‖ / ‖b‖ in float64."""
    a, b = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert a.shape == b.shape, f"{a.shape} against {b.shape}"
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def heed_interrupts() -> None:
    """For `preexec_fn`: a process started in the background of a shell inherits that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
