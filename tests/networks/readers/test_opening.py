"""One door for every kind of checkpoint: what opens, what is assumed, and what is refused having executed nothing."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.conftest import relative_error
from tests.networks.readers.files import SONG, archive, dumped, edm_pickle, song_network, state_dict, unet

from scorescope.denoisers.opened import denoiser_of
from scorescope.foundation import UserError
from scorescope.networks import (
    NetworkConfig,
    architectures,
    arguments_from,
    build_network,
    open_checkpoint,
    save_network,
)


def build(architecture, arguments):
    config = NetworkConfig(
        architecture=architecture,
        arguments=arguments,
        preconditioning=architectures[architecture].preconditioning,
        image_shape=(1, 16, 16),
        sigma_range=(0.1, 1.0),
    )
    return build_network(config), config


EDM = {"img_resolution": 16, "in_channels": 1, "out_channels": 1, "model_channels": 16, "num_blocks": 1}
DIT = {"input_size": 16, "patch_size": 4, "in_channels": 1, "hidden_size": 32, "depth": 2, "num_heads": 4}
UVIT = {"img_size": 16, "patch_size": 4, "in_chans": 1, "embed_dim": 32, "depth": 4, "num_heads": 4}
INFERRED = [
    ("unet", {"channels": 1, "width": 4, "blocks": 2}),
    ("bf-cnn", {"channels": 3, "width": 4, "layers": 5}),
    ("ddpm++", EDM | {"channel_mult": [1, 2], "attn_resolutions": [8]}),
    ("ddpm++", EDM | {"channel_mult": [2, 1, 2], "attn_resolutions": [], "label_dim": 3, "augment_dim": 9, "num_blocks": 2}),
    ("ddpm++-no-attention", EDM | {"channel_mult": [1, 2], "attn_resolutions": [], "attention": False}),
    ("ncsn++", EDM | {"channel_mult": [1, 2], "attn_resolutions": [8], "embedding_type": "fourier",
                      "channel_mult_noise": 2, "encoder_type": "residual", "resample_filter": [1, 3, 3, 1]}),
    ("ncsn++", EDM | {"channel_mult": [1, 2], "attn_resolutions": [16], "embedding_type": "fourier",
                      "channel_mult_noise": 2, "encoder_type": "skip", "decoder_type": "skip"}),
    ("adm", EDM | {"channel_mult": [2, 4], "attn_resolutions": [8], "label_dim": 5, "in_channels": 3, "out_channels": 3}),
    ("dit", DIT | {"num_classes": 0, "learn_sigma": False}),
    ("dit", DIT | {"num_classes": 7, "learn_sigma": True, "mlp_ratio": 2.0}),
    ("u-vit", UVIT),
    ("u-vit", UVIT | {"num_classes": 4, "conv": False, "mlp_time_embed": True, "qkv_bias": True}),
    ("u-vit", UVIT | {"skip": False, "patch_size": 2}),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "arguments"), INFERRED)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_architecture_and_arguments_are_read_off_the_weights(tmp_path, architecture, arguments, suffix):
    network, _ = build(architecture, arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pt":
        torch.save(state_dict(network), path)
    else:
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    given = {"num_heads": 4} if "num_heads" in arguments else {}
    opened = open_checkpoint(path, arguments=given, sides=(16, 16))
    assert opened.config.architecture == architecture
    channels = opened.config.image_shape[0]
    noisy, level = (
        torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0.3, 2.0]),
    )
    network.eval()
    labels = torch.tensor([0, 1]) if opened.network.state_dict().keys() & LABELLED else None
    with torch.no_grad():
        blind = opened.preconditioning.blind
        expected = network(noisy) if blind else network(noisy, level, labels)
        found = opened.network(noisy) if blind else opened.network(noisy, level, labels)
    assert torch.equal(found, expected)


LABELLED = {"map_label.weight", "y_embedder.embedding_table.weight", "label_emb.weight"}


@pytest.mark.parametrize(
    ("file", "given"),
    [("dit", {"num_heads": 4}), ("uvit", {"num_heads": 4}), ("kadkhodaie_unet", {}), ("kadkhodaie_bfcnn", {})],
)
def test_golden_networks_open_as_state_dictionaries(golden, tmp_path, file, given):
    data = golden(f"{file}.npz")
    weights = {name[6:]: torch.from_numpy(data[name]) for name in data.files if name.startswith("state/")}
    torch.save({"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "net.pth")
    blind = "residual" in data
    opened = open_checkpoint(tmp_path / "net.pth", arguments=given, sides=data["noisy" if blind else "x"].shape[2:])
    assert "its entry 'state_dict', its names without 'module.'" in opened.origin
    with torch.no_grad():
        if blind:
            found, expected = opened.network(torch.from_numpy(data["noisy"])), data["residual"]
        else:
            labels = torch.from_numpy(data["y"]) if "y" in data else None
            labels = None if labels is None else torch.where(labels == 2, -1, labels)
            found = opened.network(torch.from_numpy(data["x"]), torch.from_numpy(data["t"]), labels)
            expected = data["output"]
    assert relative_error(found, expected) < 1e-5


@pytest.mark.slow
def test_heads_of_published_widths_are_known_and_said(tmp_path):
    network, _ = build("u-vit", UVIT | {"embed_dim": 512, "num_heads": 8, "depth": 2})
    torch.save(state_dict(network), tmp_path / "uvit.pth")
    opened = open_checkpoint(tmp_path / "uvit.pth")
    assert opened.config.arguments["num_heads"] == 8
    assert "8 attention heads, as published networks of width 512 have" in opened.origin


def test_the_use_of_a_network_is_assumed_and_can_be_said(tmp_path):
    torch.save(state_dict(build("dit", DIT | {"num_classes": 7, "learn_sigma": True})[0]), tmp_path / "dit.pt")
    heads = {"num_heads": 4}
    opened = open_checkpoint(tmp_path / "dit.pt", arguments=heads)
    assert opened.config.preconditioning == "epsilon"
    assert "preconditioning 'epsilon', as usual for it" in opened.origin
    use = {"preconditioning": "edm", "preconditioning.sigma_data": 0.3}
    opened = open_checkpoint(tmp_path / "dit.pt", arguments=heads | use)
    assert opened.config.preconditioning_arguments == {"sigma_data": 0.3}
    assert "as usual" not in opened.origin


def test_our_own_folder_and_the_folder_of_a_run_open(tmp_path):
    network, config = build("unet", {"channels": 1, "width": 4, "blocks": 1})
    save_network(tmp_path / "run" / "network", network, config)
    for path in (tmp_path / "run", tmp_path / "run" / "network"):
        opened = open_checkpoint(path)
        assert opened.config == config
        assert all(
            torch.equal(opened.network.state_dict()[name], value) for name, value in network.state_dict().items()
        )


def test_an_architecture_without_a_rule_takes_all_its_arguments(tmp_path):
    torch.save(state_dict(build("mlp", {"image_shape": [1, 1, 2], "width": 8, "depth": 1})[0]), tmp_path / "mlp.pt")
    opened = open_checkpoint(tmp_path / "mlp.pt", "mlp", {"image_shape": [1, 1, 2], "width": 8, "depth": 1})
    assert opened.config.image_shape == (1, 1, 2)
    with pytest.raises(UserError, match=r"image_shape=\[C,H,W\]"):
        open_checkpoint(tmp_path / "mlp.pt", "mlp")


def test_words_become_arguments():
    words = ["a=1", "b=[1, 2]", "c=edm", "d=true", "e=x=y"]
    assert arguments_from(words) == {"a": 1, "b": [1, 2], "c": "edm", "d": True, "e": "x=y"}
    with pytest.raises(UserError, match="NAME=VALUE"):
        arguments_from(["num_heads"])


class Runs:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Unknown:
    """An object of a type that no checkpoint needs."""


def _zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(100_000_000))


def _changed(path, change):
    weights = state_dict(unet())
    change(weights)
    torch.save(weights, path)


HOSTILE = {
    "os.system": (lambda p: p.write_bytes(pickle.dumps(Runs(os.system, "touch /tmp/x"), 4)), r"it asks for posix\.system"),
    "eval in a dictionary": (lambda p: p.write_bytes(pickle.dumps({"ema": [Runs(eval, "1")]}, 4)), r"builtins\.eval"),
    "os.system in a .pt": (lambda p: p.write_bytes(archive({"w": Runs(os.system, "true")})), r"posix\.system"),
    "os.system in an old .pt": (
        lambda p: p.write_bytes(archive({"w": Runs(os.system, "true")}, as_zip=False)),
        r"posix\.system",
    ),
    "beside a good network": (
        lambda p: p.write_bytes(dumped({"ema": 1, "augment_pipe": Runs(os.system, "true")})),
        r"posix\.system",
    ),
    "an unknown type": (lambda p: p.write_bytes(pickle.dumps({"ema": Unknown()}, 4)), "Unknown"),
    "a zip bomb": (_zip_bomb, "possible zip bomb"),
    "a truncated pickle": (lambda p: p.write_bytes(edm_pickle(song_network())[:5000]), "is cut short"),
    "a truncated .pt": (lambda p: p.write_bytes(archive(state_dict(unet()))[:1500]), "is cut short"),
    "another file": (lambda p: p.write_bytes(b"GIF89a" + bytes(100)), r"first bytes \(47 49 46 38\)"),
    "an empty file": (lambda p: p.write_bytes(b""), "it is empty"),
    "a folder of something else": (lambda p: (p.mkdir(), (p / "notes.txt").touch()), r"it holds notes\.txt"),
    "a pipe": (lambda p: os.mkfifo(p), "not an ordinary file"),
    "a missing key": (
        lambda p: _changed(p, lambda weights: weights.pop("mid_block.0.weight")),
        r"1 missing \(mid_block\.0\.weight\)",
    ),
    "missing keys": (
        lambda p: _changed(p, lambda weights: [weights.pop(k) for k in list(weights) if "gammas" in k]),
        r"4 missing \(encoder\.0\.3\.gammas, mid_block\.1\.gammas, mid_block\.4\.gammas, …\)",
    ),
    "an extra key": (
        lambda p: _changed(p, lambda weights: weights.update({"extra.bias": torch.ones(1)})),
        r"1 not expected \(extra\.bias\)",
    ),
    "another shape": (
        lambda p: _changed(p, lambda weights: weights.update({"mid_block.0.weight": torch.ones(1)})),
        r"mid_block\.0\.weight has shape \(1,\), needed is \(4, 2, 3, 3\)",
    ),
    "an integer weight": (
        lambda p: _changed(p, lambda w: w.update({"mid_block.0.weight": w["mid_block.0.weight"].long()})),
        r"mid_block\.0\.weight is torch\.int64",
    ),
    "weights that are not finite": (
        lambda p: _changed(p, lambda weights: weights["mid_block.0.weight"][0, 0, 0].fill_(torch.inf)),
        r"mid_block\.0\.weight holds values that are not finite",
    ),
    "names of no network": (lambda p: p.write_bytes(archive({"a.weight": torch.ones(2)})), "name the architecture with --arch"),
    "heads that cannot be known": (
        lambda p: torch.save(state_dict(build("dit", DIT | {"num_classes": 0})[0]), p),
        r"say --arch-arg num_heads=N \(in a study: --set",
    ),
    "an object of a class of one's own": (lambda p: torch.save(Unknown(), p), r"an object of the class .*Unknown"),
    "an optimizer's file": (lambda p: torch.save(torch.optim.SGD(unet().parameters()).state_dict(), p), "an optimizer"),
    "a damaged safetensors file": (
        lambda p: p.write_bytes((100).to_bytes(8, "little") + b"{" + bytes(20)),
        "damaged or cut short",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def warmed(tmp_path_factory):
    """Everything that PyTorch imports when it is first used has been."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "a.pkl").write_bytes(edm_pickle(song_network(), SONG))
    torch.save(state_dict(unet()), folder / "b.pt")
    for name in ("a.pkl", "b.pt"):
        open_checkpoint(folder / name, sides=(8, 8))


@pytest.mark.parametrize("name", HOSTILE)
def test_refusals_name_the_reason_in_one_line_and_execute_nothing(tmp_path, warmed, executing_nothing, name):
    make, said = HOSTILE[name]
    path = tmp_path / "file.pkl"
    make(path)
    with executing_nothing(), pytest.raises(UserError, match=said) as caught:
        open_checkpoint(path, sides=(8, 8))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert ":" in message


def test_the_checkpoint_of_a_training_script_opens_without_its_optimizer(tmp_path):
    network = unet()
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 1, 8, 8)).sum().backward()
    optimizer.step()
    parts = {"model": network.state_dict(), "opt": optimizer.state_dict(), "args": argparse.Namespace(lr=1e-3)}
    torch.save(parts, tmp_path / "0010000.pt")
    opened = open_checkpoint(tmp_path / "0010000.pt", sides=(8, 8))
    assert "its entry 'model' (not opt, args)" in opened.origin


@pytest.mark.parametrize(
    ("wrapped", "taken"),
    [
        (
            lambda raw, ema: {"net_model": raw, "ema_model": ema, "sched": {"last_epoch": 3}, "x_T": torch.ones(2)},
            "entry 'ema_model'",
        ),
        (
            lambda raw, ema: {"state_dict": raw, "fid": np.float64(3.2), "path": Path("x"), "seen": Counter("aab")},
            "entry 'state_dict'",
        ),
        (
            lambda raw, ema: [raw, {"param_groups": [], "state": {}}, 3, 5000, ema],
            "averaged weights, entry 4 of its list",
        ),
        (lambda raw, ema: {"model": raw, "model_ema1": ema, "model_ema2": raw}, "entry 'model_ema1'"),
        (
            lambda raw, ema: (
                {f"ema.ema_model.{k}": v for k, v in ema.items()}
                | {f"ema.online_model.{k}": v for k, v in raw.items()}
                | {"ema.initted": torch.tensor(True), "ema.step": torch.tensor(3)}
            ),
            "entries 'ema'",
        ),
        (
            lambda raw, ema: {
                "state_dict": {f"ema.{k}": v for k, v in ema.items()} | {f"model.{k}": v for k, v in raw.items()}
            },
            "averaged weights, its entry 'state_dict', its entries 'ema'",
        ),
        (
            lambda raw, ema: {
                "model": raw,
                "ema": {"decay": 0.999, "num_updates": 3, "shadow_params": list(ema.values())},
            },
            "averages without names, named by their order",
        ),
        (lambda raw, ema: {"epoch": 3, "checkpoint": {"model": raw}}, "entry 'model'"),
    ],
)
def test_weights_are_found_wherever_a_script_has_put_them(tmp_path, wrapped, taken):
    raw, ema = state_dict(unet(0)), state_dict(unet(1))
    torch.save(wrapped(raw, ema), tmp_path / "net.pt")
    opened = open_checkpoint(tmp_path / "net.pt", sides=(8, 8))
    assert taken in opened.origin
    expected = ema if opened.weights == "averaged" else raw
    assert all(torch.equal(value, expected[name]) for name, value in opened.network.state_dict().items())
    if opened.both:
        assert opened.notes[0].startswith("its averaged and raw weights are far apart")
        other = open_checkpoint(tmp_path / "net.pt", arguments={"weights": "raw"}, sides=(8, 8))
        assert other.weights == "raw"
        assert all(torch.equal(value, raw[name]) for name, value in other.network.state_dict().items())
    else:
        with pytest.raises(UserError, match="one set of weights"):
            open_checkpoint(tmp_path / "net.pt", arguments={"weights": "raw"}, sides=(8, 8))


def test_a_whole_network_opens_as_its_weights(tmp_path):
    network = unet()
    torch.save({"model": network, "config": argparse.Namespace(lr=1e-3)}, tmp_path / "net.pt")
    opened = open_checkpoint(tmp_path / "net.pt", sides=(8, 8))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in opened.network.state_dict().items())


def test_averages_that_are_not_finite_offer_the_raw_weights(tmp_path):
    raw, ema = state_dict(unet(0)), state_dict(unet(0))
    ema = {name: value * 0.99 for name, value in ema.items()}
    torch.save({"model": raw, "ema": ema}, tmp_path / "close.pt")
    assert not open_checkpoint(tmp_path / "close.pt", sides=(8, 8)).notes
    ema["mid_block.0.weight"] = torch.full_like(ema["mid_block.0.weight"], torch.nan)
    torch.save({"model": raw, "ema": ema}, tmp_path / "net.pt")
    with pytest.raises(UserError, match="its raw weights are finite: --weights raw"):
        open_checkpoint(tmp_path / "net.pt", sides=(8, 8))
    opened = open_checkpoint(tmp_path / "net.pt", arguments={"weights": "raw"}, sides=(8, 8))
    assert opened.notes == ("its averaged weights are not finite",)


def test_an_optimizers_file_names_the_file_with_the_weights(tmp_path):
    network = unet()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1).state_dict()
    torch.save(optimizer, tmp_path / "opt000010.pt")
    with pytest.raises(UserError, match=r"opt000010.pt was not opened: .*state of an optimizer.*model\*\.pt"):
        open_checkpoint(tmp_path / "opt000010.pt")
    for name in ("model000010.pt", "ema_0.9999_000010.pt", "ema_0.9999_000020.pt"):
        torch.save(state_dict(network), tmp_path / name)
    with pytest.raises(UserError, match=r"give ema_0\.9999_000010\.pt, which stands beside it$"):
        open_checkpoint(tmp_path / "opt000010.pt")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"], "conditional on text"),
        (["cond_stage_model.transformer.weight", "model.diffusion_model.out.2.weight"], "conditional on text"),
        (["first_stage_model.encoder.conv_in.weight", "model.diffusion_model.out.2.weight"], "holds an autoencoder"),
    ],
)
def test_models_of_text_and_latents_are_refused_in_words(tmp_path, names, said):
    torch.save({"state_dict": {name: torch.ones(2, 2) for name in names}}, tmp_path / "net.ckpt")
    with pytest.raises(UserError, match=said):
        open_checkpoint(tmp_path / "net.ckpt")


def test_latents_are_said_to_be_latents(tmp_path):
    torch.save(state_dict(build("dit", DIT | {"in_channels": 4, "num_classes": 0})[0]), tmp_path / "dit.pt")
    opened = open_checkpoint(tmp_path / "dit.pt", arguments={"num_heads": 4})
    assert "4 channels: they are latents of an autoencoder" in opened.origin
    with pytest.raises(UserError, match=r"dit\.pt does not denoise pixels"):
        denoiser_of(opened, "dit.pt")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("x" * 5000, "cannot be read"),
        ("google/ddpm-cifar10-32", "names on a hub are not looked up"),
        ("nowhere.pkl", "no such checkpoint"),
    ],
)
def test_paths_that_do_not_exist(path, said):
    with pytest.raises(UserError, match=said):
        open_checkpoint(path)


def test_arguments_where_none_are_wanted_and_where_they_are_missing(tmp_path):
    (tmp_path / "a.pkl").write_bytes(edm_pickle(song_network()))
    with pytest.raises(UserError, match="leave out --arch"):
        open_checkpoint(tmp_path / "a.pkl", "unet")
    torch.save(state_dict(unet()), tmp_path / "b.pt")
    with pytest.raises(UserError, match="image_size=N"):
        open_checkpoint(tmp_path / "b.pt")
    assert open_checkpoint(tmp_path / "b.pt", arguments={"image_size": [8, 12]}).config.image_shape == (1, 8, 12)
    with pytest.raises(UserError, match="did you mean 'unet'"):
        open_checkpoint(tmp_path / "b.pt", "unett")
    with pytest.raises(UserError, match="not those of dit"):
        open_checkpoint(tmp_path / "b.pt", "dit", {"image_size": 8})
    with pytest.raises(UserError, match="given without preconditioning"):
        open_checkpoint(tmp_path / "b.pt", arguments={"image_size": 8, "preconditioning.sigma_data": 1})
    with pytest.raises(UserError, match="which UNet does not take"):
        open_checkpoint(tmp_path / "b.pt", arguments={"image_size": 8, "preconditioning": "edm"})
