"""Stores: what goes in comes out, whatever happens to the files is noticed, and nothing half-written is left."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from scorescope.data import ImageStore, Provenance, is_store, writing_store
from scorescope.data.store import Skipped, name_of
from scorescope.foundation import UserError

PIXELS = np.random.default_rng(2).integers(0, 256, (11, 3, 4, 5), dtype=np.uint8)
LABELS = np.arange(11) % 2
NAMES = [f"photo {i} 'ü'\n.png" for i in range(11)]
PROVENANCE = Provenance(
    source="here", colour="colour", classes=("cat", "dog"), skipped=(Skipped(name="x", reason="cut"),)
)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    with writing_store(tmp_path / "store") as writer:
        for start, stop in ((0, 4), (4, 5), (5, 11)):
            writer.append(PIXELS[start:stop], LABELS[start:stop], NAMES[start:stop])
        writer.provenance = PROVENANCE
    return ImageStore.open(tmp_path / "store")


def edit_record(store: ImageStore, **changes: object) -> None:
    file = store.path / "store.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_what_was_written_is_read(store: ImageStore) -> None:
    np.testing.assert_array_equal(store.read(0, 11), PIXELS)
    np.testing.assert_array_equal(store.own_labels(), LABELS)
    assert [store.source_name(i) for i in range(11)] == NAMES
    assert store.record.provenance == PROVENANCE
    assert [store.class_name(label) for label in (0, 1, 2)] == ["cat", "dog", "2"]
    np.testing.assert_array_equal(np.load(store.path / "images.npy"), PIXELS)
    store.verify()


def test_images_are_mapped_and_read_only(store: ImageStore) -> None:
    base = store.pixels
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.read(0, 1)[:] = 0


def test_labels_and_names_may_be_missing(tmp_path: Path) -> None:
    with writing_store(tmp_path / "plain") as writer:
        writer.append(PIXELS)
        writer.provenance = PROVENANCE
    store = ImageStore.open(tmp_path / "plain", "photos")
    assert sorted(file.name for file in store.path.iterdir()) == ["images.npy", "store.json"]
    assert store.labels is None
    assert store.name == "photos"
    assert store.source_name(3) == "here[3]"
    store.verify()


def test_a_store_travels_between_processes_as_its_path(store: ImageStore) -> None:
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    np.testing.assert_array_equal(pickle.loads(sent).pixels, PIXELS)


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
def test_a_truncated_array_is_noticed_on_opening(store: ImageStore, file: str) -> None:
    content = (store.path / file).read_bytes()
    (store.path / file).write_bytes(content[:-1])
    with pytest.raises(UserError, match=rf"{file} is damaged: it is truncated"):
        ImageStore.open(store.path)
    (store.path / file).write_bytes(content + b"\0")
    with pytest.raises(UserError, match="longer than it was"):
        ImageStore.open(store.path)
    (store.path / file).write_bytes(content[:50])
    with pytest.raises(UserError, match="header"):
        ImageStore.open(store.path)


def test_an_array_of_another_shape_is_noticed_on_opening(store: ImageStore) -> None:
    np.save(store.path / "images.npy", PIXELS[:7])
    with pytest.raises(UserError, match=r"\(7, 3, 4, 5\).*says.*\(11, 3, 4, 5\)"):
        ImageStore.open(store.path)


@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "names.jsonl"])
def test_a_missing_file_is_noticed_on_opening(store: ImageStore, file: str) -> None:
    (store.path / file).unlink()
    with pytest.raises(UserError, match=f"{file} is damaged: it is missing"):
        ImageStore.open(store.path)


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
def test_a_changed_byte_is_found_by_verify(store: ImageStore, file: str) -> None:
    content = bytearray((store.path / file).read_bytes())
    content[-1] ^= 1
    (store.path / file).write_bytes(content)
    with pytest.raises(UserError, match=f"{file} is damaged: its SHA-256"):
        ImageStore.open(store.path).verify()


def test_missing_names_are_found_by_verify(store: ImageStore) -> None:
    file = store.path / "names.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:4]))
    with pytest.raises(UserError, match="has 4 lines, not 11"):
        ImageStore.open(store.path).verify()


def test_a_record_that_does_not_fit_is_noticed(store: ImageStore) -> None:
    edit_record(store, count=0)
    with pytest.raises(UserError, match="count"):
        ImageStore.open(store.path)
    edit_record(store, count=11, schema_version=9)
    with pytest.raises(UserError, match="newer scorescope"):
        ImageStore.open(store.path)
    (store.path / "store.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        ImageStore.open(store.path)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no store"):
        ImageStore.open(tmp_path / "none")
    with pytest.raises(UserError, match="is not a store"):
        ImageStore.open(tmp_path)
    assert not is_store(tmp_path)


def test_an_existing_folder_is_refused(store: ImageStore) -> None:
    with pytest.raises(UserError, match="already exists"), writing_store(store.path):
        pytest.fail("the block must not run")
    store.verify()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom")])
def test_an_interrupted_store_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), writing_store(tmp_path / "store") as writer:
        writer.append(PIXELS)
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk:
        def __init__(self, file: object) -> None:
            self.file = file

        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self.file.close()  # type: ignore[attr-defined]

    with pytest.raises(UserError, match="disk is full"), writing_store(tmp_path / "store") as writer:
        monkeypatch.setattr(writer, "_images", FullDisk(writer._images))
        writer.append(PIXELS)
    assert list(tmp_path.iterdir()) == []


def test_pieces_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def write(*appends: tuple[object, ...]) -> None:
        with writing_store(tmp_path / "store") as writer:
            for arguments in appends:
                writer.append(*arguments)  # type: ignore[arg-type]
            writer.provenance = PROVENANCE

    with pytest.raises(ValueError, match="at least one image"):
        write()
    with pytest.raises(ValueError, match="float64"):
        write((PIXELS.astype(float),))
    with pytest.raises(ValueError, match=r"given \(1, 4, 5\)"):
        write((PIXELS,), (PIXELS[:, :1],))
    with pytest.raises(ValueError, match="with 2 labels"):
        write((PIXELS, LABELS[:2]))
    with pytest.raises(ValueError, match="every image or for none"):
        write((PIXELS, LABELS), (PIXELS,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", ["cut", "write", "remove"])
def test_a_store_changed_while_in_use_is_not_read_on(store, change):
    part = store.subset(range(10)).with_flips()
    part.read(0, 5)
    array = store.path / "images.npy"
    if change == "cut":
        os.truncate(array, 200)
    elif change == "write":
        with array.open("r+b") as file:
            file.seek(300)
            file.write(b"\0\1\2")
        os.utime(array, ns=(0, 0))
    else:
        array.unlink()
    for read in (lambda: store.read(0, 11), lambda: part.read(0, 5), lambda: part.take([3]), store.fingerprint):
        with pytest.raises(UserError, match="was changed while it was in use"):
            read()


def test_a_part_of_a_store_knows_where_its_images_came_from(tmp_path):
    with writing_store(tmp_path / "store") as writer:
        writer.append(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 0, 1]), [f"{name}.png" for name in "abcd"])
        writer.provenance = Provenance(source="letters", colour="grey")
    store = ImageStore.open(tmp_path / "store")
    part = store.of_class(1).with_flips().subset([1]).without_flips()
    assert name_of(part, 0) == "d.png"
    assert name_of(pickle.loads(pickle.dumps(part)), 0) == "d.png"
