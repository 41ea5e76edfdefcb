"""What a command imports before it does anything: modules are counted, because seconds depend on the machine."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from tests.cli.conftest import run

from scorescope.data import Provenance, writing_store

HEAVY = {
    *("torch", "numba", "scipy", "matplotlib", "pandas", "torchmetrics", "skimage", "sklearn"),
    *("accelerate", "safetensors", "faiss", "jinja2", "pywt", "diffusers", "PIL"),
}
LISTING = """
import contextlib, io, json, os, sys
from pathlib import Path
from scorescope.cli.main import main

for words in json.load(sys.stdin):
    before, said = set(sys.modules), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(words)
        except SystemExit as left:
            code = left.code
    new = {name.partition(".")[0] for name in set(sys.modules) - before}
    print(json.dumps({"code": code, "said": said.getvalue(), "modules": sorted(new), "left": sorted(os.listdir())}))
"""


def in_turn(folder, commands):
    """What commands do in one new process: exit code, what they say, and which heavy packages they are the first to import."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        tuple(words): one | {"heavy": sorted(HEAVY & set(one["modules"]))}
        for words, one in zip(commands, found, strict=True)
    }


DATA = ["import", "info", "verify", "duplicates"]
COMMANDS = [
    "demo",
    "explain",
    "explore",
    "audit",
    "attribute",
    "model",
    "reproduce",
    "train",
    "sample",
    "denoise",
    "restore",
    "list",
    "data",
]


HELP = [["--help"], *([name, "--help"] for name in COMMANDS), *(["data", name, "--help"] for name in DATA)]
LISTS = [["list", kind] for kind in ("denoisers", "networks", "preconditionings", "data", "lenses", "studies")]
LOOKS = [["data", "info", "store"], ["data", "verify", "store"]]
REFUSED = {
    "explain --model nowhere --data digits": "no such checkpoint",
    "explain --model there.pt --data digit": "did you mean 'digits'",
    "explain --model there.pt --data digits --held-out digist": "did you mean 'digits'",
    "explain --model there.pt --data digits --other nowhere": "no such checkpoint",
    "explain --model there.pt --data digits --preset smal": "did you mean 'small'",
    "explain --model there.pt --data digits --set sed=1": "no setting is called 'sed'",
    "explain --model there.pt --data digits --arch unot": "did you mean 'unet'",
    "explain --model there.pt --data digits --arch-arg x": "NAME=VALUE",
    "explain --model there.pt --data digits --device gpu": "cannot be used",
    "explain --model there.pt --data digits --plugin mine.py": "no Python file",
    "explain --model there.pt --data digits --out there.pt": "is a file",
    "explain --model there.pt --data digits:n=3": "no option",
    "explain --model there.pt": "--data",
    "sample --denoiser optimol --data digits --out x.png": "did you mean 'optimal'",
    "sample --denoiser optimal --data digits --out there.pt": "no picture ends in",
    "sample --denoiser optimal --data digits --out .": "is a folder",
    "sample --denoiser optimal --out x.png": "say which with --data",
    "explain --model there.pt --data store --lens localty": "did you mean 'locality'",
    "sample --model nowhere --out x.png": "no such checkpoint",
    "sample --out x.png": "one of --denoiser NAME",
    "denoise --denoiser network:nowhere --data digits --sigma 1 --out x.png": "no such checkpoint",
    "denoise --denoiser optimal --data digist --sigma 1 --out x.png": "did you mean 'digits'",
    "restore --denoiser gausian --data digits --problem inpainting --out x.png": "did you mean 'gaussian'",
    "restore --denoiser gaussian --data digits --problem inpaint --out x.png": "choose of inpainting",
    "explore nowhere": "nowhere is not there",
    "explore store": "no run folder",
    "explore store --out there.pt": "no run folder",
    "train --data digits --arch unot --out net": "did you mean 'unet'",
    "train --data digit --out net": "did you mean 'digits'",
    "reproduce main/explian": "did you mean 'main/explain'",
    "reproduce niedoba2025/fig7 --set levles=2": "did you mean 'levels'",
    "demo --preset tiney": "did you mean 'tiny'",
    "demo --set training.step=5": "did you mean 'training.steps'",
    "demo --set training=5": "is a group of settings",
    "demo --device mps": "what is here, cpu",
    "demo --device nonsense": "what is here, cpu",
    "demo --nonsense": "scorescope --help",
    "nonsense": "scorescope --help",
    "list denoiser": "did you mean 'denoisers'",
    "data info nowhere": "no store at nowhere",
    "data verify nowhere": "no store at nowhere",
    "data duplicates digist": "did you mean 'digits'",
    "data duplicates store --against nowhere": "no store at nowhere",
    "data import nowhere --out x": "nothing at nowhere",
}


# Refused by what opens it, the last thing that a command does before it measures.
OPENING = "explain --model there.pt --data store"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """All of these commands, in a folder with a store and a file."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "there.pt").write_bytes(b"")
    with writing_store(folder / "store") as writer:
        writer.append(np.zeros((3, 1, 8, 8), dtype=np.uint8))
        writer.provenance = Provenance(source="zeros", colour="grey")
    return in_turn(folder, [*HELP, *LISTS, *LOOKS, *(command.split() for command in REFUSED), OPENING.split()])


@pytest.mark.slow
@pytest.mark.parametrize("words", [*HELP, *LISTS, *LOOKS], ids=" ".join)
def test_help_lists_and_a_look_at_a_store_import_nothing_heavy(done, words):
    found = done[tuple(words)]
    assert (found["code"], found["heavy"]) == (0, [])
    assert ("Usage" if words in HELP else "zeros" if words == LOOKS[0] else "") in found["said"]


@pytest.mark.parametrize("command", REFUSED)
def test_what_is_wrong_is_refused_before_anything_heavy_is_imported(done, command):
    found = done[tuple(command.split())]
    assert found["code"] == 2
    assert found["said"].count("\n") == 1
    assert REFUSED[command] in found["said"]
    assert found["heavy"] == (["PIL"] if command.startswith("data import") else [])
    assert found["left"] == ["store", "there.pt"]


def test_explain_imports_nothing_heavy_but_pytorch_before_the_model_is_opened(done):
    found = done[tuple(OPENING.split())]
    assert "there.pt was not opened" in found["said"]
    assert found["heavy"] == ["safetensors", "torch"]


DROWNED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt as error:
    raise ImportError("as some packages do when they are interrupted in their own import") from error
"""


def test_an_interruption_that_an_import_turns_into_an_error_is_still_one(capsys, tmp_path):
    (tmp_path / "mine.py").write_text(DROWNED)
    words = ["denoise", "--denoiser", "mine", "--plugin", tmp_path / "mine.py", "--data", "digits", "--sigma", 1]
    # A process that a shell starts in its background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, out, err = run(capsys, *words, "--out", tmp_path / "x.png")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, out) == (130, "")
    assert err == "scorescope: interrupted; the same command starts again; nothing half-written is left\n"


def test_the_package_itself_imports_nothing():
    code = "import sys, scorescope; print(sorted(name for name in sys.modules if name.startswith('scorescope')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split(", ") == ["['scorescope'", "'scorescope.foundation'", "'scorescope.foundation.lazy']\n"]
