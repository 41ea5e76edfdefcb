"""The commands as a user types them: what they print, what they refuse, and that they go on after an interruption."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import refused, run
from tests.conftest import heed_interrupts


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("denoisers", ["optimal", "gaussian", "pspc-square", "network:PATH"]),
        ("networks", ["unet"]),
        ("data", ["fashion-mnist", "digits", "natural-patches", "c-alpha", "disks", "ray", "sinusoids"]),
        ("studies", ["main/transition", "main/explain"]),
        ("lenses", ["memorization", "locality", "variance"]),
    ],
)
def test_lists_name_everything(capsys, kind, names):
    code, out, _ = run(capsys, "list", kind, "--json")
    assert code == 0
    assert set(names) <= {row["name"] for row in json.loads(out)}
    assert run(capsys, "list", kind)[0] == 0


@pytest.mark.slow
def test_the_tiny_demo_makes_a_whole_run_folder(capsys, tmp_path):
    out = tmp_path / "demo"
    code, said, _ = run(capsys, "demo", "--preset", "tiny", "--out", out)
    assert code == 0
    assert "N = 200" in said
    results = json.loads((out / "results.json").read_text())
    assert [verdict["label"] for verdict in results["verdicts"]] == ["N = 4", "N = 200"]
    assert len(results["claims"]) >= 5
    page = (out / "report.html").read_text()
    assert results["headline"].split(".")[0][:40] in page
    assert (out / "networks" / "A-200" / "network.safetensors").exists()
    assert "already holds a finished run" in refused(capsys, "demo", "--preset", "tiny", "--out", out)


@pytest.mark.exhaustive
def test_an_interrupted_demo_goes_on(tmp_path):
    environment = os.environ | {"SCORESCOPE_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, "-X", "faulthandler", "-m", "scorescope", "demo", "--preset", "tiny"]
    words += ["--out", str(tmp_path / "run")]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    while not list((tmp_path / "cache").glob("networks/*.training.safetensors")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(f"it does not end; where its threads are:\n{process.communicate()[1]}")
    assert process.returncode == 130
    assert "goes on where it was" in err
    assert not (tmp_path / "run" / "results.json").exists()
    assert subprocess.run(words, env=environment, check=False).returncode == 0
    assert (tmp_path / "run" / "report.html").exists()
    assert not list((tmp_path / "cache").glob("networks/*.training.safetensors"))


@pytest.mark.slow
def test_a_model_is_explained_on_the_images_it_was_trained_on(capsys, trained, tmp_path):
    out = tmp_path / "run"
    code, said, _ = run(
        capsys, "explain", "--model", trained, "--data", "digits", "--preset", "tiny", "--out", out, "--json"
    )
    assert code == 0
    results = json.loads(said)
    assert results["methods"]["Training images"].startswith("200 images of digits")
    assert "checkpoint says it was trained on" in results["methods"]["Training images"]
    keys = {figure["key"] for figure in results["figures"]}
    assert keys >= {"psnr", "samples-the-model", "similarity", "explained-network", "examples-network", "sample-sheet"}
    assert keys >= {"heatmaps-network", "concentration", "best-side"}
    sections = ["Memorization", "Samples", "Mechanisms", "Locality", "Shrinkage", "Variance"]
    assert results["opened"] == [*sections, "Explorer"]
    assert [glance["section"] for glance in results["glances"]] == sections
    assert "explorer.html" in (out / "report.html").read_text(encoding="utf-8")
    assert Path(results["explorer"]) == out / "explorer.html"
    assert (out / "explorer.html").is_file()
    assert results["not_measured"] == {}
    assert keys >= {"eigenvalues", "eigenvectors", "dimension", "proxy-variance"}
    assert "model-variance" not in keys


@pytest.mark.slow
def test_a_second_model_adds_agreement_and_the_variance_of_models(capsys, trained, tmp_path):
    other = tmp_path / "other"
    words = ["--data", "digits", "--size", 200, "--split", "b", "--seed", 1, "--preset", "tiny", "--steps", 60]
    assert run(capsys, "train", *words, "--out", other)[0] == 0
    more = [
        "--data",
        "digits",
        "--preset",
        "tiny",
        "--lens",
        "memorization,variance",
        "--out",
        tmp_path / "run",
        "--json",
    ]
    code, said, _ = run(capsys, "explain", "--model", trained, "--other", other, *more)
    results = json.loads(said)
    assert code == 0
    assert "model-variance" in {figure["key"] for figure in results["figures"]}
    assert "checkpoint says it was trained on" in results["methods"]["Other 1"]
    (evidence,) = csv.DictReader((tmp_path / "run" / "tables" / "verdicts.csv").read_text().splitlines())
    assert 0 < float(evidence["network to network"].split()[0]) <= 1


@pytest.mark.slow
def test_training_leaves_a_checkpoint_its_record_and_a_page(trained):
    record = json.loads((trained / "network" / "network.json").read_text())["training"]
    assert [observed["step"] for observed in record["observed"]] == [20, 40, 60, 80, 100, 120, 140, 150]
    assert record["loss"][-1] < record["loss"][0] / 2
    assert record["selection"] == {"total": 1500, "size": 200, "count": 2, "share": 0, "seed": 0}
    assert "Learning curve" in (trained / "report.html").read_text()


@pytest.mark.slow
def test_samples_and_denoised_images_are_pictures(capsys, trained, tmp_path):
    assert run(capsys, "sample", "--model", trained, "--count", 3, "--out", tmp_path / "s.png")[0] == 0
    code, said, _ = run(
        capsys,
        "denoise",
        "--denoiser",
        f"network:{trained}",
        "--data",
        "digits",
        "--sigma",
        0.5,
        "--out",
        tmp_path / "d.png",
    )
    assert code == 0
    assert "PSNR" in said
    for name in ("s.png", "d.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 10


def from_pages(name):
    """The Python file of that name as the how-to pages show it."""
    pages = (Path(__file__).parents[2] / "docs" / "howto").glob("*.md")
    blocks = [block for page in pages for block in page.read_text(encoding="utf-8").split("```python\n")]
    (found,) = [block.split("```")[0] for block in blocks if block.startswith(f"# {name}\n")]
    return found


@pytest.mark.slow
def test_a_denoiser_and_a_lens_of_ones_own_stand_beside_the_others(trained, tmp_path):
    words = ["explain", "--model", str(trained), "--data", "digits", "--preset", "tiny", "--out", str(tmp_path / "run")]
    words += ["--lens", "mechanisms,brightness", "--json"]
    for name in ("mine.py", "look.py"):
        (tmp_path / name).write_text(from_pages(name))
        words += ["--plugin", str(tmp_path / name)]
    done = subprocess.run([sys.executable, "-m", "scorescope", *words], capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)
    assert results["opened"] == ["Mechanisms", "Brightness"]
    assert [figure["key"] for figure in results["figures"] if figure["section"] == "Brightness"] == ["brightness"]
    compared = (tmp_path / "run" / "tables" / "mechanisms.csv").read_text()
    assert "mean-image" in compared
    assert len(from_pages("look.py").strip().splitlines()) <= 16


@pytest.mark.slow
def test_older_names_of_lenses_are_understood(capsys, trained, tmp_path):
    words = ["explain", "--model", trained, "--data", "digits", "--preset", "tiny"]
    code, said, _ = run(capsys, *words, "--set", "closer=[]", "--out", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(said)["opened"] == ["Memorization", "Mechanisms"]
    assert "closer" in refused(capsys, *words, "--set", "closer=localty", "--out", tmp_path / "other")
    assert "did you mean 'locality'" in refused(capsys, *words, "--lens", "localty", "--out", tmp_path / "other")


@pytest.mark.slow
def test_wrong_words_are_answered_in_one_line(capsys, trained, tmp_path):
    missing = tmp_path / "nowhere"
    assert "no such checkpoint" in refused(capsys, "explain", "--model", missing, "--data", "digits")
    assert "did you mean 'digits'" in refused(capsys, "demo", "--data", "digit", "--out", tmp_path / "a")
    assert "did you mean 'gaussian'" in refused(
        capsys, "denoise", "--denoiser", "gausian", "--data", "digits", "--sigma", 1, "--out", tmp_path / "b.png"
    )
    assert "did you mean 'main/explain'" in refused(capsys, "reproduce", "main/explian")
    assert "did you mean 'denoisers'" in refused(capsys, "list", "denoiser")
    assert "did you mean 'tiny'" in refused(capsys, "demo", "--preset", "tiney", "--out", tmp_path / "c")
    assert "did you mean 'training.steps'" in refused(
        capsys, "demo", "--preset", "tiny", "--set", "training.step=5", "--out", tmp_path / "d"
    )
    assert "scorescope --help" in refused(capsys, "demo", "--nonsense")
    assert "cannot be used" in refused(
        capsys, "demo", "--preset", "tiny", "--device", "cuda:7", "--out", tmp_path / "e"
    )
    assert "two disjoint halves" in refused(
        capsys, "demo", "--preset", "tiny", "--set", "sizes=10,5000", "--out", tmp_path / "f"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sigma", ["0", "-1", "nan", "inf"])
def test_impossible_noise_levels_are_refused(capsys, tmp_path, sigma):
    said = refused(
        capsys, "denoise", "--denoiser", "optimal", "--data", "digits", "--sigma", sigma, "--out", tmp_path / "a.png"
    )
    assert "positive and finite" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_model_and_data_that_do_not_fit_are_refused(capsys, trained, tmp_path):
    said = refused(
        capsys, "explain", "--model", trained, "--data", "disks:n=20,test_n=5,size=16", "--out", tmp_path / "run"
    )
    assert "(1, 8, 8)" in said
    assert "(1, 16, 16)" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_damaged_plugin_is_named(capsys, trained, tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0\n")
    words = ["explain", "--model", trained, "--data", "digits", "--out", tmp_path / "run", "--plugin"]
    assert "ZeroDivisionError" in refused(capsys, *words, tmp_path / "bad.py")
    assert "no Python file" in refused(capsys, *words, tmp_path / "none.py")
