"""Images by name: options, the cache, and what to do when a name or a path is not right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scorescope.data import (
    Provenance,
    builtin_datasets,
    cache_folder,
    load_images,
    loading,
    parse_builtin,
    writing_store,
)
from scorescope.data import fashion_mnist as fashion
from scorescope.foundation import UserError

SMALL = {
    "digits": "digits",
    "natural-patches": "natural-patches:n=30,test_n=10,size=12",
    "c-alpha": "c-alpha:n=30,test_n=10,size=16,alpha=3,background=1",
    "disks": "disks:n=30,test_n=10,size=16",
    "ray": "ray:n=30,test_n=10,size=16",
    "sinusoids": "sinusoids:n=30,test_n=10,size=16,fx=1,fy=0",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_name_but_fashion_mnist_is_made_small_here() -> None:
    assert set(builtin_datasets) == {*SMALL, "fashion-mnist"}


@pytest.mark.parametrize("name", list(SMALL))
def test_a_built_in_data_set_is_made_once_and_opened_afterwards(name: str, cache: Path) -> None:
    first = load_images(SMALL[name])
    assert first.test is not None
    stamps = {file: file.stat().st_mtime_ns for file in cache.rglob("*")}
    again = load_images(SMALL[name])
    assert again.test is not None
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*")} == stamps
    assert again.train.fingerprint() == first.train.fingerprint()
    assert again.test.fingerprint() == first.test.fingerprint() != first.train.fingerprint()
    assert (first.train.name, first.test.name) == (name, f"{name} test")
    pixels = first.train.read(0, 30)
    assert pixels.std(axis=(1, 2, 3)).max() > 1
    assert not {image.tobytes() for image in pixels} & {image.tobytes() for image in first.test.read(0, 10)}


def test_digits_keep_their_classes() -> None:
    train, test = load_images("digits")
    assert test is not None
    assert (len(train), len(test), train.image_shape) == (1500, 297, (1, 8, 8))
    assert set(train.own_labels().tolist()) == set(range(10))
    assert train.read(0, 1500).max() == 255


def test_more_images_begin_with_the_fewer() -> None:
    few, many = (load_images("disks", n=n, test_n=2, size=12).train for n in (7, 600))
    np.testing.assert_array_equal(many.read(0, 7), few.read(0, 7))


def test_options_as_text_and_as_arguments_are_the_same(cache: Path) -> None:
    as_text = load_images("natural-patches:n=4,test_n=2,size=9,color=true", seed=3)
    as_arguments = load_images("natural-patches", n=4, test_n=2, size=9, color=True, seed=3)
    assert as_text.train.image_shape == (3, 9, 9)
    assert as_text.train.fingerprint() == as_arguments.train.fingerprint()
    assert len(list((cache / "datasets").iterdir())) == 1
    request = parse_builtin("natural-patches:size=9,n=20000", seed=3)
    assert request is not None
    assert request.said == "natural-patches:size=9,seed=3"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("fashion", "did you mean 'fashion-mnist'.*no store at fashion"),
        ("digits:size=3", "digits has no option 'size'; its options: none"),
        ("disks:sise=3", "no option 'sise'; its options: n, test_n, size, seed"),
        ("disks:size=large", "size='large'"),
        ("disks:size=2", "size='2'"),
        ("disks:n=0", "n='0'"),
        ("disks:big", "'big' is not of the form option=value"),
        ("sinusoids:fx=nan", "fx='nan'"),
    ],
)
def test_wrong_names_and_options_are_refused(data: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_images(data)


def test_stores_by_path(tmp_path: Path) -> None:
    for name in ("alone", "both/train", "both/test"):
        with writing_store(tmp_path / name) as writer:
            writer.append(np.full((3, 1, 2, 2), len(name), np.uint8))
            writer.provenance = Provenance(source="a test", colour="grey")
    alone = load_images(tmp_path / "alone")
    assert alone.test is None
    assert len(alone.train) == 3
    both = load_images(str(tmp_path / "both"))
    assert both.test is not None
    assert (both.train.name, both.test.name) == ("both", "both test")
    with pytest.raises(UserError, match="is not a store: import it first"):
        load_images(tmp_path)
    with pytest.raises(UserError, match="has no options: size given"):
        load_images(tmp_path / "alone", size=3)


def test_a_damaged_cache_says_what_to_delete(cache: Path) -> None:
    load_images("disks:n=3,test_n=2,size=12")
    (file,) = cache.rglob("train/images.npy")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        UserError, match=r"cached disks cannot be used: .*truncated.*; delete .*disks-\w+ to have it made"
    ):
        load_images("disks:n=3,test_n=2,size=12")


def test_a_cache_that_cannot_be_written_is_one_sentence(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(UserError, match="SCORESCOPE_CACHE"):
        load_images("disks:n=3,test_n=2,size=12")


def test_two_that_make_the_same_at_once_do_not_collide(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = "sinusoids:n=20,test_n=5,size=16"
    write, overtaken = loading._write, []

    def slow_write(*arguments: Any) -> None:
        if not overtaken:
            overtaken.append("")
            overtaken[0] = load_images(data).train.fingerprint()
        write(*arguments)

    monkeypatch.setattr(loading, "_write", slow_write)
    assert [load_images(data).train.fingerprint()] == overtaken
    assert len(list((cache / "datasets").iterdir())) == 1


def test_the_cache_is_in_the_home_folder_unless_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SCORESCOPE_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "scorescope"


@pytest.mark.slow
@pytest.mark.skipif(not fashion.DEBIAN_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist_from_a_path_is_the_same_data_set(cache: Path) -> None:
    given = load_images(f"fashion-mnist:path={fashion.DEBIAN_FOLDER}")
    found = load_images("fashion-mnist")
    assert (len(found.train), len(found.test or ())) == (60_000, 10_000)
    assert given.train.fingerprint() == found.train.fingerprint()
    assert len(list((cache / "datasets").iterdir())) == 1
