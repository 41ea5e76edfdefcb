"""What is compared with what: names, training images, classes, shapes, noise levels, and the inputs themselves."""

import numpy as np
import pytest
import torch

from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.lenses.inputs import HELD_OUT, TRAIN, forward, outputs, reverse
from scorescope.networks import NetworkConfig, build_network, open_checkpoint, save_network
from scorescope.papers.niedoba2025.compared import ComparedConfig, open_comparison, unique_names
from scorescope.probes.distances import angle, cosine, squared_difference
from scorescope.study.provenance import own_training_images
from scorescope.study.workspace import open_run
from scorescope.training import Selection


def checkpoint(folder, shape=(1, 8, 8), sigma_range=(0.01, 50.0), classes=0, training=None):
    """A network that was never trained."""
    arguments = {"input_size": shape[1], "patch_size": 4, "in_channels": shape[0], "hidden_size": 16, "depth": 1}
    arguments |= {"num_heads": 2, "num_classes": classes, "learn_sigma": False, "class_dropout_prob": 0.0}
    config = NetworkConfig(
        architecture="dit",
        arguments=arguments,
        preconditioning="edm",
        image_shape=shape,
        sigma_range=sigma_range,
        training=training or {},
    )
    save_network(folder, build_network(config), config)
    return str(folder)


@pytest.fixture
def workspace(tmp_path, network_cache):
    with open_run(tmp_path / "run", "test", {}, cache=network_cache) as opened:
        yield opened


def opened(workspace, *paths, **settings):
    return open_comparison(ComparedConfig(networks=paths, data="digits", inputs=3, **settings), workspace)


def test_names_are_short_and_different():
    paths = ("runs/a/network", "other/a/network", "runs/b/network", "x/deep/c")
    assert unique_names(paths) == {"runs-a": paths[0], "other-a": paths[1], "b": paths[2], "c": paths[3]}


def test_a_network_is_compared_with_the_half_it_was_trained_on(workspace, tmp_path):
    whole = ComparedConfig(data="digits")
    from scorescope.data import load_images

    images = load_images(whole.data).train
    selection = Selection(total=images.stored, size=50, share=1)
    half = selection.choose(images)
    record = {"selection": selection.model_dump(), "data_sha256": half.fingerprint(), "config": {"flips": True}}
    path = checkpoint(tmp_path / "net", training=record)
    config = open_checkpoint(path).config
    assert own_training_images(config, images, flips=False)[0].fingerprint() == half.fingerprint()
    mirrored, said = own_training_images(config, images)
    assert mirrored.fingerprint() == half.with_flips().fingerprint()
    assert said.endswith("mirror images included")
    other, said = own_training_images(config.model_copy(update={"training": {"data_sha256": "another"}}), images)
    assert other is images
    assert "trained on other images" in said
    (one,) = opened(workspace, path).networks
    assert len(one.training) == 100
    assert np.array_equal(one.training.read(0, 50), half.read(0, 50))
    (plain,) = opened(workspace, path, flips=False).networks
    assert len(plain.training) == 50
    assert plain.training_key != one.training_key


def test_levels_outside_training_are_told_and_not_refused(workspace, tmp_path, capsys):
    path = checkpoint(tmp_path / "net", sigma_range=(0.05, 2.0))
    comparison = opened(workspace, path, sigmas=(0.01, 1.0, 0.5, 80.0))
    assert comparison.sigmas == [80.0, 1.0, 0.5, 0.01]
    (one,) = comparison.networks
    assert one.within(comparison.sigmas) == [1, 2]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "net was trained on σ from 0.05 to 2; 2 of the 4 levels lie outside (80, 0.01)" in said
    states = reverse(comparison, one, workspace)
    assert states.sigmas == [1.0, 0.5]
    opened(workspace, path, sigmas=(1.0, 0.5))
    assert capsys.readouterr().err == ""


def test_what_does_not_fit_is_refused_in_a_line(workspace, tmp_path):
    plain, grey = checkpoint(tmp_path / "plain"), checkpoint(tmp_path / "large", shape=(1, 12, 12))
    conditional = checkpoint(tmp_path / "conditional", classes=10)
    for settings, message in [
        ({"networks": (grey,)}, r"large takes images \(C, H, W\) = \(1, 12, 12\), digits.* holds \(1, 8, 8\)"),
        ({"networks": (conditional,)}, "conditional: .* choose a class label from 0 to 9, with class_label=N"),
        ({"networks": (plain,), "class_label": 3}, "class_label=3 is given, and no network takes classes"),
        ({"networks": (plain, plain)}, "named once"),
        ({"networks": (plain,), "arguments": {"other": {}}}, "given for other, which is none of the networks"),
        ({"networks": (plain,), "sigmas": (1.0, 1.0)}, "must decrease strictly"),
        ({"networks": (plain,), "held_out": "disks:size=16,n=20"}, "holds"),
        ({"networks": (str(tmp_path / "nowhere"),)}, "no such checkpoint"),
    ]:
        with pytest.raises(UserError, match=message) as refused:
            open_comparison(ComparedConfig(data="digits", **settings), workspace)
        assert "\n" not in str(refused.value)


def test_a_conditional_network_is_compared_with_its_class(workspace, tmp_path):
    path = checkpoint(tmp_path / "conditional", classes=10)
    comparison = opened(workspace, path, class_label=3)
    (one,) = comparison.networks
    assert one.denoiser.class_label == 3
    assert set(one.training.own_labels().tolist()) == {3}
    assert set(comparison.held_out.own_labels().tolist()) == {3}


def test_inputs_are_images_plus_noise_of_the_level(workspace, tmp_path):
    comparison = opened(workspace, checkpoint(tmp_path / "net"), sigmas=(8.0, 0.5), image_class=7)
    (one,) = comparison.networks
    for kind, images in [(TRAIN, one.training), (HELD_OUT, comparison.held_out)]:
        inputs = forward(comparison, one, kind)
        known = {image.tobytes() for image in images.of_class(7).tensor().numpy()}
        assert all(image.tobytes() in known for image in inputs.clean.numpy())
        assert torch.equal(inputs.at(1), inputs.at(1))
        noise = [(inputs.at(level) - inputs.clean) / sigma for level, sigma in enumerate(inputs.sigmas)]
        assert [float(each.std()) for each in noise] == pytest.approx([1, 1], abs=0.15)
        assert float((noise[0] - noise[1]).abs().max()) > 1


def test_outputs_are_those_of_the_denoiser_and_computed_once(workspace, tmp_path):
    comparison = opened(workspace, checkpoint(tmp_path / "net"), levels=6)
    (one,) = comparison.networks
    inputs = forward(comparison, one, TRAIN)
    found = outputs(one.name, one.denoiser, inputs, workspace)
    with torch.no_grad():
        expected = np.stack([one.denoiser(inputs.at(k), sigma).numpy() for k, sigma in enumerate(inputs.sigmas)])
    assert np.array_equal(found, expected)
    assert np.array_equal(outputs(one.name, None, inputs, workspace), found)


def test_distances_match_their_definitions():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 2, 3, 1, 4, 4)).astype(np.float32)
    for level in range(2):
        for image in range(3):
            u, v = a[level, image].astype(np.float64).ravel(), b[level, image].astype(np.float64).ravel()
            assert squared_difference(a, b)[level, image] == pytest.approx(np.mean((u - v) ** 2))
            assert angle(a, b)[level, image] == pytest.approx(u @ v / np.sqrt(u @ u * (v @ v)))
            assert cosine(a, b)[level, image] == pytest.approx(np.corrcoef(u, v)[0, 1], abs=1e-6)
    assert np.isnan(angle(a, 0 * b)).all()


def test_networks_on_different_halves_have_inputs_of_their_own(workspace, tmp_path, digits):
    assert isinstance(digits, ImageSet)
    paths = []
    from scorescope.data import load_images

    images = load_images("digits").train
    for share in (0, 1):
        selection = Selection(total=images.stored, size=40, share=share)
        record = {"selection": selection.model_dump(), "data_sha256": selection.choose(images).fingerprint()}
        paths.append(checkpoint(tmp_path / f"net{share}", training=record))
    comparison = opened(workspace, *paths)
    keys = [forward(comparison, one, TRAIN).key for one in comparison.networks]
    assert keys[0] != keys[1]
    assert {forward(comparison, one, HELD_OUT).key for one in comparison.networks} == {"held-out"}
