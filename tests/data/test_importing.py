"""From a source to a store: colour modes, sizes, broken images, and order and memory of the parallel decoding."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import heed_interrupts

from scorescope.data import import_images, open_source
from scorescope.data.importing import square
from scorescope.data.sources import BrokenImageError, Source
from scorescope.data.sources.base import Decoded
from scorescope.foundation import UserError

Encode = Callable[..., bytes]
WriteZip = Callable[..., Path]


class Watched(Source):
    """Grey images that hold their own number, and a count of how many were loaded ahead of the reader."""

    def __init__(self, count: int, broken: tuple[int, ...] = (), stop_at: int | None = None) -> None:
        super().__init__("watched")
        self.count, self.broken, self.stop_at, self.loaded = count, broken, stop_at, 0
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return self.count

    def decoded(self, index: int) -> Decoded:
        with self.lock:
            self.loaded += 1
        if index == self.stop_at:
            raise KeyboardInterrupt
        if index in self.broken:
            raise BrokenImageError("torn")
        time.sleep(0.0002 * (index % 5))
        return Decoded(Image.fromarray(np.array([[index // 256, index % 256]], dtype=np.uint8)))


def test_order_is_kept_whichever_thread_is_faster(tmp_path: Path) -> None:
    store = import_images(Watched(700), tmp_path / "store")
    numbers = store.pixels[:, 0, 0].astype(int) @ [256, 1]
    np.testing.assert_array_equal(numbers, np.arange(700))


def test_an_interrupt_leaves_nothing_and_ends_the_decoding(tmp_path: Path) -> None:
    source = Watched(100_000, stop_at=200)
    with pytest.raises(KeyboardInterrupt):
        import_images(source, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
    assert source.loaded < 2000


def test_ctrl_c_of_a_real_process_leaves_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "big.npy", np.zeros((400_000, 4, 4), np.uint8))
    code = (
        "from scorescope.data import import_images, open_source\n"
        "print('ready', flush=True)\n"
        f"import_images(open_source({str(tmp_path / 'big.npy')!r}), {str(tmp_path / 'out')!r})\n"
    )
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], **quiet, preexec_fn=heed_interrupts) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        while not list(tmp_path.glob(".out.*/images.npy")) and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) != 0
    assert [file.name for file in tmp_path.iterdir()] == ["big.npy"]


def test_broken_images_are_counted_and_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"2 of the 90 images in watched are broken.*watched\[17\] \(torn\).*--skip-broken"
    ):
        import_images(Watched(90, broken=(17, 80)), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


def test_broken_images_are_left_out_and_named_if_asked(tmp_path: Path) -> None:
    labels = np.arange(90)
    store = import_images(Watched(90, broken=(17, 80)), tmp_path / "store", labels=labels, skip_broken=True)
    kept = np.delete(labels, [17, 80])
    np.testing.assert_array_equal(store.own_labels(), kept)
    np.testing.assert_array_equal(store.pixels[:, 0, 0, 1], kept)
    assert [(s.name, s.reason) for s in store.record.provenance.skipped] == [
        ("watched[17]", "torn"),
        ("watched[80]", "torn"),
    ]
    with pytest.raises(UserError, match="every one of the 2 images"):
        import_images(Watched(2, broken=(0, 1)), tmp_path / "other", skip_broken=True)


def test_a_zip_with_a_broken_jpeg(
    tmp_path: Path, write_zip: WriteZip, encode: Encode, colour_images: np.ndarray
) -> None:
    members = {f"{kind}/{i}.jpg": encode(colour_images[i], "JPEG") for kind in ("a", "b") for i in range(3)}
    members["a/1.jpg"] = members["a/1.jpg"][:300]
    with open_source(write_zip(members)) as source:
        with pytest.raises(UserError, match=r"1 of the 6 images in .* is broken; the first is a/1.jpg"):
            import_images(source, tmp_path / "store")
        store = import_images(source, tmp_path / "store", skip_broken=True)
    assert [store.source_name(i) for i in range(len(store))] == ["a/0.jpg", "a/2.jpg", "b/0.jpg", "b/1.jpg", "b/2.jpg"]
    assert store.own_labels().tolist() == [0, 0, 1, 1, 1]
    assert store.record.provenance.classes == ("a", "b")
    store.verify()


def test_different_sizes_are_refused_by_name_or_brought_to_one(
    tmp_path: Path, write_zip: WriteZip, encode: Encode, colour_images: np.ndarray
) -> None:
    large = np.kron(colour_images[0], np.ones((4, 4, 1), np.uint8))
    with open_source(write_zip({"a.png": encode(colour_images[0]), "b.png": encode(large)})) as source:
        with pytest.raises(UserError, match=r"a.png is 5×6 and b.png is 20×24: pass --size"):
            import_images(source, tmp_path / "store")
        assert not (tmp_path / "store").exists()
        store = import_images(source, tmp_path / "store", size=8)
    assert store.image_shape == (3, 8, 8)
    assert store.record.provenance.size == 8
    assert store.record.provenance.resize == "centre square, Lanczos with antialiasing"
    assert store.record.provenance.notes == ("1 images were smaller than the size asked for and were enlarged",)


def test_the_square_is_the_centre_one() -> None:
    pixels = np.zeros((4, 10), np.uint8)
    pixels[:, 3:7] = 255
    np.testing.assert_array_equal(np.asarray(square(Image.fromarray(pixels), 4)), np.full((4, 4), 255))
    np.testing.assert_array_equal(np.asarray(square(Image.fromarray(pixels.T.copy()), 2)), np.full((2, 2), 255))


def test_colour_modes(tmp_path: Path, write_zip: WriteZip, encode: Encode, colour_images: np.ndarray) -> None:
    grey = encode(colour_images[0, ..., 0])
    colour = encode(colour_images[1])
    with open_source(write_zip({"a.png": colour, "b.png": grey})) as source:
        store = import_images(source, tmp_path / "colour first")
        np.testing.assert_array_equal(store.pixels[0], colour_images[1].transpose(2, 0, 1))
        np.testing.assert_array_equal(store.pixels[1], np.stack([colour_images[0, ..., 0]] * 3))
        assert store.record.provenance.notes == ("1 grey images were given three equal channels",)
    with open_source(write_zip({"a.png": grey, "b.png": colour}, "grey first.zip")) as source:
        with pytest.raises(UserError, match=r"a.png is grey and b.png is in colour: pass --grey .* or --color"):
            import_images(source, tmp_path / "refused")
        made_grey = import_images(source, tmp_path / "grey", colour="grey")
        assert made_grey.image_shape == (1, 6, 5)
        assert made_grey.record.provenance.colour == "grey"
        np.testing.assert_allclose(made_grey.pixels[1, 0], colour_images[1] @ [0.299, 0.587, 0.114], atol=1)
        made_colour = import_images(source, tmp_path / "colour", colour="colour")
        assert made_colour.image_shape == (3, 6, 5)
        assert made_colour.record.provenance.notes == ("1 grey images were given three equal channels",)


def test_a_broken_first_image_does_not_decide_the_mode(
    tmp_path: Path, write_zip: WriteZip, encode: Encode, colour_images: np.ndarray
) -> None:
    members = {"a.png": b"torn", "b.png": encode(colour_images[0, ..., 0]), "c.png": encode(colour_images[1, ..., 0])}
    with open_source(write_zip(members)) as source:
        store = import_images(source, tmp_path / "store", skip_broken=True)
    assert store.image_shape == (1, 6, 5)


def test_labels_and_sizes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 labels for the 5 images"):
        import_images(Watched(5), tmp_path / "store", labels=np.arange(3))
    with pytest.raises(UserError, match="--size 0: a side has between 1 and 8,192"):
        import_images(Watched(5), tmp_path / "store", size=0)
