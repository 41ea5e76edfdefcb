"""Attribution as a command: a network that was trained here, its own sample and images that were given."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.posterior import oracles

from scorescope import report
from scorescope.cli.main import main
from scorescope.data import load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.jobs.attribute import opened_sample
from scorescope.jobs.train import Train
from scorescope.lenses.attribution.settings import AttributionSettings
from scorescope.lenses.attribution.states import drawn_states
from scorescope.networks import load_network
from scorescope.study.provenance import own_training_images

pytestmark = pytest.mark.slow
WORDS = ["--data", "digits", "--preset", "tiny", "--json"]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A checkpoint trained on 200 of the digits for a moment."""
    folder = tmp_path_factory.mktemp("attribute")
    few = ["samples=2", "sample_times=1", "observe_images=4", "observe_every=1000"]
    settings = {"data": "digits", "architecture": "unet", "size": 200, "training": {"steps": 120, "batch": 16}}
    report.run_study(Train(), Train.configure("tiny", few, **settings), folder / "net")
    return folder / "net" / "network"


def run(capsys, *words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert not left.value.code
    return json.loads(capsys.readouterr().out)


def test_a_sample_of_the_model_along_its_own_way(network, tmp_path, capsys):
    words = ["attribute", "--model", network, "--seed", 3, "--out", tmp_path / "run", *WORDS]
    record = run(capsys, *words)
    found = record["attribution"]
    assert found["drawn"]
    denoiser = NetworkDenoiser.open(network)
    images = own_training_images(load_network(network)[1], load_images("digits").train)[0]
    assert found["training_images"] == images.stored == 200
    # the whole-image weights at the model's own states, by their definition
    settings = AttributionSettings(flow_steps=6, seed=3)
    states = drawn_states(denoiser, images, settings, torch.device("cpu"))
    clean = oracles.values(images.pixels[images.indices])
    pairs = zip(states.noisy.astype(np.float64), states.sigmas, strict=True)
    expected = np.mean([oracles.posterior_weights(noisy, clean, sigma) for noisy, sigma in pairs], axis=0)
    named = found["methods"]["whole images"]["images"][0]
    assert named["score"] == pytest.approx(expected.max(), rel=1e-4)
    assert int(named["image"]) == images.indices[expected.argmax()]
    with open(record["images_csv"], encoding="utf-8") as file:
        rows = {int(row["image"]): row for row in csv.DictReader(file)}
    assert float(rows[int(named["image"])]["whole images"]) == pytest.approx(expected.max(), rel=1e-4)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Where each pixel comes from" in page
    assert len([one for one in found["methods"].values() if one["images"]]) == 6


def test_images_that_were_given_a_training_image_and_something_else(network, tmp_path, capsys):
    pixels = load_images("digits").train.take([0])[0, 0]
    for name, picture in {"own": pixels, "other": np.random.default_rng(0).integers(0, 256, (8, 8))}.items():
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{name}.png")
    few = ["--gradients", 0, "--everywhere", 0]
    said = {}
    for name in ("own", "other"):
        record = run(
            capsys,
            "attribute",
            "--model",
            network,
            "--sample",
            tmp_path / f"{name}.png",
            *few,
            "--out",
            tmp_path / name,
            *WORDS,
        )
        said[name] = record
        assert not record["attribution"]["drawn"]
        assert "noise of every level was added" in record["methods"]["The sample"]
    assert any("no sample of this model" in one for one in said["other"]["attribution"]["warnings"])
    assert not any("no sample of this model" in one for one in said["own"]["attribution"]["warnings"])
    assert "Warning: " in said["other"]["headline"]


def test_a_sample_as_it_lies_in_a_file(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey.png")
    values, notes = opened_sample(str(tmp_path / "colour.png"), (3, 4, 6))
    np.testing.assert_allclose(values.numpy(), colour.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    assert notes == ()
    values, notes = opened_sample(str(tmp_path / "grey.png"), (3, 4, 6))
    np.testing.assert_allclose(values.numpy(), np.stack([colour[..., 0]] * 3) / 127.5 - 1, atol=1e-6)
    assert notes == ()
    values, notes = opened_sample(str(tmp_path / "colour.png"), (1, 4, 6))
    assert values.shape == (1, 4, 6)
    assert "brought to grey" in notes[0]
