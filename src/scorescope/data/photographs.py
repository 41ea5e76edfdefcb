"""Patches of the photographs that ship inside scikit-image: natural images for a machine without a network.

Every photograph is cut into 4 × 4 tiles, of which one in every row and column is for testing. A patch is a random square
of a tile, from the patch's own size to as large as fits, shrunk to that size: natural images look alike at every scale.
A patch never crosses a tile's edge, so no pixel is in both the training and the test patches. Patches of one tile
overlap: they are many views of about a dozen photographs, not as many independent images.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from scorescope.data.images import Pixels
from scorescope.foundation import UserError

if TYPE_CHECKING:
    from PIL import Image

COLOUR_PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
GREY_PHOTOGRAPHS = ("brick.png", "camera.png", "coins.png", "grass.png", "gravel.png", "moon.png")
LICENCE = "public domain or CC0, as scikit-image's documentation of skimage.data says for each photograph"
_TILES = 4
_TEST_COLUMN_OF_ROW = (1, 3, 0, 2)
_LEAST_DEVIATION = 8.0
_BLOCK = 500


def photograph(name: str, colour: bool = False) -> Image.Image:
    """One of scikit-image's photographs, as ``L`` or ``RGB``. Raises UserError if this scikit-image has it not."""
    from PIL import Image

    try:
        with resources.files("skimage").joinpath("data", name).open("rb") as file, Image.open(file) as image:
            return image.convert("RGB" if colour else "L")
    except FileNotFoundError as error:
        raise UserError(f"this scikit-image does not ship {name}: pip install -U scikit-image") from error


def patches(count: int, size: int, *, colour: bool, test: bool, seed: int) -> Iterator[Pixels]:
    """Random patches in blocks; those of a smaller `count` are the first of a larger one.

    A patch whose grey values have a standard deviation below 8 (of 255), empty sky say, is drawn again.

    Args:
        count: how many in all.
        size: side in pixels.
        colour: three channels from the colour photographs, or one channel from all of them.
        test: from the tiles for testing, or from the others.
        seed: of the draws.

    Yields:
        uint8 (≤ 500, C, size, size).

    Raises:
        UserError: a size below 4, or larger than the tiles of every photograph.
    """
    names = COLOUR_PHOTOGRAPHS if colour else COLOUR_PHOTOGRAPHS + GREY_PHOTOGRAPHS
    tiles = [_tiles(photograph(name, colour), test) for name in names]
    tiles = [of_one for of_one in tiles if min(min(tile.size) for tile in of_one) >= size]
    if size < 4 or not tiles:
        raise UserError(
            f"natural patches are at least 4 pixels wide and at most as wide as a tile (128), asked for {size}"
        )
    random = np.random.default_rng([seed, int(test)])
    for start in range(0, count, _BLOCK):
        yield np.stack([_patch(tiles, size, random) for _ in range(min(_BLOCK, count - start))])


def _tiles(image: Image.Image, test: bool) -> list[Image.Image]:
    """The tiles of one photograph that are for testing, or the others."""
    width, height = image.size[0] // _TILES, image.size[1] // _TILES
    return [
        image.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
        for row in range(_TILES)
        for column in range(_TILES)
        if (_TEST_COLUMN_OF_ROW[row] == column) == test
    ]


def _patch(tiles: list[list[Image.Image]], size: int, random: np.random.Generator) -> Pixels:
    """One patch, uint8 (C, size, size): photograph and tile uniform, scale log-uniform, place uniform."""
    from PIL import Image

    while True:
        of_one = tiles[random.integers(len(tiles))]
        tile = of_one[random.integers(len(of_one))]
        side = round(size * (min(tile.size) / size) ** random.random())
        left, top = (int(random.integers(length - side + 1)) for length in tile.size)
        small = tile.resize((size, size), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side))
        pixels: Pixels = np.asarray(small)
        if pixels.std(axis=(0, 1)).mean() >= _LEAST_DEVIATION:
            return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
