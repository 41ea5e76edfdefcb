"""What a command imports before it does anything: modules are counted, because seconds depend on the machine."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from scorescope.data import Provenance, writing_store

HEAVY = {
    *("torch", "numba", "scipy", "matplotlib", "pandas", "torchmetrics", "skimage", "sklearn"),
    *("accelerate", "safetensors", "faiss", "jinja2", "pywt", "diffusers", "PIL"),
}
LISTING = """
import json, sys
from scorescope.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    print("\\x00" + json.dumps([left.code, sorted(sys.modules)]))
"""


def heavy_modules(*words):
    """Exit code of a command, what it said, and which of the heavy packages it imported."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING, *map(str, words)], capture_output=True, text=True, check=True, env=os.environ
    )
    said, _, record = done.stdout.partition("\x00")
    code, modules = json.loads(record)
    return code, said + done.stderr, sorted(HEAVY & {name.partition(".")[0] for name in modules})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "store"
    with writing_store(path) as writer:
        writer.append(np.zeros((3, 1, 8, 8), dtype=np.uint8))
        writer.provenance = Provenance(source="zeros", colour="grey")
    return path


COMMANDS = ["demo", "explain", "reproduce", "train", "sample", "denoise", "restore", "list", "data"]


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS), ["data", "info"], ["data", "import"]])
def test_help_imports_nothing_heavy(words):
    code, said, heavy = heavy_modules(*words, "--help")
    assert (code, heavy) == (0, [])
    assert "Usage" in said


@pytest.mark.parametrize("kind", ["denoisers", "networks", "preconditionings", "data", "studies"])
def test_lists_import_nothing_heavy(kind):
    code, said, heavy = heavy_modules("list", kind)
    assert (code, heavy) == (0, [])
    assert said.count("\n") > 5


def test_a_store_is_looked_at_without_anything_heavy(store):
    code, said, heavy = heavy_modules("data", "info", store)
    assert (code, heavy) == (0, [])
    assert "zeros" in said


MODEL = ["--model", "there.pt", "--data", "digits"]
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
    "sample --model nowhere --out x.png": "no such checkpoint",
    "sample --out x.png": "one of --denoiser NAME",
    "denoise --denoiser network:nowhere --data digits --sigma 1 --out x.png": "no such checkpoint",
    "denoise --denoiser optimal --data digist --sigma 1 --out x.png": "did you mean 'digits'",
    "restore --denoiser gausian --data digits --problem inpainting --out x.png": "did you mean 'gaussian'",
    "restore --denoiser gaussian --data digits --problem inpaint --out x.png": "choose of inpainting",
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
    "data import nowhere --out x": "nothing at nowhere",
}


@pytest.mark.parametrize("command", REFUSED)
def test_what_is_wrong_is_refused_before_anything_heavy_is_imported(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.pt").write_bytes(b"")
    code, said, heavy = heavy_modules(*command.split())
    assert code == 2
    assert said.count("\n") == 1
    assert REFUSED[command] in said
    assert heavy == ([] if not command.startswith("data import") else ["PIL"])
    assert [path.name for path in tmp_path.iterdir()] == ["there.pt"]


def test_the_package_itself_imports_nothing():
    code = "import sys, scorescope; print(sorted(name for name in sys.modules if name.startswith('scorescope')))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "torch" not in said
    assert "scorescope.app" not in said
