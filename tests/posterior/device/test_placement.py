"""Where bytes are kept, and that a pass takes no more than is said."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.posterior.device.cases import between, engine, question, random_set
from tests.posterior.device.test_memory import PeakMemory

from scorescope.posterior.device import placement
from scorescope.posterior.device.placement import LARGEST_STREAMED_CHUNK, free_host_memory, placed

GIB = 2**30
CARD = {"free_on_device": 78 * GIB, "free_on_host": 100 * GIB, "work_bytes": GIB}


def test_a_million_images_of_64_by_64_stay_on_a_large_device():
    found = placed(10**6, 3 * 64 * 64, **CARD)
    assert found.is_resident
    assert found.device_bytes == 10**6 * (3 * 64 * 64 + 8) + GIB
    assert found.host_bytes == 0
    assert str(found) == (
        "of 1,000,000 images of 12,288 bytes 1,000,000 stay on the device; at most 12.45 GiB on the device and 0.00 GiB"
        " page-locked"
    )


def test_what_is_too_large_for_a_device_is_kept_as_far_as_it_fits():
    found = placed(10**6, 3 * 64 * 64, **CARD | {"free_on_device": 10 * GIB, "free_on_host": 16 * GIB}, flips=True)
    assert found.resident * 3 * 64 * 64 <= 5 * GIB < (found.resident + 1) * 3 * 64 * 64
    assert 0 < found.locked * 3 * 64 * 64 <= 4 * GIB
    assert found.read > 0
    # Two chunks on their way, and one of mirror images.
    assert found.device_bytes < 5 * GIB + 3 * LARGEST_STREAMED_CHUNK + GIB + 8 * 10**6 + 1
    assert found.host_bytes <= 4 * GIB + 2 * LARGEST_STREAMED_CHUNK


@given(
    images=st.integers(1, 10**7),
    image_bytes=st.integers(1, 10**6),
    device=st.integers(0, 10**11),
    host=st.integers(0, 10**11),
    flips=st.booleans(),
)
def test_every_image_has_one_place_and_no_allowance_is_exceeded(images, image_bytes, device, host, flips):
    found = placed(images, image_bytes, free_on_device=device, free_on_host=host, work_bytes=GIB, flips=flips)
    assert found.resident + found.locked + found.read == images
    assert min(found.resident, found.locked, found.read) >= 0
    assert found.resident * image_bytes <= placement.SHARE_OF_FREE_MEMORY * device
    assert found.locked * image_bytes <= placement.SHARE_OF_HOST_MEMORY * host
    more = placed(images, image_bytes, free_on_device=2 * device, free_on_host=host, work_bytes=GIB, flips=flips)
    assert more.resident >= found.resident


def test_the_host_says_what_it_has_free():
    assert 2**20 < free_host_memory() < 2**50


@pytest.mark.parametrize(("resident", "locked"), [(10**9, 0), (300_000, 0), (0, 300_000), (200_000, 100_000)])
def test_a_pass_takes_no_more_than_is_said(resident, locked, monkeypatch):
    monkeypatch.setattr(placement, "LARGEST_STREAMED_CHUNK", 50_000)
    images, work = random_set(0, 4000, (3, 8, 8), flips=True), 400_000
    own = engine(images, "cpu", {"resident_bytes": resident, "work_bytes": work, "kept_bytes": 0})
    own.store._locked_bytes = locked
    asked = question(between(images, [0.5]), [0.5], "cpu")
    with PeakMemory() as memory:
        own.whole_image.mean(*asked)
    said = own.store.placement
    assert dataclasses.replace(said, flips=False).device_bytes == said.device_bytes - min(50_000, 4000 * 192)
    assert memory.peak <= 1.05 * (said.device_bytes + said.host_bytes)
    assert memory.peak >= 0.5 * said.resident * said.image_bytes
