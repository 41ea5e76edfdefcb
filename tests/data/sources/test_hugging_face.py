"""Hugging Face data sets: read where the library is installed, one sentence where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from scorescope.data.sources import open_source
from scorescope.data.sources.hugging_face import is_hugging_face
from scorescope.foundation import UserError


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'scorescope\[datasets\]'"):
        open_source("hf:owner/name")
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(UserError, match="pip install"):
        open_source(tmp_path)


def test_only_a_prefix_or_a_saved_folder_is_taken_for_one(tmp_path: Path) -> None:
    assert is_hugging_face("hf:owner/name")
    assert not is_hugging_face("owner/name")
    assert not is_hugging_face(str(tmp_path))


def test_a_saved_folder_is_read(tmp_path: Path, colour_images: np.ndarray) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "kind": datasets.ClassLabel(names=["cat", "dog"]),
            "note": datasets.Value("string"),
        }
    )
    rows = {"picture": list(colour_images), "kind": [0, 1] * 6, "note": ["x"] * 12}
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table, "test": table.select([3])}).save_to_disk(tmp_path / "saved")
    with open_source(tmp_path / "saved") as source:
        np.testing.assert_array_equal(np.stack([np.asarray(source.load(i)) for i in range(12)]), colour_images)
        assert source.labels is not None
        assert source.labels.tolist() == [0, 1] * 6
        assert source.classes == ("cat", "dog")
    with open_source(tmp_path / "saved", "test") as source:
        assert len(source) == 1
    with pytest.raises(UserError, match="no split 'val'.*train, test"):
        open_source(tmp_path / "saved", "val")
