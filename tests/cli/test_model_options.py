"""What a user may give as --model, and the one line that hostile and unfitting files are answered with."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from tests.cli.conftest import run
from tests.networks.readers.files import SONG, edm_pickle, song_network, state_dict, unet


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edm.pkl").write_bytes(edm_pickle(song_network()))
    (tmp_path / "classes.pkl").write_bytes(edm_pickle(song_network(label_dim=3), SONG | {"label_dim": 3}))
    torch.save(state_dict(unet()), tmp_path / "unet.pt")
    return tmp_path


@pytest.mark.parametrize("model", ["edm.pkl", "unet.pt", "network:unet.pt"])
def test_denoise_with_any_checkpoint(capsys, files, model):
    option = "--denoiser" if ":" in model else "--model"
    words = ["--data", "digits", "--sigma", 0.5, "--count", 2, "--out", "d.png"]
    code, out, err = run(capsys, "denoise", option, model, *words)
    assert (code, err) == (0, "")
    assert "1×8×8 images" in out
    assert "PSNR" in out
    assert (files / "d.png").is_file()


def test_sample_says_what_was_opened(capsys, files):
    code, out, _ = run(capsys, "sample", "--model", "edm.pkl", "--count", 1, "--out", "s.png")
    assert code == 0
    assert "edm.pkl: EDM pickle, SongUNet in EDMPrecond" in out


def test_a_class_is_asked_for_and_taken(capsys, files):
    words = ["sample", "--model", "classes.pkl", "--count", 1, "--out", "s.png"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "choose a class label from 0 to 2" in err
    assert run(capsys, *words, "--class-label", 1)[0] == 0


class Runs:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("command", ["explain", "sample", "denoise"])
def test_a_pickle_that_would_run_something_is_refused(capsys, files, command):
    (files / "evil.pkl").write_bytes(pickle.dumps({"ema": Runs()}, 4))
    more = {"explain": ["--data", "digits"], "sample": ["--out", "s.png"]}
    words = more.get(command, ["--data", "digits", "--sigma", 1, "--out", "d.png"])
    before = sorted(files.iterdir())
    code, out, err = run(capsys, command, "--model", "evil.pkl", *words)
    assert (code, out) == (2, "")
    assert err.startswith("scorescope: evil.pkl was not opened: it asks for posix.system,")
    assert err.count("\n") == 1
    assert sorted(path for path in files.iterdir() if path.name != "runs") == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--model", "unet.pt", "--out", "s.png"], "--arch-arg image_size=N"),
        (["sample", "--model", "unet.pt", "--arch", "dit", "--out", "s.png"], "not those of dit"),
        (["sample", "--model", "unet.pt", "--arch-arg", "x", "--out", "s.png"], "NAME=VALUE"),
        (["denoise", "--data", "digits", "--sigma", "1", "--out", "d.png"], "one of --denoiser NAME"),
        (
            ["denoise", "--denoiser", "optimal", "--arch", "dit", "--data", "digits", "--sigma", "1", "--out", "d.png"],
            "optimal is none",
        ),
        (
            ["denoise", "--model", "edm.pkl", "--data", "disks:n=9,test_n=2,size=16", "--sigma", "1", "--out", "d.png"],
            "8×8 grey",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(capsys, files, words, said):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
