"""Restoring and sampling as a user types them: with networks and with training-free denoisers, and what is refused."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.conftest import refused, run

from scorescope.app.choices import PROBLEMS
from scorescope.app.restoration import measurement_of


@pytest.mark.parametrize("problem", PROBLEMS)
def test_what_is_known_is_what_the_words_say(problem):
    found, words = measurement_of(problem, None, (3, 8, 12), seed=1)
    image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    values = found.measure(image)
    known = found.spread(values) == image
    if problem == "inpainting":
        assert "side 4" in words
        assert torch.equal(~known[0, 0], torch.nn.functional.pad(torch.ones(4, 4), (4, 4, 2, 2)).bool())
    elif problem == "missing-pixels":
        assert "70%" in words
        assert torch.equal(known[0, 0], known[0, 2])
        assert known[0, 0].sum() == 96 - round(0.7 * 96)
    elif problem == "super-resolution":
        assert found.coarse(values)[0, 1, 1, 2] == pytest.approx(image[0, 1, 4:8, 8:12].mean().item())
    else:
        assert (found.count, "29 random" in words) == (29, True)
    again, _ = measurement_of(problem, None, (3, 8, 12), seed=1)
    assert torch.equal(again.measure(image), values)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_prior_restores_more_than_the_measurements_show(capsys, problem, tmp_path):
    words = ["--denoiser", "gaussian", "--data", "digits", "--problem", problem, "--out", tmp_path / "r.png"]
    amount = ["--amount", 0.5] if problem == "compressive-sensing" else []
    code, said, _ = run(capsys, "restore", *words, *amount, "--count", 3, "--each", 4, "--h", 0.05)
    assert code == 0
    one, mean, measured = (float(number) for number in re.findall(r"([\d.]+) dB", said))
    assert mean > one
    assert mean > measured
    assert "100% converged" in said
    kept = float(re.search(r"measurements kept to (\S+):", said).group(1))
    assert kept < 1e-4
    assert Image.open(tmp_path / "r.png").size[0] > 3 * 8


@pytest.mark.slow
def test_a_network_restores_and_its_own_seed_decides(capsys, trained, tmp_path):
    words = [
        "restore",
        "--model",
        trained,
        "--data",
        "digits",
        "--problem",
        "missing-pixels",
        "--count",
        2,
        "--each",
        2,
    ]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        code, said, _ = run(
            capsys, *words, "--constant-step", "--h", 0.2, "--seed", seed, "--out", tmp_path / f"{name}.png"
        )
        assert code == 0
        assert "values are known" in said
    first, same, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert first == same != other


def test_samples_of_the_optimal_denoiser_are_training_images(capsys, tmp_path):
    code, said, _ = run(
        capsys, "sample", "--denoiser", "optimal", "--data", "digits", "--count", 4, "--out", tmp_path / "s.png"
    )
    assert code == 0
    assert "4 samples of optimal, 100% converged" in said
    assert np.asarray(Image.open(tmp_path / "s.png")).std() > 10


@pytest.mark.slow
def test_the_ascent_of_a_blind_network_is_steered(capsys, trained, tmp_path):
    pictures = set()
    for more in ([], ["--beta", 0.5], ["--constant-step", "--h", 0.2], ["--data", "digits"]):
        code, _, _ = run(
            capsys, "sample", "--model", trained, "--count", 2, *more, "--force", "--out", tmp_path / "s.png"
        )
        assert code == 0
        pictures.add((tmp_path / "s.png").read_bytes())
    assert len(pictures) == 4


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ["restore", "--problem", "blur"],
            "choose of inpainting, missing-pixels, super-resolution, compressive-sensing",
        ),
        (["restore", "--problem", "inpainting", "--amount", 8], "between 1 and 7"),
        (["restore", "--problem", "inpainting", "--amount", "nan"], "whole number of pixels"),
        (["restore", "--problem", "super-resolution", "--amount", 3], "do not tile"),
        (["restore", "--problem", "compressive-sensing", "--amount", 1.5], "between 0 and 1"),
        (["restore", "--problem", "missing-pixels", "--amount", "nan"], "between 0 and 1"),
        (["restore", "--problem", "inpainting", "--beta", 2], "--beta"),
        (["sample", "--beta", 0.5], "leave out --h, --beta and --constant-step"),
    ],
)
def test_what_cannot_be_asked_is_said(capsys, words, reason, tmp_path):
    out = tmp_path / "r.png"
    assert reason in refused(capsys, *words, "--denoiser", "gaussian", "--data", "digits", "--out", out)
    assert not out.exists()


@pytest.mark.slow
def test_samples_need_images_or_a_network_and_levels_only_where_there_are_any(capsys, trained, tmp_path):
    out = ["--out", tmp_path / "s.png"]
    assert "say which with --data" in refused(capsys, "sample", "--denoiser", "optimal", *out)
    assert "leave out --steps" in refused(capsys, "sample", "--model", trained, "--steps", 9, *out)
