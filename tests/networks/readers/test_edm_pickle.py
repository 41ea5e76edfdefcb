"""EDM's pickles become our classes; the source code in them is never looked at."""

from __future__ import annotations

import pickle

import pytest
import torch
from tests.conftest import GOLDEN, relative_error
from tests.networks.readers.files import SONG, archive, dumped, edm_pickle, persistent, song_network, state_dict

from scorescope.foundation import UserError
from scorescope.networks import open_checkpoint

FILES = ["ddpmpp_edm", "ddpmpp_vp", "ncsnpp_edm", "ncsnpp_ve"]


@pytest.mark.parametrize("name", FILES)
def test_golden_files_denoise_as_their_authors_code_does(golden, name, executing_nothing):
    expected = golden(f"edm_{name}.npz")
    path = GOLDEN / f"edm_{name}.pkl"
    if not path.exists():
        pytest.skip(f"golden data {path.name} is not in ../shared/golden")
    open_checkpoint(path)  # what PyTorch imports when it is first used is no business of the file's
    with executing_nothing():
        opened = open_checkpoint(path)
    assert opened.config.image_shape == (3, 16, 16)
    for sigma, denoised in zip(expected["sigma"].tolist(), expected["denoised"], strict=True):
        noisy = torch.from_numpy(expected["x"]) * (1 + sigma)
        with torch.no_grad():
            found = opened.preconditioning.denoise(opened.network, noisy, torch.full((len(noisy),), sigma))
        assert relative_error(found, denoised) < 1e-5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ddpmpp_edm", ("ddpm++", "edm", {"sigma_data": 0.5, "noise_scale": 0.25, "boundary": 0.0}, (0.002, 80))),
        ("ddpmpp_vp", ("ddpm++", "vp", {"beta_d": 19.9, "beta_min": 0.1, "steps": 1000, "epsilon_t": 1e-5}, None)),
        ("ncsnpp_ve", ("ncsn++", "ve", {}, (0.02, 100))),
    ],
)
def test_what_the_files_say_of_themselves(golden, name, expected):
    golden(f"edm_{name}.npz")
    config = open_checkpoint(GOLDEN / f"edm_{name}.pkl").config
    architecture, preconditioning, arguments, sigma_range = expected
    assert (config.architecture, config.preconditioning) == (architecture, preconditioning)
    assert config.preconditioning_arguments == arguments
    if sigma_range is not None:
        assert config.sigma_range == sigma_range


def written(tmp_path, data: bytes):
    path = tmp_path / "network.pkl"
    path.write_bytes(data)
    return path


def test_a_file_of_our_own_making_opens(tmp_path):
    network = song_network()
    opened = open_checkpoint(written(tmp_path, edm_pickle(network)))
    found = opened.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in state_dict(network).items())
    assert "SongUNet in EDMPrecond" in opened.origin
    assert not opened.network.training


IDDPM = {"C_1": 0.001, "C_2": 0.008, "M": 1000, "sigma_min": 0.0064, "sigma_max": 20291.0}
VP = {"beta_d": 10.0, "beta_min": 0.2, "M": 500, "epsilon_t": 1e-3}


@pytest.mark.parametrize(
    ("kind", "settings", "expected", "low", "high"),
    [("iDDPMPrecond", IDDPM, "iddpm", 0.0064, 20291), ("VPPrecond", VP, "vp", None, None)],
)
def test_other_preconditionings(tmp_path, kind, settings, expected, low, high):
    inner = persistent("SongUNet", song_network(), SONG)
    data = edm_pickle_of(persistent(kind, None, {}, _modules={"model": inner}, **settings))
    config = open_checkpoint(written(tmp_path, data)).config
    assert config.preconditioning == expected
    assert config.preconditioning_arguments["steps"] == settings["M"]
    if low is not None:
        assert config.sigma_range == (low, high)


def edm_pickle_of(network) -> bytes:
    return dumped({"ema": network})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_channels": 8}, "do not fit SongUNet"),
        ({"num_blocks": 2}, "missing"),
        ({"num_blocks": 10**6}, "too few"),
        ({"channel_mult": [1] * 16 + [2]}, "channel_mult is not"),
        ({"channel_mult": [1, [1]]}, "channel_mult is not"),
        ({"model_channels": 10**9}, "do not fit|build no SongUNet|cannot be built"),
        ({"model_channels": -4}, "build no SongUNet|cannot be built"),
        ({"model_channels": 10**12}, "model_channels is not"),
        ({"embedding_type": "x" * 1000}, "longer than any word"),
        ({"img_resolution": None}, "does not record its images' size"),
        ({"what": 1}, "cannot be built"),
    ],
)
def test_recorded_arguments_that_do_not_fit_are_refused(tmp_path, change, said):
    data = edm_pickle(song_network(), SONG | change)
    with pytest.raises(UserError, match=said) as caught:
        open_checkpoint(written(tmp_path, data))
    assert "\n" not in str(caught.value)


def network_file(kind: str, model: str, **settings):
    inner = persistent(model, song_network(), SONG)
    return {"ema": persistent(kind, None, {}, _modules={"model": inner}, **settings)}


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ({"G_ema": 1}, "holds G_ema"),
        ([1], "holds no dictionary"),
        ({"ema": 3}, "no network under its key 'ema'"),
        ({"ema": persistent("EDMPrecond", None, {}, _modules={})}, "no network under its key 'ema'"),
        (network_file("MyPrecond", "SongUNet"), "is a MyPrecond"),
        (network_file("EDMPrecond", "Other", sigma_data=0.5), "is a Other"),
        (network_file("EDMPrecond", "SongUNet"), "does not record sigma_data"),
    ],
)
def test_other_pickles_are_refused(tmp_path, root, said):
    with pytest.raises(UserError, match=said):
        open_checkpoint(written(tmp_path, dumped(root)))


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    network = song_network()
    with torch.no_grad():
        network.map_layer1.weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"its tensor map_layer1\.weight holds values that are not finite"):
        open_checkpoint(written(tmp_path, edm_pickle(network)))


def test_modules_that_are_shared_again_and_again_are_refused(tmp_path):
    # Each module holds the next one twice: without a bound there would be 2^20 of them.
    module = persistent("Leaf", None, {})
    for _ in range(20):
        module = persistent("Twice", None, {}, _modules={"a": module, "b": module})
    data = edm_pickle_of(persistent("EDMPrecond", None, {}, _modules={"model": module}))
    with pytest.raises(UserError, match="nested more than|has more than"):
        open_checkpoint(written(tmp_path, data))


def test_tensors_inside_are_archives_that_are_not_trusted_either(tmp_path):
    class Evil:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    inner = pickle.dumps(Evil(), 2)
    good = edm_pickle(song_network())
    nested = archive(torch.zeros(4).untyped_storage(), as_zip=False)
    assert nested[:15] in good
    place = good.find(nested[:15])
    protocol_and_machine = 15
    bad = (
        good[:place]
        + good[place : place + protocol_and_machine]
        + inner
        + good[place + protocol_and_machine + len(inner) :]
    )
    with pytest.raises(UserError, match="builtin"):
        open_checkpoint(written(tmp_path, bad))
