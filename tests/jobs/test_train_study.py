"""The training study: the images that it takes, what its page shows, and going on after a kill."""

import json

import numpy as np
import pytest
import torch

from scorescope import report
from scorescope.data import load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.jobs.train import Train, network_for, training_images
from scorescope.jobs.training_progress import Watch
from scorescope.networks import architectures, load_network
from scorescope.study import Results
from scorescope.study.workspace import open_run
from scorescope.training import loop

MLP = {"architecture": "mlp", "arguments": {"width": 16, "depth": 1}, "training": {"steps": 60, "batch": 8}}


def configured(**settings):
    return Train.configure("tiny", **(MLP | settings))


def test_halves_are_disjoint_and_nested():
    images = load_images("digits").train
    _, a = training_images(configured(size=100, split="a"), images)
    _, b = training_images(configured(size=100, split="b"), images)
    _, more = training_images(configured(size=300, split="b"), images)
    selection, half = training_images(configured(size=None, split="b"), images)
    assert not set(a.indices) & set(b.indices)
    assert more.indices[:100].tolist() == b.indices.tolist()
    assert half.stored == images.stored // 2
    assert selection.choose(images).indices.tolist() == half.indices.tolist()
    assert training_images(configured(size=None), images) == (None, images)


@pytest.mark.slow
def test_the_page_shows_curves_and_samples_of_the_way(tmp_path):
    folder = tmp_path / "run"
    results = report.run_study(Train(), configured(sample_times=3, checkpoints=(20, 50)), folder)
    exhibits = {exhibit.key: exhibit for exhibit in results.sections["Training"]}
    assert list(exhibits) == ["learning", "samples-on-the-way"]
    assert exhibits["samples-on-the-way"].layout.row_labels == ("step 20", "step 40", "step 60")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert (
        page.index("Learning curve") < page.index("Samples on the way") < page.index("Samples of the trained network")
    )
    record = json.loads((folder / "network" / "network.json").read_text())
    assert record["training"]["config"]["objective"]["weight"] == "edm"
    assert [entry["step"] for entry in record["training"]["observed"]] == [20, 40, 60]
    assert {"train PSNR", "test PSNR"} <= record["training"]["observed"][0].keys()
    assert sorted(path.name for path in (folder / "steps").iterdir()) == ["step-20", "step-50"]
    assert "Those of steps 20, 50 are in steps/." in page
    kept, config = load_network(folder / "steps" / "step-50")
    assert config.training["step"] == 50
    assert config.sigma_range == load_network(folder / "network")[1].sigma_range
    assert any((value != kept.state_dict()[name]).any() for name, value in network_weights(folder).items())


def network_weights(folder):
    return load_network(folder / "network")[0].state_dict()


@pytest.mark.parametrize("steps", [(20, 20), (40, 20), (60,), (100,)])
def test_checkpoints_on_the_way_are_increasing_and_before_the_last(steps):
    with pytest.raises(UserError, match="below the last step, 60"):
        configured(checkpoints=steps)


@pytest.mark.slow
def test_the_last_row_is_what_the_checkpoint_draws(tmp_path):
    config = configured()
    with open_run(tmp_path / "run", Train.name, config) as workspace:
        Train().run(config, workspace)
        last = workspace.computed("samples at step 60", dict)["samples"]
        denoiser = NetworkDenoiser.open(tmp_path / "run" / "network")
        images = training_images(config, load_images("digits").train)[1]
        watch = Watch(config, network_for(config, images), {"train": images}, workspace)
        assert np.allclose(watch.draw(denoiser, 8), last, atol=1e-5)


@pytest.mark.slow
def test_a_run_that_breaks_off_goes_on_and_still_has_its_first_samples(tmp_path, monkeypatch):
    config, folder = configured(training=MLP["training"] | {"steps": 240}), tmp_path / "run"
    step = loop.Trainer.step

    def breaking(self):
        if self.finished == 150:
            raise RuntimeError("power cut")
        return step(self)

    monkeypatch.setattr(loop.Trainer, "step", breaking)
    with pytest.raises(RuntimeError, match="power cut"):
        report.run_study(Train(), config, folder)
    monkeypatch.setattr(loop.Trainer, "step", step)
    resumed = report.run_study(Train(), config, folder)
    whole = report.run_study(Train(), config, tmp_path / "whole")
    pictures = [next(e.data for e in found.figures if e.key == "samples-on-the-way") for found in (resumed, whole)]
    assert pictures[0] == pictures[1]
    assert resumed.tables["observed"].frame.equals(whole.tables["observed"].frame)


@pytest.mark.slow
def test_classes_of_the_store_are_taught(tmp_path):
    results = report.run_study(Train(), configured(classes=True, sample_times=1), tmp_path / "run")
    denoiser = NetworkDenoiser.open(tmp_path / "run" / "network")
    assert denoiser.classes.count == 10
    noisy = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    told = [denoiser.with_class(label)(noisy, 1.0) for label in (3, 4)]
    assert not torch.equal(*told)
    assert isinstance(results, Results)


def test_classes_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(UserError, match="'unet' takes no classes"):
        report.run_study(Train(), Train.configure("tiny", classes=True), tmp_path / "run")
    with pytest.raises(UserError, match="has no class labels"):
        report.run_study(Train(), configured(classes=True, data="disks"), tmp_path / "run")


@pytest.mark.parametrize("name", [name for name, entry in architectures.items() if entry.trained_here])
def test_the_published_size_of_every_architecture_can_be_built(name):
    images = load_images("digits").train
    small, published = (
        network_for(Train.configure(preset, architecture=name), images).arguments for preset in ("small", "paper")
    )
    assert small != published
    with torch.device("meta"):
        sizes = [sum(v.numel() for v in architectures[name].build(**a).parameters()) for a in (small, published)]
    assert sizes[1] > 3 * sizes[0]
