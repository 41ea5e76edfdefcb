"""Duplicates: equal and near, mirrored, within a set and between two, against all pairs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from scorescope.data import duplicates
from scorescope.data.images import ImageSet
from scorescope.foundation import UserError


def jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))[None]


def textures(count: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Smooth random images, no two alike."""
    random = np.random.default_rng(seed)
    coarse = random.normal(128, 40, (count, channels, 6, 6))
    fine = coarse.repeat(4, 2).repeat(4, 3) + random.normal(0, 4, (count, channels, 24, 24))
    return fine.clip(0, 255).round().astype(np.uint8)


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    a, b = (x.astype(float).ravel() - x.mean() for x in (one, two))
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length else float(not a.any() and not b.any())


@pytest.fixture(scope="module")
def mixed() -> ImageSet:
    """120 textures; 3 and 50 equal, 4 and 60 near (JPEG), 5 and 70 mirrored, 80 and 90 constant, 7, 8 and 100 a chain."""
    images = textures(120)
    images[50] = images[3]
    images[60] = jpeg(images[4])
    images[70] = images[5][..., ::-1]
    images[80], images[90] = 10, 200
    images[8] = jpeg(images[7])
    images[100] = np.clip(images[8].astype(int) + 20, 0, 255)
    return ImageSet(images)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("block", [7, 4096])
def test_every_pair_is_found_and_no_other(
    mixed: ImageSet, mirrored: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", block)
    monkeypatch.setattr(duplicates, "TILE", block)
    found = duplicates.find_duplicates(mixed, 0.99, mirrored=mirrored)
    expected = set()
    for i in range(120):
        for j in range(i + 1, 120):
            one, two = mixed.pixels[i], mixed.pixels[j]
            best = max(cosine(one, two), cosine(one[..., ::-1], two) if mirrored else -1)
            if best >= 0.99:
                expected.add((i, j))
    joined = {(a, b) for group in found.near for a in group for b in group if a < b}
    assert expected <= joined
    assert found.equal == (((3, 50), (5, 70)) if mirrored else ((3, 50),))
    assert (7, 8, 100) in found.near
    assert (80, 90) in found.near
    assert ((5, 70) in found.near) == mirrored
    assert set(found.superfluous) >= {50, 60, 8, 100, 90}
    for i, j, value in zip(found.pairs.first, found.pairs.second, found.pairs.similarity, strict=True):
        assert i < j
        assert value >= 0.99


def test_common_images_of_two_sets(mixed: ImageSet) -> None:
    others = textures(40, seed=1)
    others[2], others[3] = mixed.pixels[9], jpeg(mixed.pixels[10])
    others[4] = mixed.pixels[11][..., ::-1]
    plain = duplicates.find_common(mixed, ImageSet(others), 0.99)
    assert set(zip(plain.first.tolist(), plain.second.tolist(), strict=True)) == {(9, 2), (10, 3)}
    assert dict(zip(plain.second.tolist(), plain.equal.tolist(), strict=True)) == {2: True, 3: False}
    turned = duplicates.find_common(mixed, ImageSet(others), 0.99, mirrored=True)
    assert {(11, 4)} <= set(
        zip(turned.first[turned.mirrored].tolist(), turned.second[turned.mirrored].tolist(), strict=True)
    )
    assert turned.equal[turned.mirrored].all()


def test_colours_small_images_and_sets_without_duplicates() -> None:
    colours = textures(30, channels=3)
    colours[9] = colours[2]
    assert duplicates.find_duplicates(ImageSet(colours)).near == ((2, 9),)
    small = np.random.default_rng(0).integers(0, 256, (50, 1, 3, 5), dtype=np.uint8)
    small[20] = small[10]
    assert duplicates.find_duplicates(ImageSet(small), 0.999).near == ((10, 20),)
    found = duplicates.find_duplicates(ImageSet(textures(20)))
    assert not found.near
    assert not len(found.superfluous)
    assert not len(duplicates.find_common(ImageSet(textures(1)), ImageSet(textures(1, seed=5))))


def test_wrong_input_is_told_in_one_line(mixed: ImageSet) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        duplicates.find_duplicates(mixed, 1.5)
    with pytest.raises(UserError, match="same --size"):
        duplicates.find_common(mixed, ImageSet(np.zeros((2, 1, 8, 8), np.uint8)))


def test_a_search_is_made_once_and_known_from_both_sides(mixed: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    others = ImageSet(np.concatenate([textures(10, seed=1), mixed.pixels[[3, 7]], mixed.pixels[5:6, ..., ::-1]]))
    alike = duplicates.AlikeImages(0.99, mirrored=True)
    within, between = alike.within(others), alike.between(mixed, others)
    expected = duplicates.find_common(others, mixed, 0.99, mirrored=True)
    monkeypatch.delattr(duplicates, "find_common")
    monkeypatch.delattr(duplicates, "find_duplicates")
    assert alike.within(others) is within
    assert alike.between(mixed, others) is between
    swapped = alike.between(others, mixed)
    for name in ("first", "second", "mirrored", "equal"):
        order, known = (np.lexsort((one.second, one.first)) for one in (expected, swapped))
        assert np.array_equal(getattr(expected, name)[order], getattr(swapped, name)[known])
    assert swapped.equal.any()
    assert len(swapped) >= 3
