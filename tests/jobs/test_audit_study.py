"""The audit as a command: folders, zips and stores of samples, bad input, a memorizing and an untrained network."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from scorescope.cli.main import main
from scorescope.data.store import Provenance, writing_store
from scorescope.foundation import UserError
from scorescope.jobs.audit import _labels, _step

QUICK = ["--features", "pixels", "--preset", "tiny"]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """scikit-learn's digits as 16×16 pictures, in an order of their own."""
    images = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((16, 16), Image.Resampling.BICUBIC)) for one in images[order]]
    )


def store(path: Path, images: np.ndarray) -> Path:
    with writing_store(path) as writer:
        writer.append(images[:, None], None, [f"{path.name}/{place}.png" for place in range(len(images))])
        writer.provenance = Provenance(source=path.name, colour="grey")
    return path


def files(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir()
    for place, image in enumerate(images):
        Image.fromarray(image).save(folder / f"g{place:03d}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray) -> Path:
    """Stores of 100 training images and 900 others."""
    top = tmp_path_factory.mktemp("audit")
    store(top / "train", pixels[:100])
    store(top / "others", pixels[100:1000])
    return top


@pytest.mark.slow
def test_a_folder_of_copies_and_its_exit_code(
    data: Path, pixels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bright = [np.clip(one.astype(int) + 20, 0, 255).astype(np.uint8) for one in pixels[:60]]
    enlarged = [np.asarray(Image.fromarray(one).resize((32, 32))) for one in bright[:30]]
    folder = files(tmp_path / "samples", [*bright[30:], *enlarged])
    (folder / "broken.png").write_bytes(b"no image")
    out = tmp_path / "run"
    words = ["--samples", folder, "--data", data / "train", "--held-out", data / "others", *QUICK]
    assert run("audit", *words, "--out", out, "--fail-if-copies", "--json") == 3
    said = json.loads(capsys.readouterr().out)
    assert said["audits"][0]["verdict"] == "memorizes"
    assert said["audits"][0]["copies"] == 60
    assert said["audits"][0]["power"]["exact"] > 0.9
    rows = (out / "samples.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 61
    assert "g000.png" in rows[1]
    assert "train/30.png" in rows[1]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.index("memorizes") < page.index("Of planted copies it finds") < page.index("most suspicious first")
    assert "1 broken ones were left out" in page
    assert run("audit", *words, "--out", out) == 2
    assert "already holds a finished run" in capsys.readouterr().err


@pytest.mark.slow
def test_zips_colours_and_training_files_themselves(
    data: Path, pixels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = tmp_path / "samples.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for place, image in enumerate([*pixels[:5], *pixels[1000:1100]]):
            Image.fromarray(image).convert("RGB").save(tmp_path / "one.png")
            archive.write(tmp_path / "one.png", f"{place:03d}.png")
    words = ["--samples", packed, "--data", data / "train", "--held-out", data / "others", *QUICK]
    assert run("audit", *words, "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "5 of the 105 samples are training images byte for byte: these files are copies" in said
    assert "in transition" in said


@pytest.mark.slow
def test_unseen_images_as_samples_raise_no_alarm(
    data: Path, pixels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = store(tmp_path / "samples", pixels[1000:1700])
    words = ["--samples", samples, "--data", data / "train", "--held-out", data / "others", *QUICK, "--bound", "0.25"]
    assert run("audit", *words, "--out", tmp_path / "run", "--fail-if-copies") == 0
    assert "generalizes" in capsys.readouterr().out


def test_wrong_input_is_one_line(
    data: Path, pixels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = data / "train"
    cases = [
        (["--data", training], "either --samples FOLDER or --model"),
        (["--samples", tmp_path / "none", "--data", training], "there is nothing at"),
        (["--samples", training, "--data", training, "--held-out", training], "are training images"),
        (["--samples", training, "--data", training, "--features", "nothing"], "feature space"),
        (["--samples", store(tmp_path / "small", pixels[:5, :8, :8]), "--data", training], "same --size"),
        (["--samples", training, "--data", training, "--fdr", "2"], "fdr"),
    ]
    for place, (words, expected) in enumerate(cases):
        assert run("audit", *words, "--out", tmp_path / f"run{place}") == 2
        said = capsys.readouterr().err
        assert expected in said
        assert said.count("\n") == 1


@pytest.mark.slow
def test_without_held_out_images_it_says_so(
    data: Path, tmp_path: Path, pixels: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = files(tmp_path / "samples", list(pixels[:40]))
    assert run("audit", "--samples", samples, "--data", data / "train", *QUICK, "--out", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "there are no unseen images" in said
    assert "memorizes" in said


def test_checkpoints_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for place in ("one/run/network", "two/run/network", "three"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "three" / "1000.pt").touch()
    given = [str(tmp_path / place) for place in ("one/run/network", "two/run/network", "three/1000.pt")]
    assert _labels(given[1:]) == ["network", "1000"]
    assert _labels(given) == ["one/run/network", "two/run/network", f"{tmp_path.name}/three/1000.pt"]
    with pytest.raises(UserError, match="is given twice"):
        _labels([given[0], given[0] + "/../network"])
    (tmp_path / "latest").symlink_to(given[0])
    assert _labels([str(tmp_path / "latest")]) == ["latest"]


def test_a_step_is_what_a_checkpoint_says_or_the_last_number_of_its_name() -> None:
    assert _step({"step": 20, "config": {"steps": 60}}, "step-40") == 20
    assert _step({"config": {"steps": 60}}, "network") == 60
    assert _step({}, "checkpoint-1000") == 1000
    assert math.isnan(_step({}, "network"))
