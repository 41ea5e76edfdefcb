"""Sheets of images: rows and columns of tiles with labels, as crisp PNG.

A sheet keeps its tiles and its labels apart, because a page of a phone's width must lay them out in another way than a
file that is looked at alone: `Sheet.png` draws everything into one picture, and `Sheet.layout` says where the tiles lie
in it, so that a report can cut them out again and set the labels as text.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import pydantic
from PIL import Image, ImageDraw, ImageFont

TILE = 112  # pixels a tile is enlarged to at least, by a whole factor, so that no pixel is wider than another
FONT_SIZE = 20
GAP = 8
MARGIN = 16
INK, PAPER, MISSING = (31, 35, 40), (255, 255, 255), (228, 230, 233)


class Layout(pydantic.BaseModel):
    """Where the tiles of a sheet lie in its PNG, in pixels, and what is written beside them.

    Attributes:
        left: of the first column's tiles.
        tops: of every row's tiles.
        width: of a tile.
        height: of a tile.
        gap: between columns.
        columns: number of tiles in a row.
        row_labels: one a row, or none.
        column_labels: one a column, or none.
        captions: for every row one text a tile; or none.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    left: int
    tops: tuple[int, ...]
    width: int
    height: int
    gap: int
    columns: int
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Sheet:
    """Images in rows and columns.

    Attributes:
        tiles: (R, K, H, W, 3) uint8, already enlarged.
        row_labels: R texts, or none.
        column_labels: K texts, or none.
        captions: R rows of K texts that stand under their tiles, or none.
    """

    tiles: npt.NDArray[np.uint8]
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        rows, columns = self.tiles.shape[:2]
        _check_count("row labels", self.row_labels, rows)
        _check_count("column labels", self.column_labels, columns)
        _check_count("rows of captions", self.captions, rows)
        for texts in self.captions:
            _check_count("captions in a row", texts, columns)

    @property
    def layout(self) -> Layout:
        """Where the tiles lie in `png`."""
        rows, columns, height, width = self.tiles.shape[:4]
        line = FONT_SIZE + 6
        longest = max((_text_width(label) for label in self.row_labels), default=0)
        left = MARGIN + (longest + MARGIN if longest else 0)
        first = MARGIN + (line + GAP if self.column_labels else 0)
        step = height + (line + GAP if self.captions else 0) + GAP
        return Layout(
            left=left,
            tops=tuple(first + row * step for row in range(rows)),
            width=width,
            height=height,
            gap=GAP,
            columns=columns,
            row_labels=self.row_labels,
            column_labels=self.column_labels,
            captions=self.captions,
        )

    def png(self) -> bytes:
        """The sheet with its labels, on white."""
        layout = self.layout
        step = layout.width + layout.gap
        below = FONT_SIZE + 6 + GAP if self.captions else 0
        size = (
            layout.left + step * layout.columns - layout.gap + MARGIN,
            layout.tops[-1] + layout.height + below + MARGIN,
        )
        picture = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(picture)
        centres = [layout.left + step * column + layout.width / 2 for column in range(layout.columns)]
        for centre, label in zip(centres, self.column_labels, strict=False):
            draw.text((centre, MARGIN), fitted(label, step), INK, _font(), anchor="ma")
        for row, top in enumerate(layout.tops):
            if self.row_labels:
                draw.text((MARGIN, top + layout.height / 2), self.row_labels[row], INK, _font(), anchor="lm")
            for column, tile in enumerate(self.tiles[row]):
                picture.paste(Image.fromarray(tile), (layout.left + step * column, top))
            for centre, caption in zip(centres, self.captions[row] if self.captions else (), strict=False):
                draw.text((centre, top + layout.height + 4), fitted(caption, step), INK, _font(), anchor="ma")
        return optimised_png(picture)


def grid(
    images: npt.ArrayLike,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
) -> Sheet:
    """Lay out images in rows and columns.

    Args:
        images: (R, K, C, H, W) float in [−1, 1], C = 1 or 3; what lies outside is clipped, an image with a NaN is grey.
        row_labels: R texts, or none.
        column_labels: K texts, or none.
        captions: R rows of K texts to stand under their tiles, or none.

    Raises:
        ValueError: another shape, or another number of labels.
    """
    values = np.asarray(images, dtype=np.float32)
    if values.ndim != 5 or values.shape[2] not in (1, 3) or 0 in values.shape:
        raise ValueError(f"images of a sheet have the shape (rows, columns, 1 or 3, H, W), not {values.shape}")
    known = np.asarray(np.isfinite(values).all(axis=(2, 3, 4), keepdims=True))
    levels = np.rint((np.where(known, values, 0.0).clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    colours = np.moveaxis(np.broadcast_to(levels, (*levels.shape[:2], 3, *levels.shape[3:])), 2, -1)  # (R, K, H, W, 3)
    colours = np.where(np.moveaxis(known, 2, -1), colours, np.array(MISSING, dtype=np.uint8))
    factor = max(1, math.ceil(TILE / max(values.shape[3:])))
    tiles = np.ascontiguousarray(colours.repeat(factor, axis=2).repeat(factor, axis=3))
    return Sheet(tiles, tuple(row_labels), tuple(column_labels), tuple(tuple(texts) for texts in captions))


def strip(images: npt.ArrayLike, captions: Sequence[str] = (), columns: int = 8) -> Sheet:
    """Lay out images one after another, `columns` in a row, each with its caption under it.

    Args:
        images: (K, C, H, W) float in [−1, 1]; the last row is filled up with white.
        captions: K texts, or none.
        columns: tiles in a row, at most.
    """
    values = np.asarray(images, dtype=np.float32)
    if values.ndim != 4 or not len(values):
        raise ValueError(f"images of a strip have the shape (K, C, H, W), not {values.shape}")
    if captions:
        _check_count("captions", captions, len(values))
    columns = min(columns, len(values))
    missing = -len(values) % columns
    values = np.concatenate([values, np.ones((missing, *values.shape[1:]), np.float32)])
    texts = [*captions, *[""] * missing] if captions else []
    rows = [texts[start : start + columns] for start in range(0, len(texts), columns)]
    return grid(values.reshape(-1, columns, *values.shape[1:]), captions=rows)


def rows_of(png: bytes, layout: Layout) -> list[bytes]:
    """The rows of tiles of a sheet's PNG without labels, each a PNG; what lies between the tiles is transparent."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    step = layout.width + layout.gap
    rows = []
    for top in layout.tops:
        row = Image.new("RGBA", (step * layout.columns - layout.gap, layout.height), (0, 0, 0, 0))
        for column in range(layout.columns):
            left = layout.left + step * column
            row.paste(picture.crop((left, top, left + layout.width, top + layout.height)), (step * column, 0))
        rows.append(optimised_png(row))
    return rows


def optimised_png(picture: Image.Image) -> bytes:
    """A PNG as small as it can be without loss: grey images are stored as grey, and no metadata is."""
    mode = _smallest_mode(picture)
    output = io.BytesIO()
    (picture if mode == picture.mode else picture.convert(mode)).save(output, "PNG", optimize=True)
    return output.getvalue()


def fitted(text: str, width: float) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    if _text_width(text) <= width:
        return text
    while text and _text_width(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _smallest_mode(picture: Image.Image) -> str:
    if picture.mode not in ("RGB", "RGBA"):
        return picture.mode
    red, green, blue = np.moveaxis(np.asarray(picture)[..., :3], -1, 0)
    grey = bool((red == green).all() and (green == blue).all())
    return {("RGB", True): "L", ("RGBA", True): "LA"}.get((picture.mode, grey), picture.mode)


def _check_count(what: str, texts: Iterable[object], wanted: int) -> None:
    count = len(list(texts))
    if count not in (0, wanted):
        raise ValueError(f"{count} {what} for {wanted}")


def _text_width(text: str) -> int:
    return math.ceil(_font().getlength(text))


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    """The font that Matplotlib brings along, so that a sheet looks the same on every machine."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", FONT_SIZE)
