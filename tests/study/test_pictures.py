"""Sheets of images: exact pixels, labels in the file, and tiles that can be cut out again."""

import io

import numpy as np
import pytest
from PIL import Image

from scorescope.study import pictures


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_tiles_are_the_images_enlarged_by_a_whole_factor():
    images = random_images(2, 3, 3, 7, 5)
    sheet = pictures.grid(images)
    factor = sheet.layout.height // 7
    assert factor * 7 >= pictures.TILE
    levels = np.rint((images + 1) * 127.5).astype(np.uint8)
    np.testing.assert_array_equal(sheet.tiles[:, :, ::factor, ::factor], np.moveaxis(levels, 2, -1))
    png = opened(sheet.png())
    layout = sheet.layout
    for row, top in enumerate(layout.tops):
        for column in range(3):
            left = layout.left + column * (layout.width + layout.gap)
            tile = png[top : top + layout.height, left : left + layout.width]
            np.testing.assert_array_equal(tile, sheet.tiles[row, column])


def test_rows_are_cut_out_with_transparent_gaps():
    sheet = pictures.grid(random_images(2, 3, 1, 4, 4), ["up", "down"], ["a", "b", "c"], [["1", "2", "3"]] * 2)
    rows = pictures.rows_of(sheet.png(), sheet.layout)
    assert len(rows) == 2
    row = np.asarray(Image.open(io.BytesIO(rows[1])).convert("RGBA"))
    width, gap = sheet.layout.width, sheet.layout.gap
    assert row.shape == (sheet.layout.height, 3 * width + 2 * gap, 4)
    np.testing.assert_array_equal(row[:, width + gap : 2 * width + gap, :3], sheet.tiles[1, 1])
    assert (row[:, width : width + gap, 3] == 0).all()
    assert (row[:, :width, 3] == 255).all()


def test_labels_are_drawn_outside_of_the_tiles():
    images = random_images(2, 2, 1, 4, 4)
    plain, labelled = pictures.grid(images), pictures.grid(images, ["network A", "network B"], ["σ = 1", "σ = 2"])
    assert labelled.layout.left > plain.layout.left
    assert labelled.layout.tops[0] > plain.layout.tops[0]
    margin = opened(labelled.png())[:, : labelled.layout.left - 4]
    assert (margin != 255).any()


def test_values_outside_are_clipped_and_unknown_ones_are_grey():
    images = np.array([[[[[-9.0, 9.0]]], [[[np.nan, 0.0]]]]])
    tiles = pictures.grid(images).tiles
    assert (tiles[0, 0, 0, 0] == 0).all()
    assert (tiles[0, 0, 0, -1] == 255).all()
    assert (tiles[0, 1] == pictures.MISSING).all()


def test_a_strip_fills_its_last_row_with_white():
    sheet = pictures.strip(random_images(5, 1, 4, 4), [str(n) for n in range(5)], columns=3)
    assert sheet.tiles.shape[:2] == (2, 3)
    assert (sheet.tiles[1, 2] == 255).all()
    assert sheet.captions == (("0", "1", "2"), ("3", "4", ""))
    assert pictures.strip(random_images(2, 1, 4, 4)).captions == ()


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (1, 1, 2, 4, 4), (0, 1, 1, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        pictures.grid(np.zeros(shape))


def test_labels_must_fit_the_grid():
    images = random_images(2, 3, 1, 4, 4)
    with pytest.raises(ValueError, match="1 row labels for 2"):
        pictures.grid(images, ["one"])
    with pytest.raises(ValueError, match="captions in a row for 3"):
        pictures.grid(images, captions=[["a"], ["b"]])


def test_grey_pictures_are_stored_as_grey_without_loss():
    colour = Image.fromarray(np.random.default_rng(1).integers(0, 255, (9, 9, 3), np.uint8))
    grey = colour.convert("L").convert("RGB")
    for picture, mode in ((colour, "RGB"), (grey, "L")):
        stored = Image.open(io.BytesIO(pictures.optimised_png(picture)))
        assert stored.mode == mode
        np.testing.assert_array_equal(np.asarray(stored.convert("RGB")), np.asarray(picture))


def test_long_texts_end_in_an_ellipsis():
    assert pictures.fitted("short", 500) == "short"
    cut = pictures.fitted("a very long caption indeed", 100)
    assert cut.endswith("…")
    assert "a very long caption indeed".startswith(cut[:-1])
