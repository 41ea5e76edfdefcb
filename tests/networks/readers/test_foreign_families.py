"""score_sde, EDM's and EDM2's states, k-diffusion, SiT and BF-CNN open and denoise as their own code does."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from tests.networks.readers.foreign import TOLERANCE, errors

from scorescope.foundation import UserError
from scorescope.networks import UViT, open_checkpoint, preconditioning_from
from scorescope.networks.readers.formats import Given
from scorescope.networks.readers.sit import use_of

EDM_STATE, EDM_SNAPSHOT = "training-state-000010.pt", "network-snapshot-000010.pkl"
EDM2_STATE, EDM2_SNAPSHOT = "training-state-0000010.pt", "network-snapshot-0000010-0.100.pkl"
# case, file, which denoised images, arguments
CASES = [
    ("score-sde-vp-ddpmpp", "checkpoint_1.pth", "denoised", {}),
    ("score-sde-vp-ddpmpp", "checkpoint_1.pth", "denoised_raw", {"weights": "raw"}),
    ("score-sde-ve-ncsnpp", "checkpoint_1.pth", "denoised", {}),
    ("score-sde-ve-ncsnpp", "checkpoint_1.pth", "denoised_raw", {"weights": "raw"}),
    ("edm-training-state", EDM_STATE, "denoised", {}),
    ("edm-training-state", EDM_STATE, "denoised", {"weights": "raw"}),
    ("edm-training-state", EDM_SNAPSHOT, "denoised_averaged", {}),
    ("edm2-classes", EDM2_SNAPSHOT, "denoised", {}),
    ("edm2-classes", "network-snapshot-0000010-0.050.pkl", "denoised_ema_0050", {}),
    ("edm2-classes", EDM2_STATE, "denoised", {"channels_per_head": 8}),
    ("edm2-classes", EDM2_STATE, "denoised_raw", {"channels_per_head": 8, "weights": "raw"}),
    ("k-diffusion-image-v1", "run_00050000.safetensors", "denoised", {}),
    ("k-diffusion-image-v1", "run_00050000.pth", "denoised", {}),
    ("k-diffusion-image-v1", "run_00050000.pth", "denoised_raw", {"weights": "raw"}),
    ("sit-linear-velocity", "0050000.pt", "denoised", {}),
    ("sit-linear-velocity", "0050000.pt", "denoised_raw", {"weights": "raw"}),
    ("bf-cnn-linear", "model.pt", "denoised", {"first_layer_linear": True}),
    ("bf-cnn-relu", "model.pt", "denoised", {}),
    ("bf-cnn-old-names", "model.pt", "denoised", {}),
]


@pytest.mark.parametrize(("case", "file", "array", "arguments"), CASES)
def test_denoised_images_are_those_of_the_repository(foreign, case, file, array, arguments):
    opened = foreign.opened(case, file, **arguments)
    assert max(errors(opened, foreign.reference(case), array)) < TOLERANCE


def test_the_sub_vp_process_moves_the_same_network(foreign):
    """σ = (1 − m²)/m at the step of the network's own time 999 t, from β written out here."""
    opened = foreign.opened("score-sde-vp-ddpmpp", "checkpoint_1.pth", sde="sub-vp")
    for time in (0.01, 0.4, 1.0):
        time = torch.tensor(time, dtype=torch.float64)
        signal = torch.exp(-(time**2) * 19.9 / 4 - time * 0.1 / 2)
        sigma = ((1 - signal**2) / signal).reshape(1)
        found = opened.preconditioning.coefficients(sigma)
        assert float(found.noise) == pytest.approx(999 * float(time), rel=1e-9)
        assert float(found.into) == pytest.approx(float(signal), rel=1e-9)
        assert (float(found.skip), float(found.out)) == (1, pytest.approx(-float(sigma)))
    low, high = opened.config.sigma_range
    assert high == pytest.approx(float(sigma), rel=1e-9)
    assert low == pytest.approx(1e-6, rel=0.01)


@pytest.mark.parametrize("path", ["Linear", "GVP", "VP"])
def test_every_path_and_prediction_of_sit_gives_the_same_image(path):
    """A network that knows the image is read right from its velocity, its score and its noise, by their own formulas."""
    image = torch.tensor([0.3, -0.7], dtype=torch.float64).reshape(2, 1, 1, 1)
    noise = torch.tensor([1.3, 0.2], dtype=torch.float64).reshape(2, 1, 1, 1)
    time = torch.tensor([0.3, 0.8], dtype=torch.float64, requires_grad=True)
    if path == "Linear":
        signal, spread = time, 1 - time
    elif path == "GVP":
        signal, spread = torch.sin(time * torch.pi / 2), torch.cos(time * torch.pi / 2)
    else:
        signal = torch.exp(-((1 - time) ** 2) * 19.9 / 4 - (1 - time) * 0.1 / 2)
        spread = (1 - signal**2).sqrt()
    (signal_rate,) = torch.autograd.grad(signal.sum(), time, retain_graph=True)
    (spread_rate,) = torch.autograd.grad(spread.sum(), time, retain_graph=True)
    signal, spread, rates = signal.detach(), spread.detach(), (signal_rate, spread_rate)
    columns = [value.reshape(2, 1, 1, 1) for value in (signal, spread, *rates)]
    outputs = {
        "velocity": columns[2] * image + columns[3] * noise,
        "noise": noise,
        "score": -noise / columns[1],
    }

    noisy = image + columns[1] / columns[0] * noise

    class Knows(torch.nn.Module):
        def __init__(self, output):
            super().__init__()
            self.output = output

        def forward(self, x, told, labels=None):
            torch.testing.assert_close(told, time.detach(), rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(x, columns[0] * image + columns[1] * noise)
            return self.output

    for prediction, output in outputs.items():
        if (path, prediction) == ("VP", "velocity"):
            with pytest.raises(UserError, match="velocity on the VP path"):
                use_of({"path_type": path, "prediction": prediction}, Given({}))
            continue
        name, its = use_of({"path_type": path, "prediction": prediction}, Given({}))
        denoised = preconditioning_from(name, its).denoise(Knows(output), noisy, spread / signal)
        torch.testing.assert_close(denoised, image.expand(2, 1, 1, 1))


@pytest.mark.parametrize(
    ("case", "file", "arguments", "said"),
    [
        ("score-sde-vp-ddpmpp", "checkpoint_1.pth", {}, "resampling without a filter; the VP SDE with β from 0.1 to 20"),
        ("score-sde-ve-ncsnpp", "checkpoint_1.pth", {}, "σ 0.02 to 100; assumed: resampling filtered.*; the VE SDE"),
        ("edm-training-state", EDM_STATE, {}, "raw weights.*its averages, .* are in network-snapshot-000010.pkl"),
        ("edm2-classes", EDM2_SNAPSHOT, {}, "EDM2 pickle, .*trained on datasets.img64.zip, trained without mirroring"),
        ("edm2-classes", EDM2_STATE, {"channels_per_head": 8}, "its entry 'emas' .not stds., entry 1 of its list"),
        ("k-diffusion-image-v1", "run_00050000.safetensors", {}, "3×8×8 images, .* σ 0.01 to 80; read: its configuration"),
        ("sit-linear-velocity", "0050000.pt", {}, "read: path, prediction and heads in its args"),
        ("bf-cnn-linear", "model.pt", {}, "assumed: a ReLU after the first layer .first_layer_linear=true for none."),
        ("bf-cnn-old-names", "model.pt", {}, "read: the older names, with a ReLU after every layer"),
    ],
)  # fmt: skip
def test_what_was_read_and_assumed_is_said(foreign, case, file, arguments, said):
    if case == "edm-training-state":
        foreign.file(case, EDM_SNAPSHOT)  # the file beside it
    origin = foreign.opened(case, file, **arguments).origin
    assert re.search(said, origin), origin


def test_flips_are_those_that_a_snapshot_records(foreign):
    config = foreign.opened("edm2-classes", EDM2_SNAPSHOT).config
    assert (config.flips, config.training["data"]) == (False, "datasets/img64.zip")
    assert foreign.opened("edm-training-state", EDM_STATE).config.flips is None


@pytest.mark.parametrize(
    ("case", "file", "architecture", "arguments", "said"),
    [
        ("edm-training-state", EDM_STATE, None, {"weights": "averaged"}, "averages are in network-snapshot-000010.pkl"),
        ("edm-training-state", EDM_STATE, None, {"heads": 2}, "says itself which network"),
        ("edm2-classes", EDM2_STATE, None, {}, "say --arch-arg channels_per_head=N"),
        ("edm2-classes", EDM2_STATE, None, {"channels_per_head": 3}, "heads of 3 channels do not divide 16"),
        ("score-sde-vp-ddpmpp", "checkpoint_1.pth", None, {"sde": "ou"}, "sde is 'ou': give one of ve, vp, sub-vp"),
        ("score-sde-vp-ddpmpp", "checkpoint_1.pth", None, {"fir": 3}, "fir is 3: give true or false"),
        ("bf-cnn-linear", "model.pt", None, {"first_layer_linear": "x"}, "first_layer_linear is 'x'"),
        ("sit-linear-velocity", "0050000.pt", None, {"path_type": "VP"}, "velocity on the VP path"),
        ("sit-linear-velocity", "0050000.pt", None, {"path_type": "curly"}, "its path is 'curly'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(foreign, case, file, architecture, arguments, said):
    if case == "edm-training-state":
        foreign.file(case, EDM_SNAPSHOT)  # the file beside it
    with pytest.raises(UserError, match=said) as caught:
        foreign.opened(case, file, architecture, **arguments)
    assert "\n" not in str(caught.value)


def test_a_network_of_any_size_asks_for_one(foreign):
    with pytest.raises(UserError, match="say which with --arch-arg image_size=N"):
        open_checkpoint(foreign.file("score-sde-vp-ddpmpp", "checkpoint_1.pth"))


def test_bare_weights_of_sit_are_one_by_name(foreign, tmp_path):
    file = torch.load(foreign.file("sit-linear-velocity", "0050000.pt"), weights_only=False)
    torch.save(file["ema"], tmp_path / "bare.pt")
    reference = foreign.reference("sit-linear-velocity")
    opened = open_checkpoint(tmp_path / "bare.pt", "sit", {"num_heads": 6})
    assert "assumed: a velocity on the straight path" in opened.origin
    assert max(errors(opened, reference, "denoised")) < TOLERANCE


def test_a_folder_of_u_vit_opens_its_averages(tmp_path):
    torch.manual_seed(0)
    networks = {name: UViT(8, 2, 3, embed_dim=32, depth=2, num_heads=4) for name in ("nnet", "nnet_ema")}
    folder = tmp_path / "50000.ckpt"
    folder.mkdir()
    for name, network in networks.items():
        torch.save(network.state_dict(), folder / f"{name}.pth")
    torch.save({"state": {}, "param_groups": []}, folder / "optimizer.pth")
    torch.save(50_000, folder / "step.pth")
    images, times = torch.randn(2, 3, 8, 8), torch.ones(2)
    for choice, name in (({}, "nnet_ema"), ({"weights": "raw"}, "nnet")):
        opened = open_checkpoint(folder, None, {"num_heads": 4, **choice})
        with torch.no_grad():
            assert torch.equal(opened.network(images, times), networks[name].eval()(images, times))
        assert opened.weights == ("averaged" if name == "nnet_ema" else "raw")
    shutil.move(folder / "nnet_ema.pth", tmp_path / "gone")
    with torch.no_grad():
        found = open_checkpoint(folder, None, {"num_heads": 4}).network(images, times)
        assert torch.equal(found, networks["nnet"](images, times))
