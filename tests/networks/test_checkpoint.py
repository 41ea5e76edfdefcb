"""Checkpoints open as they were saved, and damaged ones are refused in one line."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from scorescope.foundation import UserError
from scorescope.networks import NetworkConfig, build_network, load_network, save_network

CONFIG = NetworkConfig(
    architecture="unet",
    arguments={"channels": 1, "width": 4, "blocks": 1},
    preconditioning="blind-residual",
    image_shape=(1, 8, 8),
    sigma_range=(0.0, 2.0),
)


@pytest.fixture
def saved(tmp_path):
    save_network(tmp_path / "net", build_network(CONFIG, seed=3), CONFIG)
    return tmp_path / "net"


def test_a_saved_network_opens_the_same(saved):
    network, config = load_network(saved)
    assert config == CONFIG
    assert not network.training
    fresh = build_network(CONFIG, seed=3)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), fresh.state_dict().values(), strict=True)
    )


def test_networks_built_side_by_side_are_those_built_in_turn():
    config = CONFIG.model_copy(update={"arguments": {"channels": 1, "width": 32, "blocks": 2}})
    expected = [parameters_to_vector(build_network(config, seed=seed).parameters()) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        built = list(pool.map(lambda seed: build_network(config, seed=seed), range(8)))
    for one, network in zip(expected, built, strict=True):
        assert torch.equal(one, parameters_to_vector(network.parameters()))


def test_building_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    first, other = build_network(CONFIG, seed=1), build_network(CONFIG, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_missing_folder_and_missing_file(saved, tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        load_network(tmp_path / "nowhere")
    (saved / "network.json").unlink()
    with pytest.raises(UserError, match=r"has no network\.json"):
        load_network(saved)


def test_truncated_weights(saved):
    weights = saved / "network.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged or cut short"):
        load_network(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "unett"}, "did you mean 'unet'"),
        ({"preconditioning": "blind"}, "blind-residual"),
        ({"arguments": {"channels": 1, "width": 5, "blocks": 1}}, "do not fit"),
        ({"arguments": {"depth": 1}}, "cannot be built"),
        ({"image_shape": "large"}, "image_shape"),
    ],
)
def test_wrong_descriptions(saved, change, said):
    description = json.loads((saved / "network.json").read_text())
    (saved / "network.json").write_text(json.dumps(description | change))
    with pytest.raises(UserError, match=said) as caught:
        load_network(saved)
    assert "\n" not in str(caught.value)


def test_an_existing_checkpoint_is_never_overwritten(saved):
    with pytest.raises(UserError, match="already exists"):
        save_network(saved, build_network(CONFIG), CONFIG)
