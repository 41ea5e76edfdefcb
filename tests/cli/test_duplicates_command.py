"""``scorescope data duplicates`` by its words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scorescope.cli.main import main
from scorescope.data import ImageStore


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(words))
    return int(left.value.code or 0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Eight pictures, two of them equal, one the mirror image of another."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (8, 12, 12), dtype=np.uint8)
    pixels[5], pixels[6] = pixels[2], pixels[1][:, ::-1]
    (tmp_path / "files").mkdir()
    for place, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "files" / f"p{place}.png")
    assert run("data", "import", str(tmp_path / "files"), "--out", str(tmp_path / "store")) == 0
    return tmp_path / "store"


def test_groups_are_named_and_drawn_and_left_out(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean, drawn = store.parent / "clean", store.parent / "groups.png"
    capsys.readouterr()
    words = ["--mirrored", "--out", str(clean), "--pictures", str(drawn), "--json"]
    assert run("data", "duplicates", str(store), *words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] == [["p1.png", "p6.png"], ["p2.png", "p5.png"]]
    assert len(ImageStore.open(clean)) == 6
    kept = ImageStore.open(clean)
    assert [kept.source_name(place) for place in range(6)] == [
        "p0.png",
        "p1.png",
        "p2.png",
        "p3.png",
        "p4.png",
        "p7.png",
    ]
    assert "2 of 8 images were left out" in kept.record.provenance.notes[-1]
    with Image.open(drawn) as picture:
        assert picture.size[0] > 200
    assert run("data", "duplicates", str(store), "--out", str(clean)) == 2
    assert "exists already" in capsys.readouterr().err


def test_another_store(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "duplicates", str(store)) == 0
    assert "2 in 1 group equal byte for byte" in capsys.readouterr().out
    clean = store.parent / "clean"
    assert run("data", "duplicates", str(store), "--out", str(clean)) == 0
    capsys.readouterr()
    assert run("data", "duplicates", str(clean), "--against", str(store)) == 0
    assert "8 of its 8 images are in clean, 8 of them byte for byte" in capsys.readouterr().out
    assert run("data", "duplicates", str(clean), "--against", str(store), "--out", str(store.parent / "none")) == 2
    assert "would be empty" in capsys.readouterr().err
    drawn = store.parent / "none.png"
    assert run("data", "duplicates", str(clean), "--pictures", str(drawn)) == 0
    assert "no groups to draw" in capsys.readouterr().out
    assert not drawn.exists()
    assert run("data", "duplicates", str(store), "--similarity", "2") == 2
    assert "between 0 and 1" in capsys.readouterr().err
