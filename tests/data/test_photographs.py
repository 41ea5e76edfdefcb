"""Patches of photographs: honest split, no empty ones, the same images for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from scorescope.data import photographs
from scorescope.foundation import UserError


def drawn(count: int, size: int = 16, *, colour: bool = False, test: bool = False, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(photographs.patches(count, size, colour=colour, test=test, seed=seed)))


def test_shapes_and_seeds() -> None:
    patches = drawn(700)
    assert patches.shape == (700, 1, 16, 16)
    assert patches.dtype == np.uint8
    assert drawn(3, colour=True).shape == (3, 3, 16, 16)
    np.testing.assert_array_equal(drawn(40), patches[:40])
    assert not np.array_equal(drawn(40, seed=1), patches[:40])
    assert not np.array_equal(drawn(40, test=True), patches[:40])


def test_no_patch_is_empty_and_few_are_alike() -> None:
    patches = drawn(500)
    assert patches.std(axis=(1, 2, 3)).min() >= 8
    assert len({patch.tobytes() for patch in patches}) > 490


@pytest.mark.parametrize("name", photographs.COLOUR_PHOTOGRAPHS + photographs.GREY_PHOTOGRAPHS)
def test_test_tiles_and_training_tiles_share_no_pixel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photographs.photograph(name)
    places = np.arange(image.size[0] * image.size[1], dtype=np.int32).reshape(image.size[::-1])
    from PIL import Image

    numbered = Image.fromarray(places)
    test = np.concatenate([np.asarray(tile).ravel() for tile in photographs._tiles(numbered, True)])
    train = np.concatenate([np.asarray(tile).ravel() for tile in photographs._tiles(numbered, False)])
    assert not np.intersect1d(test, train).size
    assert len(train) == 3 * len(test)


def test_sizes_that_no_tile_holds_are_refused() -> None:
    assert drawn(2, 128).shape == (2, 1, 128, 128)
    with pytest.raises(UserError, match="at most as wide as a tile"):
        drawn(1, 129)
    with pytest.raises(UserError, match="does not ship"):
        photographs.photograph("none.png")
