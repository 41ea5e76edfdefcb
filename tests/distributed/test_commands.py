"""Whole commands under torchrun: one run folder, the tables of a single process, and a rerun after a death."""

import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from tests.distributed.launching import here, own_lines, torchrun

DEMO = ["demo", "--preset", "tiny", "--set", "sizes=4", "--set", "training.steps=40", "--plugin", here("dying.py")]


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The run folder of one process with one thread."""
    folder = tmp_path_factory.mktemp("single")
    environment = os.environ | {"SCORESCOPE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    words = [*map(str, DEMO), "--out", str(folder / "run")]
    # A process of its own, which the plugin does not outlive.
    subprocess.run([sys.executable, "-m", "scorescope", *words], env=environment, capture_output=True, check=True)
    return folder / "run"


@pytest.mark.slow
def test_a_death_is_named_and_a_rerun_goes_on_to_what_one_process_finds(single, tmp_path):
    words = ["-m", "scorescope", *DEMO, "--out", tmp_path / "runs" / "run"]
    environment = {"SCORESCOPE_CACHE": str(tmp_path / "cache")}
    died = torchrun(2, words, environment | {"DYING": "1"})
    assert died.returncode != 0
    assert died.stdout == ""
    assert own_lines(died.stderr) == ["scorescope: ended by the launcher; the same command goes on where it was"]
    assert re.search(r"rank +: 1 .*\n *exitcode +: -9", died.stderr)  # torchrun's report

    run = tmp_path / "runs" / "run"
    finished = {path.parent.name: path.read_bytes() for path in run.glob("cells/*/value.json")}
    assert {name.partition("%2F")[2] for name in finished} == {"psnr", "samples", "audit", "landmarks"}
    assert not (run / "results.json").exists()
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/networks/*/network.safetensors")}
    assert len(trained) == 2

    done = torchrun(2, words, environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1
    assert own_lines(done.stderr) == []
    assert all(path.stat().st_mtime_ns == when for path, when in trained.items())
    assert [path.name for path in run.parent.iterdir()] == ["run"]
    results = json.loads((run / "results.json").read_text())
    assert results["environment"]["processes"] == "2 on 1 host"
    for stored in map(json.loads, finished.values()):
        assert results["timings"][stored["name"]] == stored["seconds"]
    same_tables(single, run)


def same_tables(expected, found):
    """Tables and claims agree to 1e-5."""
    names = sorted(path.name for path in (expected / "tables").iterdir())
    assert names == sorted(path.name for path in (found / "tables").iterdir())
    for name in names:
        one, other = (pd.read_csv(folder / "tables" / name) for folder in (expected, found))
        pd.testing.assert_frame_equal(one, other, rtol=1e-5, atol=1e-5)
    one, other = (json.loads((folder / "results.json").read_text()) for folder in (expected, found))
    assert [claim["verdict"] for claim in one["claims"]] == [claim["verdict"] for claim in other["claims"]]
    assert one["headline"] == other["headline"]


@pytest.mark.slow
def test_a_refusal_is_one_line_and_leaves_nothing(tmp_path):
    out = tmp_path / "runs" / "run"
    done = torchrun(2, ["-m", "scorescope", "demo", "--preset", "tiny", "--set", "sizes=5000", "--out", out])
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = own_lines(done.stderr)
    assert line.startswith("scorescope: N = 5000 asked for")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said", "code"),
    [("REFUSING", "the disk of this host is full", 2), ("FAILING", "ZeroDivisionError: a bug", 1)],
)
def test_a_process_that_fails_alone_gives_its_name_and_the_launcher_its_reason(tmp_path, how, said, code):
    words = ["--denoiser", "dying", "--plugin", here("dying.py"), "--data", "digits", "--sigma", 1, "--count", 2]
    done = torchrun(2, ["-m", "scorescope", "denoise", *words, "--out", tmp_path / "x.png"], {how: "1"})
    assert done.returncode != 0
    assert done.stdout == ""
    named = [line for line in own_lines(done.stderr) if "process 1 of 2" in line]
    assert len(named) == 1
    assert re.match(rf"scorescope: process 1 of 2 \(host \S+, pid \d+\): {said}", named[0])
    assert "process 0" not in "".join(own_lines(done.stderr))
    # Seen once, under load: a launcher without a report. Why is not known.
    assert "Root Cause" in done.stderr, done.stderr
    report = done.stderr[done.stderr.index("Root Cause") :]
    assert re.search(rf"rank +: 1 .*\n *exitcode +: {code}", report)
    assert said in report
    assert list(tmp_path.iterdir()) == []
