"""Pictures that commands write: in the format of their name, of a bounded size, and never over a file that was there."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorescope.foundation import UserError, new_file
from scorescope.foundation.files import check_writable
from scorescope.foundation.processes import by_first

if TYPE_CHECKING:
    from scorescope.study.pictures import Sheet

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_deflate"},
}
# Of a whole sheet. A network's largest activations are some hundred times a batch of images.
_SHEET_PIXELS, _SHEET_SIDE, _BATCH_VALUES, _LARGEST_BATCH = 1 << 25, 16_000, 1 << 18, 128


@dataclass(frozen=True)
class PictureFile:
    """A picture that will be written when its content is known; made before long work, so that it is not in vain.

    Args:
        path: of the file; its ending says the format.
        replace: whether a file that is there is replaced.

    Raises:
        UserError: an ending that is no picture's; a file that is there, unless it may be replaced; a folder; a place where
            nothing can be written. Several processes raise it together.
    """

    path: Path
    replace: bool = False

    def __post_init__(self) -> None:
        if self.path.suffix.lower() not in FORMATS and not self.path.is_dir():
            ending = (
                f"no picture ends in {self.path.suffix!r}" if self.path.suffix else "a picture's name has an ending"
            )
            raise UserError(f"{self.path}: {ending}: choose of {', '.join(FORMATS)}")
        by_first(lambda: check_writable(self.path, replace=self.replace))

    def write(self, sheet: Sheet) -> None:
        """Write a sheet, once if several processes computed it together. Raises UserError if the place is taken by now."""
        content = sheet.png()
        kind = FORMATS[self.path.suffix.lower()]
        if kind != "PNG":
            from PIL import Image

            output = io.BytesIO()
            with Image.open(io.BytesIO(content)) as picture:
                picture.save(output, kind, **_OPTIONS.get(kind, {}))
            content = output.getvalue()

        def save() -> None:
            with new_file(self.path, replace=self.replace) as temporary:
                temporary.write_bytes(content)

        by_first(save)


def shown_columns(image_shape: tuple[int, int, int], rows: int, wanted: int, most: int) -> int:
    """How many of `wanted` columns of `rows` images a sheet shows: at most `most`, and no more than a picture holds."""
    height, width = _tile(image_shape)
    fitting = min(_SHEET_SIDE // width, _SHEET_PIXELS // (width * height * rows))
    return max(1, min(wanted, most, fitting))


def shown_tiles(image_shape: tuple[int, int, int], wanted: int, most: int) -> int:
    """How many of `wanted` images a sheet of many rows shows: at most `most`, and no more than a picture holds."""
    height, width = _tile(image_shape)
    return max(1, min(wanted, most, _SHEET_PIXELS // (width * height)))


def batches(count: int, image_shape: tuple[int, int, int]) -> Iterator[range]:
    """The numbers 0 to count − 1 in pieces whose images take a bounded amount of memory, whatever `count` is."""
    size = batch_size(image_shape)
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def batch_size(image_shape: tuple[int, int, int]) -> int:
    """How many images are worked on at once."""
    return max(1, min(_LARGEST_BATCH, _BATCH_VALUES // math.prod(image_shape)))


def _tile(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of an image on a sheet, enlarged and with the gap to the next."""
    from scorescope.study.pictures import GAP, TILE

    factor = max(1, math.ceil(TILE / max(image_shape[1:])))
    return factor * image_shape[1] + GAP, factor * image_shape[2] + GAP
