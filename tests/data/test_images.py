"""Sets of images: what is read is what a plain array would give, with subsets and mirror images."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorescope.data import ImageSet, to_float, to_uint8
from scorescope.foundation import UserError

PIXELS = np.random.default_rng(1).integers(0, 256, (9, 2, 3, 4), dtype=np.uint8)
LABELS = np.arange(9) % 3


@st.composite
def sets(draw: st.DrawFn) -> tuple[ImageSet, np.ndarray]:
    """A set, and the same images as a plain array."""
    indices = draw(st.none() | st.lists(st.integers(0, 8), min_size=1, max_size=12))
    flips = draw(st.booleans())
    plain = PIXELS if indices is None else PIXELS[indices]
    images = ImageSet(PIXELS, LABELS, indices=indices, flips=flips)
    return images, np.concatenate([plain, plain[..., ::-1]]) if flips else plain


@settings(deadline=None)
@given(sets(), st.data())
def test_reading_agrees_with_a_plain_array(case: tuple[ImageSet, np.ndarray], data: st.DataObject) -> None:
    images, plain = case
    assert len(images) == len(plain)
    start = data.draw(st.integers(0, len(plain)))
    stop = data.draw(st.integers(start, len(plain) + 3))
    np.testing.assert_array_equal(images.read(start, stop), plain[start:stop])
    entries = data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=6))
    np.testing.assert_array_equal(images.take(entries), plain[entries])
    size = data.draw(st.integers(1, 30))
    chunks = list(images.chunks(size))
    assert [start for start, _ in chunks] == list(range(0, len(plain), size))
    np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in chunks]), plain)
    torch.testing.assert_close(images.tensor(), to_float(plain))


@settings(deadline=None)
@given(sets(), st.lists(st.integers(0, 100), min_size=1, max_size=5))
def test_a_subset_counts_within_its_set(case: tuple[ImageSet, np.ndarray], numbers: list[int]) -> None:
    images, plain = case
    chosen = [number % images.stored for number in numbers]
    subset = images.subset(chosen)
    assert subset.flips == images.flips
    np.testing.assert_array_equal(subset.read(0, len(chosen)), plain[chosen])
    np.testing.assert_array_equal(subset.own_labels(), images.own_labels()[chosen])


def test_taken_images_are_copies() -> None:
    images = ImageSet(PIXELS.copy())
    images.take([0, 1])[:] = 0
    np.testing.assert_array_equal(images.pixels, PIXELS)


def test_mirror_images_follow_the_images_and_keep_the_labels() -> None:
    images = ImageSet(PIXELS, LABELS).with_flips()
    assert len(images) == 18
    assert images.stored == 9
    np.testing.assert_array_equal(images.take([9 + 4])[0], PIXELS[4][..., ::-1])
    assert images.of_class(1).stored == 3


@pytest.mark.parametrize("entry", [-1, 18])
def test_an_entry_outside_is_refused(entry: int) -> None:
    with pytest.raises(IndexError, match="outside"):
        ImageSet(PIXELS).with_flips().take([entry])


def test_reading_before_the_start_is_refused() -> None:
    with pytest.raises(IndexError, match="counted from 0"):
        ImageSet(PIXELS).read(-2, 3)


@pytest.mark.parametrize(
    ("pixels", "labels", "indices", "said"),
    [
        (PIXELS.astype(np.float32), None, None, "float32"),
        (PIXELS[0], None, None, r"\(2, 3, 4\)"),
        (PIXELS[:0], None, None, "no images"),
        (PIXELS, LABELS[:5], None, "labels of shape"),
        (PIXELS, None, [9], "outside the 9"),
        (PIXELS, None, [-1], "outside the 9"),
        (PIXELS, None, [], "no images"),
    ],
)
def test_what_is_no_set_of_images_is_refused(
    pixels: np.ndarray, labels: np.ndarray | None, indices: list[int] | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        ImageSet(pixels, labels, indices=indices)


def test_subsets_and_classes_that_are_not_there_are_refused() -> None:
    with pytest.raises(UserError, match="go from 0 to 8"):
        ImageSet(PIXELS).subset([3, 9])
    with pytest.raises(UserError, match=r"classes are \[0, 1, 2\]"):
        ImageSet(PIXELS, LABELS).of_class(7)
    with pytest.raises(UserError, match="no class labels"):
        ImageSet(PIXELS).own_labels()


def test_the_fingerprint_tells_pixels_order_and_flips_apart() -> None:
    images = ImageSet(PIXELS)
    assert images.fingerprint() == ImageSet(PIXELS.copy(), name="other").fingerprint()
    assert images.fingerprint() == images.subset(range(9)).fingerprint()
    others = [images.subset(range(8, -1, -1)), images.with_flips(), images.subset(range(8))]
    assert len({images.fingerprint(), *(other.fingerprint() for other in others)}) == 4


def test_every_8_bit_value_survives_the_round_trip() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    floats = to_float(values)
    assert floats.dtype == torch.float32
    assert floats.min() == -1
    assert floats.max() == 1
    np.testing.assert_array_equal(to_uint8(floats), values)


def test_floats_outside_the_range_are_clipped() -> None:
    np.testing.assert_array_equal(to_uint8(torch.tensor([-3.0, 0.0, 1.001])), [0, 128, 255])


def test_read_only_and_mirrored_pixels_become_tensors_without_a_warning() -> None:
    pixels = PIXELS.copy()
    pixels.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(to_float(pixels[..., ::-1]), to_float(PIXELS).flip(-1))


def test_parts_of_the_same_images_are_joined_each_image_once():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 2, 2), dtype=np.uint8)
    whole = ImageSet(pixels)
    first, second = whole.subset([5, 1, 2]), whole.subset([2, 8])
    assert np.array_equal(first.joined(second).take(range(4)), pixels[[1, 2, 5, 8]])
    assert first.joined(whole).stored == 9
    with pytest.raises(ValueError, match="not parts of the same images"):
        first.joined(ImageSet(pixels.copy()))
