"""``scorescope data import|info|verify`` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from scorescope.cli.data import app
from scorescope.data import ImageStore
from scorescope.foundation import UserError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two class folders of three JPEGs, 10×8."""
    random = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        for i in range(3):
            file = tmp_path / "photos" / kind / f"{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(file)
    return tmp_path / "photos"


def run(*arguments: object) -> Result:
    """Run a command that must succeed."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def test_import_then_info_then_verify(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    done = run("import", photos, "--out", out, "--size", 8, "--grey")
    assert done.exit_code == 0
    assert "cat (3), dog (3)" in done.output
    assert "centre square" in done.output
    store = ImageStore.open(out)
    assert store.image_shape == (1, 8, 8)
    facts = json.loads(run("info", out, "--json").stdout)[str(out)]
    assert facts["images"] == 6
    assert facts["classes"] == {"cat": 3, "dog": 3}
    assert facts["notes"] == ["6 colour images were made grey (ITU-R BT.601 luma)"]
    assert "6 images" in run("verify", out).output
    assert json.loads(run("verify", out, "--json").stdout)["intact"] is True


def test_a_broken_image_is_refused_or_left_out(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "1.jpg").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"1 of the 6 images in .* is broken; the first is cat/1.jpg .*--skip-broken"):
        run("import", photos, "--out", tmp_path / "store")
    assert not list(tmp_path.glob("*store*"))
    done = run("import", photos, "--out", tmp_path / "store", "--skip-broken")
    assert "left out: cat/1.jpg (not an image that Pillow can read)" in done.output
    assert "1 broken images, the first cat/1.jpg" in run("info", tmp_path / "store").output


def test_an_existing_store_is_kept(photos: Path, tmp_path: Path) -> None:
    run("import", photos, "--out", tmp_path / "store")
    with pytest.raises(UserError, match="already exists"):
        run("import", photos, "--out", tmp_path / "store", "--grey")
    ImageStore.open(tmp_path / "store").verify()


def test_labels_from_a_file(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("5\n" * 6)
    run("import", photos, "--out", tmp_path / "store", "--labels", tmp_path / "labels.txt")
    assert ImageStore.open(tmp_path / "store").own_labels().tolist() == [5] * 6


def test_a_truncated_store_is_noticed_by_info_and_verify(photos: Path, tmp_path: Path) -> None:
    run("import", photos, "--out", tmp_path / "store")
    file = tmp_path / "store" / "images.npy"
    file.write_bytes(file.read_bytes()[:-10])
    for command in ("info", "verify"):
        with pytest.raises(UserError, match="truncated"):
            run(command, tmp_path / "store")


def test_built_in_names(tmp_path: Path) -> None:
    shown = run("info", "sinusoids:n=5,test_n=2,size=8")
    assert "a cone of two parameters" in shown.output
    facts = json.loads(run("info", "digits", "--json").stdout)
    assert (facts["train"]["images"], facts["test"]["images"]) == (1500, 297)
    assert facts["train"]["licence"] == "CC BY 4.0"
    with pytest.raises(UserError, match="is built in and needs no import"):
        run("import", "digits", "--out", tmp_path / "store")
    with pytest.raises(UserError, match="did you mean 'digits'"):
        run("info", "digit")
