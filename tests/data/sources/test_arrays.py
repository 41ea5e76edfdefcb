"""NumPy files, IDX and CIFAR: layouts, ranges, labels, and files that are cut or could run code."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scorescope.data.sources import ArraySource, CifarSource, Source, open_source
from scorescope.data.sources.labels import read_labels
from scorescope.foundation import UserError

WriteIdx = Callable[[Path, np.ndarray], Path]


def loaded(source: Source) -> np.ndarray:
    return np.stack([np.asarray(source.load(i)) for i in range(len(source))])


@pytest.mark.parametrize("layout", ["NHWC", "NCHW", "NHW", "NHW1"])
def test_layouts_of_npy(tmp_path: Path, colour_images: np.ndarray, layout: str) -> None:
    grey = colour_images[..., 0]
    written, expected = {
        "NHWC": (colour_images, colour_images),
        "NCHW": (np.ascontiguousarray(colour_images.transpose(0, 3, 1, 2)), colour_images),
        "NHW": (grey, grey),
        "NHW1": (grey[..., None], grey),
    }[layout]
    np.save(tmp_path / "a.npy", written)
    with open_source(tmp_path / "a.npy") as source:
        assert isinstance(source, ArraySource)
        np.testing.assert_array_equal(loaded(source), expected)
        assert source.name_of(3) == f"{tmp_path / 'a.npy'}[3]"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1)])
def test_floats_are_scaled_as_said(tmp_path: Path, colour_images: np.ndarray, low: int, high: int) -> None:
    floats = low + (high - low) * colour_images.astype(np.float32) / 255
    np.save(tmp_path / "a.npy", floats)
    with open_source(tmp_path / "a.npy") as source:
        np.testing.assert_array_equal(loaded(source), colour_images)
        assert source.notes == (f"floats taken to be in [{low}, 1], rounded to 8 bits",)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, 4, 4), np.int64), "dtype int64"),
        (np.full((2, 4, 4), 255.0), "floats from 255 to 255"),
        (np.full((2, 4, 4), np.nan), "NaN"),
        (np.zeros((4, 4), np.uint8), "shape"),
        (np.zeros((2, 3, 4, 3), np.uint8), "first or last"),
        (np.zeros((2, 4, 4, 4), np.uint8), "no axis of 1 or 3"),
        (np.zeros((0, 4, 4), np.uint8), "no images"),
        (np.array([{}], dtype=object), "cannot be read"),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=said):
        open_source(tmp_path / "a.npy")


def test_a_cut_npy_is_refused(tmp_path: Path, colour_images: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", colour_images)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content[:-5])
    with pytest.raises(UserError, match="cannot be read"):
        open_source(tmp_path / "a.npy")


def test_npz_with_labels(tmp_path: Path, colour_images: np.ndarray) -> None:
    labels = np.arange(12)[:, None] % 5
    np.savez_compressed(
        tmp_path / "a.npz", train_images=colour_images, train_labels=labels, val_images=colour_images[:1]
    )
    with open_source(tmp_path / "a.npz") as source:
        np.testing.assert_array_equal(loaded(source), colour_images)
        assert source.labels is not None
        np.testing.assert_array_equal(source.labels, labels[:, 0])
    np.savez(tmp_path / "one.npz", anything=colour_images)
    with open_source(tmp_path / "one.npz") as source:
        assert len(source) == 12
        assert source.labels is None
    np.savez(tmp_path / "two.npz", this=colour_images, that=colour_images)
    with pytest.raises(UserError, match="holds the arrays this, that"):
        open_source(tmp_path / "two.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(UserError, match=r"not a readable .npz"):
        open_source(tmp_path / "cut.npz")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_with_labels_beside(tmp_path: Path, write_idx: WriteIdx, colour_images: np.ndarray, suffix: str) -> None:
    grey = colour_images[..., 1]
    path = write_idx(tmp_path / f"train-images-idx3-ubyte{suffix}", grey)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(12, dtype=np.uint8))
    for opened in (path, tmp_path):
        with open_source(opened) as source:
            np.testing.assert_array_equal(loaded(source), grey)
            assert source.labels is not None
            assert source.labels.tolist() == list(range(12))


def test_idx_that_does_not_fit_is_refused(tmp_path: Path, write_idx: WriteIdx, colour_images: np.ndarray) -> None:
    path = write_idx(tmp_path / "a-images-idx3-ubyte", colour_images[..., 0])
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="its header says"):
        open_source(path)
    packed = write_idx(tmp_path / "b-images-idx3-ubyte.gz", colour_images[..., 0])
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be unpacked"):
        open_source(packed)
    with pytest.raises(UserError, match="holds 2 files of images"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="IDX file of 1 axes"):
        open_source(write_idx(tmp_path / "labels", np.arange(3, dtype=np.uint8)))


def cifar(path: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
    """Write (N, 32, 32, 3) images and (N, 1 or 2) label bytes as the binary version."""
    path.write_bytes(
        np.hstack([labels, pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)]).astype(np.uint8).tobytes()
    )


def test_cifar_binary(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(7)[:, None]
    cifar(tmp_path / "data_batch_1.bin", pixels[:4], labels[:4])
    cifar(tmp_path / "data_batch_2.bin", pixels[4:], labels[4:])
    cifar(tmp_path / "test_batch.bin", pixels[:1], labels[:1])
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\n")
    with open_source(tmp_path) as source:
        assert isinstance(source, CifarSource)
        np.testing.assert_array_equal(loaded(source), pixels)
        assert source.labels is not None
        assert source.labels.tolist() == list(range(7))
        assert source.classes == ("airplane", "automobile")
    with open_source(tmp_path / "test_batch.bin") as source:
        assert len(source) == 1


def test_cifar_100_keeps_the_fine_label(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    cifar(tmp_path / "train.bin", pixels, np.array([[1, 50], [2, 60], [3, 70]]))
    with open_source(tmp_path) as source:
        np.testing.assert_array_equal(loaded(source), pixels)
        assert source.labels is not None
        assert source.labels.tolist() == [50, 60, 70]


def test_cut_cifar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(3000))
    with pytest.raises(UserError, match="not whole records"):
        open_source(tmp_path / "a.bin")


def python_2_batch(pixels: np.ndarray, labels: list[int], names: tuple[str, str] = ("data", "labels")) -> bytes:
    """A batch as Python 2's cPickle wrote it, which Python 3 cannot: strings are bytes (Krizhevsky's own files)."""
    rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1).tobytes()

    def text(word: str) -> bytes:
        return b"U" + bytes((len(word),)) + word.encode()

    dtype = (
        b"cnumpy\ndtype\n"
        + text("u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text("|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text("b") + b"\x87R"
    shape = b"M" + len(pixels).to_bytes(2, "little") + b"M\x00\x0c\x86"
    array = made + b"(K\x01" + shape + dtype + b"\x89T" + len(rows).to_bytes(4, "little") + rows + b"tb"
    listed = b"](" + b"".join(b"K" + bytes((label,)) for label in labels) + b"e"
    return b"\x80\x02}(" + text(names[0]) + array + text(names[1]) + listed + b"u."


def test_cifar_python_version_and_its_archive(tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(python_2_batch(pixels[:4], [3, 1, 2, 9]))
    # Python 3 writes the same with other instructions.
    (folder / "data_batch_2").write_bytes(
        pickle.dumps({"data": pixels[4:].transpose(0, 3, 1, 2).reshape(2, -1), "labels": [0, 5]}, 4)
    )
    assert pickle.loads((folder / "data_batch_1").read_bytes(), encoding="bytes")[b"labels"] == [3, 1, 2, 9]
    (folder / "test_batch").write_bytes(python_2_batch(pixels[:1], [7]))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}, 2))
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as packed:
        packed.add(folder, folder.name)
    for source_path in (folder, tmp_path / "cifar-10-python.tar.gz"):
        with open_source(source_path) as source:
            assert isinstance(source, CifarSource)
            np.testing.assert_array_equal(loaded(source), pixels)
            assert source.labels is not None
            assert source.labels.tolist() == [3, 1, 2, 9, 0, 5]
            assert source.classes == ("airplane", "automobile")
    with open_source(folder / "test_batch") as source:
        assert len(source) == 1


def test_cifar_100_python_version(tmp_path: Path) -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "train").write_bytes(python_2_batch(pixels, [50, 60], ("data", "fine_labels")))
    (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple"]}, 2))
    with open_source(tmp_path) as source:
        np.testing.assert_array_equal(loaded(source), pixels)
        assert source.labels is not None
        assert source.labels.tolist() == [50, 60]
        assert source.classes == ("apple",)


class Runs:
    def __reduce__(self) -> object:
        return exec, ("raise SystemExit",)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"data": Runs(), "labels": [0]}, "asks for builtins.exec"),
        ({"data": 1, "labels": [0]}, "no array 'data'"),
        ({"data": np.zeros((2, 7), np.uint8), "labels": [0, 1]}, "no array 'data'"),
        ({"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]}, "no array 'data'"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "its labels are not 2 classes"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]}, "its labels are not 2 classes"),
        ([1], "holds no dictionary"),
    ],
)
def test_pickles_that_are_no_batches_are_refused_and_run_nothing(tmp_path: Path, held: object, said: str) -> None:
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(held, 4))
    for path in (tmp_path, tmp_path / "data_batch_1"):
        with pytest.raises(UserError, match=said):
            open_source(path)


def test_damaged_archives_of_cifar_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(UserError, match="packed and not CIFAR"):
        open_source(tmp_path / "a.tar.gz")
    (tmp_path / "b.tar.gz").write_bytes((tmp_path / "a.tar.gz").read_bytes()[:50])
    with pytest.raises(UserError, match="cannot be unpacked"):
        open_source(tmp_path / "b.tar.gz")


def test_images_of_torch_save(tmp_path: Path, colour_images: np.ndarray) -> None:
    images, labels = torch.from_numpy(colour_images.transpose(0, 3, 1, 2).copy()), torch.arange(12)
    floats = images.float() / 255
    for held in (
        images,
        floats,
        (images, labels),
        [images, labels],
        {"images": images, "labels": labels},
        {"anything": floats},
    ):
        torch.save(held, tmp_path / "a.pt")
        with open_source(tmp_path / "a.pt") as source:
            np.testing.assert_array_equal(loaded(source), colour_images)
            if not isinstance(held, torch.Tensor) and len(held) == 2:
                assert source.labels is not None
                assert source.labels.tolist() == list(range(12))
    for held, said in (
        ({"net.weight": images, "net.bias": labels}, "holds no tensor of images"),
        (torch.nn.Linear(2, 2).state_dict(), "holds no tensor of images"),
        (images.long() * 16, "--white"),
        (Runs(), r"asks for __builtin__.exec"),
        ((images, labels - 1), "image 0 has class -1"),
    ):
        torch.save(held, tmp_path / "a.pt")
        with pytest.raises(UserError, match=said):
            open_source(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.rar", "unpack it first"),
        ("a.tar.gz", "cannot be unpacked"),
        ("a.png", "single image"),
        ("a.doc", "no known kind"),
        ("a.pt", "not a file of torch.save"),
        ("a.pkl", "can run code"),
    ],
)
def test_other_files_are_refused_with_what_to_do(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(UserError, match=said):
        open_source(tmp_path / name)


def test_nothing_there_and_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is nothing at"):
        open_source(tmp_path / "none")
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(UserError, match="is a store already"):
        open_source(tmp_path)


def test_labels_in_a_file_of_their_own(tmp_path: Path, write_idx: WriteIdx) -> None:
    expected = [3, 1, 2]
    np.save(tmp_path / "a.npy", np.array(expected, dtype=np.int32))
    (tmp_path / "a.txt").write_text("3\n1\n2\n")
    write_idx(tmp_path / "a.idx", np.array(expected, dtype=np.uint8))
    for name in ("a.npy", "a.txt", "a.idx"):
        assert read_labels(tmp_path / name, 3).tolist() == expected
    with pytest.raises(UserError, match="has 3 labels, the source has 4"):
        read_labels(tmp_path / "a.txt", 4)
    (tmp_path / "a.txt").write_text("3\ncat\n")
    with pytest.raises(UserError, match="line 2: 'cat'"):
        read_labels(tmp_path / "a.txt", 2)
    np.save(tmp_path / "a.npy", np.zeros((2, 2)))
    with pytest.raises(UserError, match="whole numbers"):
        read_labels(tmp_path / "a.npy", 2)
    with pytest.raises(UserError, match="no file of labels"):
        read_labels(tmp_path / "none", 2)
