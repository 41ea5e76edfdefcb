"""Small real files in every format, and images to put into them."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def colour_images() -> Pixels:
    """Twelve random images, uint8 (12, 6, 5, 3)."""
    return np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """A function from uint8 (H, W) or (H, W, C) and a format's name to the bytes of a file."""

    def encoded(pixels: Pixels, kind: str = "PNG") -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        return buffer.getvalue()

    return encoded


@pytest.fixture
def write_zip(tmp_path: Path) -> Callable[..., Path]:
    """A function from file names and bytes to the path of a zip."""

    def written(members: dict[str, bytes], name: str = "images.zip") -> Path:
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            for member, content in members.items():
                file.writestr(member, content)
        return tmp_path / name

    return written


@pytest.fixture
def write_idx() -> Callable[[Path, Pixels], Path]:
    """A function that writes an array as IDX, gzipped if the path ends in .gz."""

    def written(path: Path, array: Pixels) -> Path:
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
        content = header + array.tobytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
        return path

    return written
