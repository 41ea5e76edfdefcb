"""A network as a denoiser: what it accepts, and batches of any size."""

import math

import pytest
import torch

from scorescope.denoisers.network import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import DiT, NetworkConfig, UViT, build_network, preconditioning_from, save_network

CONFIG = NetworkConfig(
    architecture="unet",
    arguments={"channels": 1, "width": 4, "blocks": 1},
    preconditioning="blind-residual",
    image_shape=(1, 8, 8),
    sigma_range=(0.0, 2.0),
)


@pytest.fixture
def denoiser():
    return NetworkDenoiser(build_network(CONFIG), "blind-residual", (1, 8, 8), (0.0, 2.0), name="small", max_batch=3)


def test_large_batches_are_split_without_a_trace(denoiser):
    noisy = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = denoiser(noisy)
        alone = torch.cat([denoiser(image[None]) for image in noisy])
    assert torch.allclose(together, alone, atol=1e-6)


def test_a_blind_denoiser_does_not_look_at_sigma(denoiser):
    noisy = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(denoiser(noisy), denoiser(noisy, 0.5))


@pytest.mark.parametrize(
    ("noisy", "said"),
    [
        (torch.zeros(2, 3, 8, 8), r"takes images \(B, 1, 8, 8\), found \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 9, 9), "found"),
        (torch.zeros(1, 8, 8), "found"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 1, 8, 8), math.nan), "NaN"),
    ],
)
def test_wrong_images_are_refused(denoiser, noisy, said):
    with pytest.raises(UserError, match=said):
        denoiser(noisy, 0.5)


def shaken(network):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return network


def noisy_images(count):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def needs_class():
    network = shaken(UViT(8, 4, 1, embed_dim=16, depth=2, num_heads=2, num_classes=3))
    return NetworkDenoiser(network, "vp", (1, 8, 8), (0.01, 100.0), max_batch=2)


@pytest.fixture(scope="module")
def takes_class():
    network = shaken(DiT(8, 4, 1, hidden_size=16, depth=1, num_heads=2, num_classes=3, learn_sigma=False))
    return NetworkDenoiser(network, "edm", (1, 8, 8), (0.002, 80.0), max_batch=2)


def test_large_batches_of_one_class_and_mixed_levels_are_split_without_a_trace(takes_class):
    denoiser, noisy = takes_class.with_class(2), noisy_images(5)
    sigma = torch.tensor([0.01, 0.1, 1.0, 10.0, 70.0])
    with torch.no_grad():
        together = denoiser(noisy, sigma)
        alone = torch.cat([denoiser(noisy[i : i + 1], sigma[i]) for i in range(5)])
        assert torch.allclose(together, alone, atol=1e-5)
        whole = takes_class.preconditioning.denoise(takes_class.network, noisy, sigma, torch.full((5,), 2))
        assert torch.allclose(together, whole, atol=1e-5)


def test_another_class_is_another_denoiser_of_the_same_network(takes_class):
    noisy = noisy_images(2)
    with torch.no_grad():
        outputs = [takes_class.with_class(label)(noisy, 1.0) for label in (0, 1, None)]
        assert torch.equal(outputs[2], takes_class(noisy, 1.0))
    assert not any(torch.allclose(a, b) for a, b in zip(outputs, outputs[1:] + outputs[:1], strict=True))
    assert takes_class.class_label is None
    assert takes_class.with_class(1).network is takes_class.network


def test_a_network_that_needs_a_class_asks_for_one(needs_class):
    with pytest.raises(UserError, match="3 classes and does not work without one.* from 0 to 2"):
        needs_class(noisy_images(1), 1.0)
    with pytest.raises(UserError, match="3 classes"):
        needs_class.with_class(1).with_class(None)
    with torch.no_grad():
        assert bool(torch.isfinite(needs_class.with_class(1)(noisy_images(3), 1.0)).all())


@pytest.mark.parametrize("label", [3, -1])
def test_labels_out_of_range_are_refused(needs_class, label):
    with pytest.raises(UserError, match=f"knows 3 classes.* from 0 to 2, found {label}"):
        needs_class.with_class(label)
    with pytest.raises(UserError, match="knows 3 classes"):
        NetworkDenoiser(needs_class.network, "vp", (1, 8, 8), (0.01, 100.0), class_label=label)


def test_a_network_without_classes_takes_none(denoiser):
    with pytest.raises(UserError, match="takes no class labels, found class label 0"):
        denoiser.with_class(0)


def test_a_preconditioning_that_the_network_does_not_go_with_is_refused():
    with pytest.raises(UserError, match="goes with blind-residual"):
        NetworkDenoiser(build_network(CONFIG), "edm", (1, 8, 8), (0.0, 2.0))


def test_a_checkpoint_opens_with_its_preconditioning_and_a_class(tmp_path):
    config = NetworkConfig(
        architecture="mlp",
        arguments={"image_shape": [1, 8, 8], "width": 16, "depth": 1, "num_classes": 4},
        preconditioning="edm",
        preconditioning_arguments={"sigma_data": 0.3},
        image_shape=(1, 8, 8),
        sigma_range=(0.002, 80.0),
    )
    network = shaken(build_network(config))
    save_network(tmp_path / "net", network, config)
    opened = NetworkDenoiser.open(tmp_path / "net", class_label=3)
    assert opened.preconditioning == preconditioning_from("edm", {"sigma_data": 0.3})
    assert (opened.sigma_range, opened.name) == ((0.002, 80.0), "net")
    direct = NetworkDenoiser(network, opened.preconditioning, (1, 8, 8), (0.002, 80.0), class_label=3)
    with torch.no_grad():
        assert torch.equal(opened(noisy_images(2), 0.7), direct(noisy_images(2), 0.7))
    with pytest.raises(UserError, match="knows 4 classes"):
        NetworkDenoiser.open(tmp_path / "net", class_label=4)
