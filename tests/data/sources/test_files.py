"""Folders and zips of image files: order, classes, EDM's labels, every Pillow mode, and what is broken."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scorescope.data.sources import BrokenImageError, FolderSource, ZipSource, open_source
from scorescope.data.sources.decoding import decode
from scorescope.data.sources.file_names import classes_from_folders
from scorescope.foundation import UserError

Encode = Callable[..., bytes]
WriteZip = Callable[..., Path]


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_class_folders_of_a_zip_become_labels(write_zip: WriteZip, encode: Encode, colour_images: np.ndarray) -> None:
    names = [f"top/{kind}/{i}.png" for kind in ("dog", "cat") for i in range(3)]
    members = {name: encode(pixels) for name, pixels in zip(names, colour_images, strict=False)}
    path = write_zip(members | {"top/readme.txt": b"hello", "__MACOSX/top/._0.png": b"junk"})
    with open_source(path) as source:
        assert isinstance(source, ZipSource)
        assert source.names == sorted(names)
        assert source.classes == ("cat", "dog")
        assert source.labels is not None
        assert source.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert source.notes == ("1 files that are not images were left aside",)
        np.testing.assert_array_equal(np.asarray(source.load(0)), colour_images[3])


def test_a_folder_reads_like_the_zip(tmp_path: Path, encode: Encode, colour_images: np.ndarray) -> None:
    for i, pixels in enumerate(colour_images):
        file = tmp_path / "set" / f"class {i % 3}" / f"{i}.PNG"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(pixels))
    (tmp_path / "set" / ".hidden.png").write_bytes(b"")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    with open_source(tmp_path / "set") as source:
        assert isinstance(source, FolderSource)
        assert len(source) == 12
        assert source.classes == ("class 0", "class 1", "class 2")
        assert source.name_of(0) == "class 0/0.PNG"
        np.testing.assert_array_equal(np.asarray(source.load(1)), colour_images[3])


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        (["1.png", "2.png"], None, ()),
        (["a/1.png", "a/2.png"], None, ()),
        (["1.png", "a/2.png"], None, ()),
        (["x/y/a/1.png", "x/y/b/2.png"], [0, 1], ("a", "b")),
        (["x/a/1.png", "x/b/c/2.png", "x/b/d/3.png"], [0, 1, 2], ("a", "b/c", "b/d")),
        (["x/1.png", "x/b/2.png"], None, ()),
    ],
)
def test_folders_are_classes_only_where_they_tell_images_apart(
    names: list[str], labels: list[int] | None, classes: tuple[str, ...]
) -> None:
    found, named, _ = classes_from_folders(names)
    assert (found is None and labels is None) or (found is not None and found.tolist() == labels)
    assert named == classes


def test_edm_labels_are_honoured(write_zip: WriteZip, encode: Encode, colour_images: np.ndarray) -> None:
    names = [f"0000{i % 2}/img{i:08d}.png" for i in range(4)]
    members = {name: encode(colour_images[i]) for i, name in enumerate(names)}
    labels = {"labels": [[name, 7 - i] for i, name in enumerate(names)]}
    with open_source(write_zip(members | {"dataset.json": json.dumps(labels).encode()})) as source:
        assert source.labels is not None
        assert dict(zip(source.names or (), source.labels.tolist(), strict=True)) == dict(labels["labels"])
        assert source.notes == ()
    with open_source(write_zip(members | {"dataset.json": b'{"labels": null}'}, "none.zip")) as source:
        assert source.labels is None
    with pytest.raises(UserError, match=r"no label for 3 of 4 images, as 00000/img00000002.png"):
        open_source(write_zip(members | {"dataset.json": json.dumps({"labels": [[names[0], 1]]}).encode()}, "few.zip"))
    with pytest.raises(UserError, match="not of the form"):
        open_source(write_zip(members | {"dataset.json": b"[1"}, "bad.zip"))


def test_nothing_to_import_is_refused(tmp_path: Path, write_zip: WriteZip) -> None:
    with pytest.raises(UserError, match="no images in"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="no images in .* among 1 files"):
        open_source(write_zip({"a.txt": b"a"}))
    cut = tmp_path / "cut.zip"
    cut.write_bytes((tmp_path / "images.zip").read_bytes()[:40])
    with pytest.raises(UserError, match="not a readable zip"):
        open_source(cut)


def test_a_member_with_a_wrong_checksum_is_broken(write_zip: WriteZip, encode: Encode) -> None:
    content = encode(np.zeros((4, 4), np.uint8), "BMP")
    path = write_zip({"a.bmp": content})
    held = bytearray(path.read_bytes())
    held[held.index(content) + 60] ^= 1
    path.write_bytes(held)
    with open_source(path) as source, pytest.raises(BrokenImageError, match="damaged in the zip"):
        source.load(0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM"])
def test_usual_formats_are_decoded(encode: Encode, kind: str) -> None:
    image = decode(encode(np.full((6, 5, 3), (200, 100, 50), np.uint8), kind)).image
    assert image.mode == "RGB"
    assert image.size == (5, 6)
    np.testing.assert_allclose(np.asarray(image)[2, 2], (200, 100, 50), atol=4)


def test_modes_are_brought_to_8_bits_without_silent_loss() -> None:
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], dtype=np.uint16))
    np.testing.assert_array_equal(np.asarray(decode(saved(deep)).image), [[0, 100, 255]])
    np.testing.assert_array_equal(np.asarray(decode(saved(Image.new("1", (2, 1), 1))).image), [[255, 255]])
    clear = Image.fromarray(np.array([[[9, 9, 9, 0], [10, 20, 30, 255]]], dtype=np.uint8))
    np.testing.assert_array_equal(np.asarray(decode(saved(clear)).image), [[[255, 255, 255], [10, 20, 30]]])
    grey_clear = Image.fromarray(np.array([[[9, 0], [10, 255]]], dtype=np.uint8), "LA")
    np.testing.assert_array_equal(np.asarray(decode(saved(grey_clear)).image), [[255, 10]])
    palette = Image.new("RGB", (2, 2), (255, 0, 0)).quantize(4)
    np.testing.assert_array_equal(np.asarray(decode(saved(palette)).image)[0, 0], (255, 0, 0))
    assert decode(saved(Image.new("CMYK", (2, 2)), "JPEG")).image.mode == "RGB"
    with pytest.raises(BrokenImageError, match="floating-point"):
        decode(saved(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


def test_photographs_are_turned_as_they_were_taken() -> None:
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6
    assert decode(saved(image, "JPEG", exif=exif.tobytes())).image.size == (2, 4)


@pytest.mark.parametrize("cut", [0, 1, 30, 200])
def test_a_cut_jpeg_is_broken(encode: Encode, colour_images: np.ndarray, cut: int) -> None:
    whole = encode(np.tile(colour_images[0], (8, 8, 1)), "JPEG")
    assert len(whole) > 1000
    with pytest.raises(BrokenImageError):
        decode(whole[:cut])
