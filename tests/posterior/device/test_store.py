"""The store on a device holds exactly the set's entries, kept or streamed."""

import numpy as np
import pytest
import torch
from tests.posterior.device.cases import random_set

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.posterior.device import placement
from scorescope.posterior.device.store import DeviceStore
from scorescope.posterior.device.streaming import Streaming


def entries(store, count):
    """All chunks put back in the order of the set, as uint8."""
    found = np.zeros((len(store.images), *store.images.image_shape), np.uint8)
    seen = np.zeros(len(found), int)
    for start, chunk in store.chunks(count):
        assert len(chunk) <= count
        found[start : start + len(chunk)] = (chunk.cpu().numpy().astype(np.int16) + 128).astype(np.uint8)
        seen[start : start + len(chunk)] += 1
    assert (seen == 1).all()
    return found


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("resident", [0, 10**9])
@pytest.mark.parametrize("count", [1, 7, 64, 1000])
def test_chunks_are_the_entries_of_the_set(resident, flips, count, device):
    base = random_set(0, 150)
    images = ImageSet(base.pixels, indices=np.arange(149, 3, -2), flips=flips)
    store = DeviceStore(images, device, resident_bytes=resident)
    assert store.is_resident == bool(resident)
    for _ in range(2):
        np.testing.assert_array_equal(entries(store, count), images.read(0, len(images)))


def test_a_chunk_survives_the_reading_of_the_next(device):
    images = random_set(1, 200)
    store = DeviceStore(images, device, resident_bytes=0)
    kept = dict(store.chunks(64))
    found = torch.cat(list(kept.values())).cpu().numpy().astype(int) + 128
    np.testing.assert_array_equal(found, images.pixels)


def test_mirror_images_take_no_room(device):
    images = random_set(0, 100, flips=True)
    size = 100 * 3 * 6 * 7
    assert DeviceStore(images, device, resident_bytes=size).is_resident
    assert not DeviceStore(images, device, resident_bytes=size - 1).is_resident


def test_chunk_size_follows_the_memory_for_intermediate_results(device):
    store = DeviceStore(random_set(0, 10), device, work_bytes=10**6)
    assert store.chunk_images(1000) == 960
    assert store.chunk_images(10**9) == 64


def test_streamed_chunks_are_bounded(device, monkeypatch):
    monkeypatch.setattr(placement, "LARGEST_STREAMED_CHUNK", 130 * 3 * 6 * 7)
    assert DeviceStore(random_set(0, 10), device, resident_bytes=0).chunk_images(1) == 128


@pytest.mark.parametrize("resident", [0, 10**9])
def test_a_store_that_was_changed_is_refused(resident, device):
    changed = []

    def check():
        if changed:
            raise UserError("the store was changed")

    pixels = random_set(0, 100).pixels
    store = DeviceStore(ImageSet(pixels, check=check), device, resident_bytes=resident)
    assert len(entries(store, 10)) == 100
    changed.append(True)
    with pytest.raises(UserError, match="was changed"):
        entries(store, 10)


def test_reading_errors_reach_the_caller(device):
    images = random_set(0, 70)
    with pytest.raises(ValueError, match="broadcast"):
        list(Streaming(images, 0, 100, 0, device).chunks(64))


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("count", [5, 64])
def test_what_does_not_fit_is_kept_in_part_and_streamed_in_part(flips, count, device, monkeypatch):
    images, size = random_set(3, 150, flips=flips), 3 * 6 * 7
    monkeypatch.setattr(placement, "LARGEST_STREAMED_CHUNK", 16 * size)
    store = DeviceStore(images, device, resident_bytes=40 * size, locked_bytes=50 * size)
    assert (store.placement.resident, store.placement.locked, store.placement.read) == (40, 48, 62)
    orders = []
    for _ in range(2):
        np.testing.assert_array_equal(entries(store, count), images.read(0, len(images)))
        orders.append([start for start, _ in store.chunks(count)])
    assert orders[0] == orders[1]


def test_locked_images_are_read_once(device, monkeypatch):
    images, size = random_set(4, 100), 3 * 6 * 7
    monkeypatch.setattr(placement, "LARGEST_STREAMED_CHUNK", 16 * size)
    streaming, read = Streaming(images, 0, 100, 64, device), []
    monkeypatch.setattr(
        images, "read", lambda start, stop: read.append((start, stop)) or ImageSet.read(images, start, stop)
    )
    for _ in range(3):
        found = torch.cat([chunk for _, chunk in streaming.chunks(30)])
        np.testing.assert_array_equal(found.cpu().numpy().astype(int) + 128, images.pixels)
    assert sorted(start for start, _ in read if start < 64) == [0, 16, 32, 48]
    assert sum(stop - start for start, stop in read) == 64 + 3 * 36
