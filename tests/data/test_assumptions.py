"""What an import assumes is said: how arrays are laid out, what happens to unusual images, in which order, of which split."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scorescope.data import ImageStore, import_images, open_source
from scorescope.data.importing import side_of
from scorescope.data.sources import BrokenImageError
from scorescope.data.sources.decoding import decode
from scorescope.data.sources.file_names import natural
from scorescope.foundation import UserError

Encode = Callable[..., bytes]
WriteZip = Callable[..., Path]
GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def stored(folder: Path, source: Path | str, **options: object) -> ImageStore:
    """A store of a source in a new folder."""
    said = {name: options.pop(name) for name in ("split", "white") if name in options}
    with open_source(source, **said) as opened:  # type: ignore[arg-type]
        return import_images(opened, folder / f"store{len(list(folder.glob('store*')))}", **options)  # type: ignore[arg-type]


def notes(store: ImageStore) -> str:
    return "; ".join(store.record.provenance.notes)


def npy(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


def test_one_image_alone_is_one_image(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    store = stored(tmp_path, npy(tmp_path, colour))
    assert store.pixels.shape == (1, 3, 8, 9)
    np.testing.assert_array_equal(store.pixels[0].transpose(1, 2, 0), colour)
    assert "taken to be one colour image of 9×8" in notes(store)
    assert stored(tmp_path, npy(tmp_path, colour[..., :1])).pixels.shape == (1, 1, 8, 9)
    with pytest.raises(UserError, match=r"one colour image or three grey ones: save it as \(1, 3, 9, 8\)"):
        open_source(npy(tmp_path, np.ascontiguousarray(colour.T[:, :, :])))
    with pytest.raises(UserError, match=r"one image is \(1, 8, 8\)"):
        open_source(npy(tmp_path, GREY))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (
            0.0,
            1.0000002,
            r"floats taken to be in [0, 1], rounded to 8 bits; values as far as 2.4e-07 beyond were clipped",
        ),
        (-1e-7, 1.0, r"[0, 1], rounded to 8 bits; values as far as 1.0e-07 beyond"),
        (-1.001, 1.0, r"[-1, 1], rounded to 8 bits; values as far as 1.0e-03 beyond"),
        (0.0, 0.5, r"[0, 1], rounded to 8 bits"),
        (-1.0, 0.0, r"[-1, 1], rounded to 8 bits"),
    ],
)
def test_floats_a_hair_beyond_their_range_are_read(tmp_path: Path, low: float, high: float, said: str) -> None:
    images = np.linspace(low, high, 128, dtype=np.float32).reshape(2, 8, 8)
    store = stored(tmp_path, npy(tmp_path, images))
    bottom = 0.0 if "[0, 1]" in said else -1.0
    expected = np.rint(((images.astype(np.float64) - bottom) * 255 / (1 - bottom)).clip(0, 255))
    np.testing.assert_array_equal(store.pixels[:, 0], expected)
    assert said in notes(store)


@pytest.mark.parametrize(("low", "high"), [(0, 1.01), (-1.01, 1), (0, 255), (-3, 3)])
def test_floats_far_beyond_their_range_are_refused(tmp_path: Path, low: float, high: float) -> None:
    with pytest.raises(UserError, match="floats from"):
        open_source(npy(tmp_path, np.linspace(low, high, 128).reshape(2, 8, 8)))


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.float32, ">u2", np.float16])
def test_any_numbers_are_read_once_their_white_is_known(tmp_path: Path, dtype: object) -> None:
    values = np.linspace(0, 1000, 128).reshape(2, 8, 8).astype(dtype)
    with pytest.raises(UserError, match="--white"):
        open_source(npy(tmp_path, values))
    store = stored(tmp_path, npy(tmp_path, values), white=1000)
    np.testing.assert_array_equal(store.pixels[:, 0], np.rint(values.astype(np.float64) * 255 / 1000))
    assert "1000 taken to be white" in notes(store)
    with pytest.raises(UserError, match="not within 0 and --white 999"):
        open_source(npy(tmp_path, values), white=999)
    for white in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="positive and finite"):
            open_source(npy(tmp_path, values), white=white)


def test_black_and_white_arrays_are_read(tmp_path: Path) -> None:
    store = stored(tmp_path, npy(tmp_path, np.stack([GREY > 9, GREY > 20])))
    np.testing.assert_array_equal(store.pixels[0, 0], 255 * (GREY > 9))
    assert "booleans" in notes(store)


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    images = np.zeros((3, 8, 8), np.uint8)
    for labels, said in (
        (np.array([0, -1, 2]), "image 1 has class -1"),
        (np.array([0, 1, 2**63], dtype=np.uint64), "image 2 has class 9223372036854775808"),
        (np.array([0.0, 0.7, 1.0]), "whole numbers"),
        (np.arange(4), "3 images have 4 labels"),
    ):
        np.savez(tmp_path / "a.npz", images=images[..., None], labels=labels)
        with pytest.raises(UserError, match=said):
            open_source(tmp_path / "a.npz")
    with (
        open_source(npy(tmp_path, images[..., None])) as source,
        pytest.raises(UserError, match="image 0 has class -5"),
    ):
        import_images(source, tmp_path / "store", labels=np.array([-5, 1, 1]))
    assert not list(tmp_path.glob("*store*"))
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(3))
    assert stored(tmp_path, tmp_path / "a.npz").pixels.shape == (3, 1, 8, 8)  # three labels: three grey images


def test_files_are_in_natural_order_which_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in (0, 1, 2, 10, 11):
        for kind in ("class 2", "class 10"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            (folder / kind / f"{number}.png").write_bytes(saved(Image.new("L", (4, 4), number)))
    store = stored(tmp_path, folder)
    assert [store.source_name(index) for index in range(5)] == [f"class 2/{number}.png" for number in (0, 1, 2, 10, 11)]
    assert store.record.provenance.classes == ("class 2", "class 10")
    assert "order of the numbers in their names" in notes(store)
    assert sorted(["b10", "b2", "a", "b02", "b"], key=natural) == ["a", "b", "b02", "b2", "b10"]


def test_a_file_counts_once_whatever_links_there_are(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(3):
        (folder / f"z{number}.png").write_bytes(saved(Image.new("L", (4, 4), number)))
        (folder / f"a{number}.png").symlink_to(folder / f"z{number}.png")
    os.link(folder / "z0.png", folder / "z9.png")
    os.mkfifo(folder / "pipe.png")
    store = stored(tmp_path, folder)
    assert [store.source_name(index) for index in range(len(store))] == ["z0.png", "z1.png", "z2.png"]
    assert "4 links to files that are there under another name" in notes(store)
    (folder / "gone.png").symlink_to(folder / "nowhere")
    with pytest.raises(UserError, match=r"the first is gone.png \(cannot be read"):
        stored(tmp_path, folder)


SPLIT = [
    f"root/{split}/{kind}/{number}.png" for split in ("train", "test") for kind in ("cat", "dog") for number in "12"
]


def test_one_of_several_splits_is_chosen(tmp_path: Path, write_zip: WriteZip) -> None:
    members = {name: saved(Image.new("L", (4, 4), index)) for index, name in enumerate(SPLIT)}
    for name, content in members.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for source in (tmp_path / "root", write_zip(members)):
        store = stored(tmp_path, source)
        assert store.record.provenance.classes == ("cat", "dog")
        assert store.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
        assert "of the folders test, train only train was taken, 4 of 8 images" in notes(store)
        assert stored(tmp_path, source, split="test").pixels[:, 0, 0, 0].tolist() == [4, 5, 6, 7]
        with pytest.raises(UserError, match="none for 'val': pass --split"):
            open_source(source, "val")


def test_a_folder_called_train_alone_is_a_class(tmp_path: Path, write_zip: WriteZip) -> None:
    picture = saved(Image.new("L", (4, 4)))
    store = stored(tmp_path, write_zip({"car/1.png": picture, "train/1.png": picture}))
    assert store.record.provenance.classes == ("car", "train")


def test_folders_of_five_digits_are_no_classes(tmp_path: Path, write_zip: WriteZip) -> None:
    members = {f"0000{number}/img.png": saved(Image.new("L", (4, 4), number)) for number in range(2)}
    store = stored(tmp_path, write_zip(members))
    assert store.labels is None
    assert "folders of five digits (00000, …) were taken to be parts of one set and not classes" in notes(store)


def test_a_nested_dataset_json_is_read(tmp_path: Path, write_zip: WriteZip) -> None:
    picture = saved(Image.new("L", (4, 4)))
    labels = json.dumps({"labels": [["00000/a.png", 3], ["./00001/b.png", 1]]}).encode()
    members = {"top/00000/a.png": picture, "top/00001/b.png": picture, "top/dataset.json": labels}
    assert stored(tmp_path, write_zip(members)).own_labels().tolist() == [3, 1]
    with pytest.raises(UserError, match=r"holds 2 files dataset.json"):
        open_source(write_zip(members | {"dataset.json": labels}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"labels": [["a.png", 0.7]]}', "has the class 0.7"),
        ('{"labels": [["a.png", 1.0]]}', "has the class 1.0"),
        ('{"labels": [["a.png", true]]}', "has the class True"),
        ('{"labels": [["a.png", [0, 1]]]}', "has the class"),
        ('{"labels": [["a.png", NaN]]}', "has the class nan"),
        ('{"labels": [["a.png", -1]]}', "class -1"),
        ('{"labels": [["a.png", 99999999999999999999]]}', "class 99999999999999999999"),
        ('{"labels": [["a.png", 1], ["a.png", 2]]}', "the classes 1 and 2"),
        ('{"labels": [["b.png", 1]]}', "no label for 1 of 1"),
        ('{"labels": {"a.png": 1}}', "not of the form"),
        ('{"labels": 3}', "not of the form"),
        ('{"labels": [[1, 2]]}', "not of the form"),
        ("[]", "not of the form"),
        ("", "not of the form"),
        ("[" * 100_000, "not of the form"),
        ("\\udcff", "not of the form"),
    ],
)
def test_dataset_json_that_says_no_classes_is_refused(write_zip: WriteZip, text: str, said: str) -> None:
    members = {"a.png": saved(Image.new("L", (4, 4))), "dataset.json": text.encode()}
    with pytest.raises(UserError, match=said):
        open_source(write_zip(members))


def test_a_zip_made_on_windows_is_like_any_other(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as file:
        for name in (r"top\cat\1.png", r"top\dog\1.png", r"__MACOSX\top\cat\._1.png"):
            info = zipfile.ZipInfo("x")
            info.filename = name
            file.writestr(info, saved(Image.new("L", (4, 4))) if "MACOSX" not in name else b"junk")
    store = stored(tmp_path, tmp_path / "w.zip")
    assert store.record.provenance.classes == ("cat", "dog")
    assert store.source_name(0) == "top/cat/1.png"


def test_what_was_done_to_unusual_images_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    plain = Image.new("RGB", (4, 4), (9, 9, 9))
    exif = plain.getexif()
    exif[0x0112] = 3
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    opaque = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    for name, content in {
        "turned.png": saved(plain, exif=exif.tobytes()),
        "plain.png": saved(plain),
        "clear.png": saved(clear),
        "opaque.png": saved(opaque),
        "moving.gif": saved(plain, "GIF", save_all=True, append_images=[clear.convert("RGB")]),
        "pages.tif": saved(plain, "TIFF", save_all=True, append_images=[plain]),
    }.items():
        (folder / name).write_bytes(content)
    said = notes(stored(tmp_path, folder))
    assert "the first of several frames or pages taken: 2 of 6 images" in said
    assert "turned as the EXIF orientation says: 1 of 6 images" in said
    assert "laid on white where they are transparent: 1 of 6 images" in said


def test_twelve_bits_in_files_of_sixteen_are_noticed_and_mended(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    values = np.random.default_rng(1).integers(0, 4000, (2, 8, 8)).astype(np.uint16)
    values[0, 0, 0] = 4095
    (folder / "0.png").write_bytes(saved(Image.fromarray(values[0])))
    (folder / "1.tif").write_bytes(saved(Image.fromarray(values[1]), "TIFF"))
    store = stored(tmp_path, folder)
    assert store.pixels.max() == 15
    assert "16 bits a value cut to the upper 8: 2 of 2 images, the brightest value 4,095 of 65,535" in notes(store)
    assert "--white 4095" in notes(store)
    store = stored(tmp_path, folder, white=4095)
    np.testing.assert_array_equal(store.pixels[:, 0], np.rint(values * (255 / 4095)))
    assert "scaled to the white that was given: 2 of 2 images" in notes(store)
    with pytest.raises(UserError, match=r"2 of the 2 .* not within 0 and --white 255"):
        stored(tmp_path, folder, white=255)
    bright = tmp_path / "bright"
    bright.mkdir()
    (bright / "0.png").write_bytes(saved(Image.fromarray(values[0] * 16)))
    assert "--white" not in notes(stored(tmp_path, bright))


def test_colour_of_sixteen_bits_is_noticed() -> None:
    rows = b"".join(b"\0" + np.full((4, 3), 3000, dtype=">u2").tobytes() for _ in range(4))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))  # Pillow itself writes no such file
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    found = decode(content)
    assert found.changes == ("16 bits a colour cut to the upper 8",)
    assert np.asarray(found.image).max() == 3000 >> 8
    with pytest.raises(BrokenImageError, match="--white cannot mend"):
        decode(content, 4095)


@pytest.mark.parametrize(("text", "side"), [("32", 32), ("28x28", 28), ("28X28", 28), ("28×28", 28), (" 8 ", 8)])
def test_sides_are_taken_as_people_write_them(text: str, side: int) -> None:
    assert side_of(text) == side


@pytest.mark.parametrize("text", ["28x32", "", "x", "-1", "1.5", "nan", "9" * 99, "1x1x1", "²"])
def test_sides_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--size"):
        side_of(text)


def _images() -> list[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    colour, deep = Image.fromarray(pixels), Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    animated = {"save_all": True, "append_images": [colour.rotate(90, expand=False)]}
    return [
        *(saved(colour, kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")),
        *(saved(colour, "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        *(saved(colour, kind, **animated) for kind in ("GIF", "TIFF", "PNG", "WEBP")),
        *(saved(deep, kind) for kind in ("PNG", "TIFF")),
        saved(colour.convert("P")),
        saved(colour.convert("RGBA")),
        saved(colour.convert("CMYK"), "TIFF"),
    ]


@pytest.mark.filterwarnings("ignore")
def test_damaged_images_are_broken_images_whatever_the_decoder_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 20)  # a damaged header can claim a hundred million pixels
    choose, seeds = random.Random(0), _images()
    reasons = []
    for _ in range(1500):
        content = bytearray(choose.choice(seeds))
        if choose.random() < 0.3:
            del content[choose.randrange(len(content)) :]
        for _ in range(choose.choice((1, 2, 4, 30)) if content else 0):
            content[choose.randrange(min(len(content), 300))] = choose.choice((0, 255, choose.randrange(256)))
        try:
            assert decode(bytes(content)).image.mode in ("L", "RGB")
        except BrokenImageError as error:
            reasons.append(str(error))
    assert 500 < len(reasons) < 1500
    assert all(reason and "\n" not in reason for reason in reasons)


def test_any_exception_of_a_decoder_is_a_broken_image(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(Image.new("L", (4, 4)))
    for kind in (TypeError, KeyError, IndexError, OverflowError, MemoryError, RecursionError, AttributeError):

        def fail(self: Image.Image, kind: type[Exception] = kind) -> None:
            raise kind

        monkeypatch.setattr(Image.Image, "getexif", fail)
        with pytest.raises(BrokenImageError, match=kind.__name__):
            decode(content)


@pytest.mark.parametrize("kind", ["zip", "npz", "npy", "gz"])
def test_damaged_containers_are_one_line(tmp_path: Path, write_zip: WriteZip, write_idx: Callable, kind: str) -> None:
    if kind == "zip":
        path = write_zip({f"{number}.png": saved(Image.new("L", (4, 4))) for number in range(3)})
    elif kind == "gz":
        path = write_idx(tmp_path / "a-idx3-ubyte.gz", np.zeros((3, 4, 4), np.uint8))
    elif kind == "npz":
        path = tmp_path / "a.npz"
        np.savez_compressed(path, images=np.zeros((3, 4, 4), np.uint8), labels=np.arange(3))
    else:
        path = npy(tmp_path, np.zeros((3, 4, 4), np.uint8))
    whole, choose, refused = path.read_bytes(), random.Random(1), 0
    for _ in range(300):
        content = bytearray(whole[: choose.randrange(len(whole))] if choose.random() < 0.2 else whole)
        for _ in range(choose.choice((1, 3, 20)) if content else 0):
            content[choose.randrange(len(content))] = choose.randrange(256)
        path.write_bytes(content)
        try:
            with open_source(path) as source:
                for index in range(min(len(source), 5)):
                    source.load(index)
        except (UserError, BrokenImageError):
            refused += 1
    assert refused > 30


def test_a_gz_that_unpacks_to_more_than_it_says_is_left_in_time(tmp_path: Path) -> None:
    import gzip

    header = bytes((0, 0, 8, 3)) + np.array((1, 4, 4), dtype=">u4").tobytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(header + bytes(50_000_000)))
    with pytest.raises(UserError, match="33 bytes or more where its header says 32"):
        open_source(tmp_path / "a.gz")


def test_a_member_that_is_too_large_is_a_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorescope.data.sources.files.LARGEST_FILE", 10_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(20_000))
    with open_source(tmp_path / "a.zip") as source, pytest.raises(BrokenImageError, match="more than the 10,000"):
        source.load(0)


def test_large_images_go_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(saved(Image.new("RGB", (1500, 1500), (number, 0, 0))))
    store = stored(tmp_path, folder)
    assert store.pixels[:, 0, 9, 9].tolist() == [0, 1, 2, 3, 4]
