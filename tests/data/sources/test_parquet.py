"""Hugging Face data sets as they are downloaded, as parquet files: read where pyarrow is installed, one sentence where not."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scorescope.data import import_images, open_source
from scorescope.data.sources import BrokenImageError, ParquetSource
from scorescope.foundation import UserError

Encode = Callable[..., bytes]
FEATURES = {
    "img": {"_type": "Image"},
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    "note": {"dtype": "string", "_type": "Value"},
}


def write(path: Path, images: list[bytes | None], labels: list[int | None], *, described: bool = True) -> None:
    """A parquet file as the Hugging Face library writes it, in groups of four rows."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    cells = [None if image is None else {"bytes": image, "path": None} for image in images]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    table = pyarrow.table(
        {
            "img": pyarrow.array(cells, kind),
            "label": pyarrow.array(labels, pyarrow.int64()),
            "note": ["x"] * len(images),
        }
    )
    if described:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=4)


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"pip install 'scorescope\[datasets\]'"):
        open_source(tmp_path)


def test_files_of_a_split_are_read_in_order(tmp_path: Path, colour_images: np.ndarray, encode: Encode) -> None:
    content = [encode(pixels) for pixels in colour_images]
    write(tmp_path / "hub" / "data" / "train-00000-of-00002.parquet", content[:7], [0, 1] * 3 + [0])
    write(tmp_path / "hub" / "data" / "train-00001-of-00002.parquet", content[7:], [1] * 5)
    write(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet", content[:1], [1])
    (tmp_path / "hub" / "README.md").write_text("about")
    with open_source(tmp_path / "hub") as source:
        assert isinstance(source, ParquetSource)
        assert source.notes == ("of the splits test, train only train was taken (--split chooses)",)
        store = import_images(source, tmp_path / "store")
    np.testing.assert_array_equal(store.pixels.transpose(0, 2, 3, 1), colour_images)
    assert store.own_labels().tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 1]
    assert store.class_name(1) == "dog"
    with open_source(tmp_path / "hub", "test") as source:
        assert len(source) == 1
    with pytest.raises(UserError, match="no split 'val': pass --split with one of test, train"):
        open_source(tmp_path / "hub", "val")
    with open_source(tmp_path / "hub" / "data" / "test-00000-of-00001.parquet") as source:
        assert len(source) == 1


def test_files_of_other_programs_and_images_without_classes(tmp_path: Path, encode: Encode) -> None:
    picture = encode(np.zeros((4, 4), np.uint8))
    write(tmp_path / "a.parquet", [picture, picture], [0, -1])
    with open_source(tmp_path / "a.parquet") as source:
        assert source.labels is None
        assert "1 of 2 images have no class" in source.notes[0]
    write(tmp_path / "b.parquet", [picture, None, b"torn"], [0, 0, 0], described=False)
    with open_source(tmp_path / "b.parquet") as source:
        assert source.load(0).size == (4, 4)
        for index, reason in ((1, "empty"), (2, "not an image")):
            with pytest.raises(BrokenImageError, match=reason):
                source.load(index)


def test_damaged_files_and_several_data_sets_are_refused(tmp_path: Path, encode: Encode) -> None:
    picture = encode(np.zeros((4, 4), np.uint8))
    for name in ("one", "two"):
        write(tmp_path / name / "train-0.parquet", [picture], [0])
    with pytest.raises(UserError, match="several data sets"):
        open_source(tmp_path)
    file = tmp_path / "one" / "train-0.parquet"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UserError, match="not a readable parquet file"):
        open_source(tmp_path / "one")
