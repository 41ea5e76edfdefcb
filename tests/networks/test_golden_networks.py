"""Every architecture with published parameters against the outputs of independent implementations."""

import pytest
import torch
from tests.conftest import relative_error

from scorescope.networks import BFCNN, DiT, SongUNet, UViT, preconditioning_from

SMALL = {
    "img_resolution": 16,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [8],
}
NCSNPP = {
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "encoder_type": "residual",
    "resample_filter": [1, 3, 3, 1],
}


def with_weights(network, data, prefix="state/"):
    weights = {key.removeprefix(prefix): torch.from_numpy(data[key]) for key in data.files if key.startswith(prefix)}
    network.load_state_dict(weights)
    return network.eval()


@pytest.mark.parametrize(
    ("file", "arguments", "preconditioning"),
    [
        ("edm_ddpmpp_edm", {}, "edm"),
        ("edm_ddpmpp_vp", {}, "vp"),
        ("edm_ncsnpp_ve", NCSNPP, "ve"),
        ("edm_ncsnpp_edm", NCSNPP, "edm"),
    ],
)
def test_song_unet_and_its_preconditioning(golden, file, arguments, preconditioning):
    data = golden(f"{file}.npz")
    network = with_weights(SongUNet(**SMALL, **arguments), data, "state/model.")
    chosen, x = preconditioning_from(preconditioning), torch.from_numpy(data["x"])
    for sigma, expected in zip(data["sigma"].tolist(), data["denoised"], strict=True):
        with torch.no_grad():
            found = chosen.denoise(network, x * (1 + sigma), torch.full((len(x),), sigma))
        assert relative_error(found, expected) < 1e-5


def test_dit(golden):
    data = golden("dit.npz")
    network = DiT(16, 4, 3, hidden_size=64, depth=2, num_heads=4, num_classes=2, learn_sigma=False)
    places = network.pos_embed.detach().clone()
    x, t, y = (torch.from_numpy(data[key]) for key in ("x", "t", "y"))
    with_weights(network, data)
    assert relative_error(places, network.pos_embed.detach()) < 1e-6
    with torch.no_grad():
        assert relative_error(network(x, t, y), data["output"]) < 1e-5
        # our "no class" is −1, and leaving labels out is the same
        assert relative_error(network(x, t, torch.where(y == 2, -1, y)), data["output"]) < 1e-5
        assert relative_error(network(x[2:], t[2:]), data["output"][2:]) < 1e-5


def test_uvit(golden):
    data = golden("uvit.npz")
    network = with_weights(UViT(16, 2, 3, embed_dim=48, depth=4, num_heads=4), data)
    with torch.no_grad():
        assert relative_error(network(torch.from_numpy(data["x"]), torch.from_numpy(data["t"])), data["output"]) < 1e-5


def test_bf_cnn(golden):
    data = golden("kadkhodaie_bfcnn.npz")
    network = with_weights(BFCNN(channels=1, width=8, layers=6), data)
    noisy = torch.from_numpy(data["noisy"])
    with torch.no_grad():
        assert relative_error(network(noisy), data["residual"]) < 1e-5
        assert relative_error(noisy - network(noisy), data["denoised"]) < 1e-5
    jacobian = torch.autograd.functional.jacobian(lambda y: y - network(y), noisy[:1]).reshape(144, 144)
    assert relative_error(jacobian, data["jacobian_of_denoiser"]) < 1e-5
