"""Training is the mathematics it says it is, learns, and survives being killed."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scorescope.denoisers.network import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.networks import NetworkConfig, build_network
from scorescope.probes.errors import denoising_psnr, input_psnr
from scorescope.training import Objective, Trainer, TrainingConfig, TrainingJob, train_networks

NETWORK = NetworkConfig(
    architecture="unet",
    arguments={"channels": 1, "width": 8, "blocks": 1},
    preconditioning="blind-residual",
    image_shape=(1, 8, 8),
    sigma_range=(0.0, 2.0),
)


def job(folder, images, **settings):
    return TrainingJob(folder, NETWORK, images, TrainingConfig(**{"steps": 30, "batch": 8, **settings}))


def test_every_image_is_used_equally_often(digits):
    trainer = Trainer(build_network(NETWORK), "blind-residual", digits.subset(range(10)), TrainingConfig(batch=4))
    entries = np.concatenate([trainer._entries(step) for step in range(25)])
    assert np.bincount(entries).tolist() == [10] * 10


def test_noise_levels_are_drawn_as_stated(digits):
    config = TrainingConfig(batch=4000, objective=Objective(sigma_max=2.0, sigma_power=2.0))
    trainer = Trainer(build_network(NETWORK), "blind-residual", digits, config)
    drawn = trainer.draw(0)
    clean, noisy, sigma = drawn.target, drawn.noisy, drawn.sigma
    # σ = 2u²: a quarter of the levels lies below 2/16
    assert (sigma < 0.125).float().mean().item() == pytest.approx(0.25, abs=0.03)
    z = (noisy - clean) / sigma.reshape(-1, 1, 1, 1)
    assert z.mean().item() == pytest.approx(0, abs=0.01)
    assert z.std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_a_trained_network_denoises_images_that_it_has_not_seen(digits, tmp_path):
    [folder] = train_networks([job(tmp_path / "net", digits.subset(range(1500)), steps=300, batch=32)])
    denoiser = NetworkDenoiser.open(folder)
    unseen = digits.tensor(range(1500, 1700))
    [[*found]] = denoising_psnr(denoiser, unseen, [0.5], seed=0)
    assert np.mean(found) > input_psnr(0.5) + 3


@pytest.mark.slow
def test_networks_trained_side_by_side_are_those_trained_alone(digits, tmp_path):
    a, b = digits.subset(range(20)), digits.subset(range(20, 40))
    train_networks([job(tmp_path / "a", a), job(tmp_path / "b", b, seed=1)])
    train_networks([job(tmp_path / "alone", b, seed=1)])
    together, alone = (load_file(tmp_path / name / "network.safetensors") for name in ("b", "alone"))
    for key in alone:
        assert torch.allclose(together[key], alone[key], rtol=1e-3, atol=1e-5), key


def test_a_finished_job_is_not_trained_again(digits, tmp_path):
    jobs = [job(tmp_path / "net", digits.subset(range(8)), steps=2)]
    train_networks(jobs)
    before = (tmp_path / "net" / "network.safetensors").stat().st_mtime_ns
    train_networks(jobs)
    assert (tmp_path / "net" / "network.safetensors").stat().st_mtime_ns == before


def test_a_saved_state_of_other_settings_is_refused(digits, tmp_path):
    images = digits.subset(range(8))
    with pytest.raises(UserError, match="diverged"):
        train_networks([job(tmp_path / "net", images, steps=50, learning_rate=1e30)], save_every=1)
    with pytest.raises(UserError, match="other settings or data"):
        train_networks([job(tmp_path / "net", images, steps=50)])


def test_divergence_names_the_step_and_what_to_try(digits, tmp_path):
    with pytest.raises(UserError, match=r"diverged at step \d+.*learning rate below") as caught:
        train_networks([job(tmp_path / "net", digits.subset(range(8)), learning_rate=1e30)])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "net").exists()


def test_weights_that_are_no_longer_finite_are_never_saved(digits, tmp_path):
    diverging = job(tmp_path / "net", digits.subset(range(8)), steps=20, learning_rate=1e12)
    with pytest.raises(UserError, match="diverged"):
        train_networks([diverging], save_every=5)
    assert list(tmp_path.iterdir()) == []


def test_moving_average_and_record(digits, tmp_path):
    [folder] = train_networks([job(tmp_path / "net", digits.subset(range(8)), steps=3, ema_decay=0.0)])
    trainer = Trainer(
        build_network(NETWORK), "blind-residual", digits.subset(range(8)), TrainingConfig(steps=3, batch=8)
    )
    for _ in range(3):
        trainer.step()
    kept = load_file(folder / "network.safetensors")
    assert all(torch.allclose(kept[key], value, atol=1e-6) for key, value in trainer.network.state_dict().items())
