"""Classes, flips, divergence, trackers, compilation: what a training run is told, and what it tells."""

import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker
from torch import nn

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.networks import NO_CLASS, NetworkConfig, architectures, build_network
from scorescope.training import Objective, Trainer, TrainingConfig, TrainingJob, train_networks
from scorescope.training.accelerated import open_accelerator
from scorescope.training.batches import DrawnAhead

EDM = Objective(noise="lognormal", weight="edm")


def network(name="mlp", **arguments):
    entry = architectures[name]
    return NetworkConfig(
        architecture=name,
        arguments=entry.arguments_for((1, 8, 8)) | arguments,
        preconditioning=entry.preconditioning,
        image_shape=(1, 8, 8),
        sigma_range=(0.01, 10.0),
    )


def trainer(images, config=None, **settings):
    config = config or network(num_classes=10)
    return Trainer(build_network(config), "edm", images, TrainingConfig(objective=EDM, **settings))


def telling(count=10):
    """Images that are their class, all over."""
    labels = np.arange(count * 7) % count
    return ImageSet(np.tile(labels.astype(np.uint8)[:, None, None, None], (1, 1, 8, 8)), labels)


def test_every_image_comes_with_its_own_class_or_none():
    batch = trainer(telling(), batch=4000, flips=True, label_dropout=0.25).draw(3)
    own = ((batch.target[:, 0, 0, 0] + 1) * 127.5).round().long()
    shown = batch.class_labels != NO_CLASS
    assert torch.equal(batch.class_labels[shown], own[shown])
    assert shown.float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_a_network_that_needs_classes_is_never_left_without():
    needy = network("u-vit", num_classes=10, embed_dim=16, num_heads=2, depth=2)
    chosen = Trainer(build_network(needy), "vp", telling(), TrainingConfig(batch=64, label_dropout=0.9))
    assert (chosen.draw(0).class_labels >= 0).all()
    assert np.isfinite(chosen.step().loss)


@pytest.mark.slow
def test_classes_are_learned():
    # two classes, black and white: told the class, the network knows the image whatever the noise
    labels = np.arange(40) % 2
    images = ImageSet(np.tile((255 * labels).astype(np.uint8)[:, None, None, None], (1, 1, 8, 8)), labels)
    loud = Objective(noise="log-uniform", sigma_min=5.0, sigma_max=50.0, weight="edm")
    config = TrainingConfig(objective=loud, steps=300, learning_rate=2e-3, ema_decay=0.9)
    taught = Trainer(build_network(network(num_classes=2)), "edm", images, config)
    for _ in range(300):
        taught.step()
    noise = 30 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for label, wanted in ((0, -1.0), (1, 1.0)):
        asked = torch.full((64,), label)
        found = taught.preconditioning.denoise(taught.average, noise, torch.full((64,), 30.0), asked)
        assert found.mean().item() == pytest.approx(wanted, abs=0.25)
    neither = taught.preconditioning.denoise(taught.average, noise, torch.full((64,), 30.0))
    assert abs(neither.mean().item()) < 0.5


def test_classes_that_do_not_fit_are_refused(digits):
    with pytest.raises(UserError, match="classes 0 to 9, the network was built for 4"):
        trainer(digits, network(num_classes=4))
    with pytest.raises(UserError, match="has no class labels"):
        trainer(ImageSet(digits.pixels))
    with pytest.raises(UserError, match="train without classes, or on the noisy target"):
        Trainer(
            build_network(network(num_classes=10)),
            "edm",
            digits,
            TrainingConfig(objective=Objective(target="closed-form")),
        )


def test_flips_show_every_image_and_its_mirror_image_equally_often(digits):
    images = digits.subset(range(6))
    chosen = trainer(images, network(), batch=24, flips=True)
    seen = torch.cat([chosen.draw(step).target for step in range(5)])
    for image in images.tensor():
        for wanted in (image, image.flip(2)):
            assert (seen == wanted).all((1, 2, 3)).sum().item() == 10


class _FailsAboveLevel(nn.Module):
    """Gives no number for noise conditions above a limit, as an overflow would."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images, noise_condition, class_labels=None):
        bad = (noise_condition > self.limit).reshape(-1, 1, 1, 1)
        return self.scale * torch.where(bad, torch.inf, images)


def test_divergence_names_the_levels_that_gave_no_number(digits):
    config = TrainingConfig(batch=64, objective=EDM, learning_rate=0.01)
    # the network is told ln(σ)/4
    diverging = Trainer(_FailsAboveLevel(np.log(1.0) / 4), "edm", digits, config)
    sigma = diverging.draw(0).sigma
    bad = sigma[sigma > 1]
    with pytest.raises(UserError, match="diverged at step 1") as caught:
        diverging.step()
    assert f"sigma between {bad.min().item():.3g} and {bad.max().item():.3g}" in str(caught.value)
    assert "a learning rate below 0.01" in str(caught.value)
    assert diverging.finished == 0


class _Notebook(GeneralTracker):
    name = "notebook"
    requires_logging_directory = False

    def __init__(self):
        super().__init__()
        self.lines = []

    @property
    def tracker(self):
        return self.lines

    def store_init_configuration(self, values):
        pass

    def log(self, values, step, **more):
        self.lines.append((step, values))


def test_trackers_are_told_the_loss_the_rate_and_what_is_observed(digits, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    notebook = _Notebook()
    accelerator = Accelerator(cpu=True, log_with=notebook)
    accelerator.init_trackers("test")
    config = TrainingConfig(steps=4, batch=8, objective=EDM, learning_rate=1e-3, warmup=4, schedule="constant")
    job = TrainingJob(tmp_path / "net", network(), digits, config, observe=lambda *_: {"PSNR": 3.0}, observe_every=2)
    train_networks([job], accelerator=accelerator)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert [step for step, _ in notebook.lines] == [1, 2, 3, 4]
    assert [told["learning rate"] for _, told in notebook.lines] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3])
    assert [told.get("PSNR") for _, told in notebook.lines] == [None, 3.0, None, 3.0]
    assert all(told["loss"] > 0 for _, told in notebook.lines)


@pytest.mark.parametrize(("precision", "tracker"), [("fp16", None), (None, "no-such-tracker")])
def test_what_this_machine_cannot_do_is_said(tmp_path, precision, tracker):
    if precision == "fp16" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, where fp16 works")
    AcceleratorState._reset_state(reset_partial_state=True)
    with pytest.raises(UserError, match="this machine cannot train so"):
        open_accelerator(torch.device("cpu"), precision, tracker, tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.exhaustive
def test_a_compiled_network_takes_the_same_steps(digits):
    if not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("there is no C++ compiler here")
    torch.compiler.reset()
    plain, compiled = (trainer(digits, network(), batch=16, compile=choice) for choice in (False, True))
    expected, found = ([one.step().loss for _ in range(5)] for one in (plain, compiled))
    assert found == pytest.approx(expected, rel=1e-4)
    assert plain.state().keys() == compiled.state().keys()


@pytest.mark.slow
def test_where_no_compiler_works_it_is_said_and_trained_without(digits, monkeypatch, tmp_path, caplog):
    from torch._inductor import config

    torch.compiler.reset()
    monkeypatch.setattr(config.cpp, "cxx", (None, str(tmp_path / "no-compiler")))
    monkeypatch.setattr(config, "force_disable_caches", True)
    expected = trainer(digits, network(), batch=4)
    one = trainer(digits, network(), batch=4, compile=True, accumulate=2)
    with caplog.at_level("WARNING"):
        found = [one.step().loss for _ in range(3)]
    assert found == pytest.approx([expected.step().loss for _ in range(3)], rel=1e-5)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("scorescope")]
    assert len(said) == 1
    assert said[0].startswith("torch.compile cannot compile this network here")
    assert one.compilation.startswith("not compiled, as this machine cannot (")
    torch.compiler.reset()


def test_what_is_drawn_ahead_is_what_would_be_drawn(digits):
    plain, ahead = (trainer(digits, network(), batch=16) for _ in range(2))
    ahead._ahead = DrawnAhead(ahead.draw, ahead.device)
    assert [ahead.step().loss for _ in range(6)] == [plain.step().loss for _ in range(6)]
    for one in (plain, ahead):  # the batch of step 6 is waiting, and not wanted
        one.restore({key: value.clone() for key, value in one.state().items()} | {"finished": torch.tensor(3)})
    assert [ahead.step().loss for _ in range(2)] == [plain.step().loss for _ in range(2)]
    assert all(torch.equal(value, plain.state()[key]) for key, value in ahead.state().items())


def test_an_error_in_a_batch_drawn_ahead_reaches_the_caller(digits):
    def draw(step):
        if step:
            raise UserError("the store was changed")
        return trainer(digits, network(), batch=4).draw(0)

    ahead = DrawnAhead(draw, torch.device("cpu"))
    ahead.start(1)
    assert len(DrawnAhead(draw, torch.device("cpu")).take(0)) == 4
    with pytest.raises(UserError, match="was changed"):
        ahead.take(1)
