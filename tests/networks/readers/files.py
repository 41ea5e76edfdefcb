"""Small files that the tests of the readers damage: pickles in EDM's format, archives, state dictionaries."""

from __future__ import annotations

import argparse
import collections
import io
import json
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from scorescope.networks import build_network
from scorescope.networks.checkpoint import NetworkConfig

SONG = {
    "img_resolution": 8,
    "in_channels": 1,
    "out_channels": 1,
    "model_channels": 4,
    "channel_mult": [1],
    "num_blocks": 1,
    "attn_resolutions": [],
}
UNET = {"channels": 1, "width": 2, "blocks": 1}


def song_network(seed: int = 0, **arguments: Any) -> nn.Module:
    """A SongUNet of a few thousand parameters, all of them random."""
    network = _built("ddpm++", {**SONG, **arguments})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.1, generator=generator)
    return network


def unet(seed: int = 0) -> nn.Module:
    """A bias-free U-Net of a few hundred parameters."""
    return _built("unet", UNET, seed)


def _built(architecture: str, arguments: dict[str, Any], seed: int = 0) -> nn.Module:
    config = NetworkConfig(
        architecture=architecture,
        arguments=arguments,
        preconditioning="edm",
        image_shape=(1, 8, 8),
        sigma_range=(0.1, 1.0),
    )
    return build_network(config, seed)


class _Persistent:
    """Pickled as EDM's persistence writes a module: a call of their function with one dictionary."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": "raise RuntimeError('executed')\n",
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self) -> Any:
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


def persistent(class_name: str, module: nn.Module | None, init: dict[str, Any], **attributes: Any) -> Any:
    """The record of a module and all below it; `module` None for a preconditioning, whose modules are in `attributes`."""
    state: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}, **attributes}
    if module is not None:
        state["_parameters"] = dict(module._parameters)
        state["_buffers"] = dict(module._buffers)
        state["_non_persistent_buffers_set"] = set(module._non_persistent_buffers_set)
        state["_modules"] = {
            name: None if child is None else persistent(type(child).__name__, child, {})
            for name, child in module._modules.items()
        }
    return _Persistent(class_name, state | {"_init_args": (), "_init_kwargs": init})


def edm_pickle(network: nn.Module, init: dict[str, Any] | None = None, **outer: Any) -> bytes:
    """A file as EDM writes it, of a SongUNet in an EDMPrecond; `outer` replaces attributes of that."""
    inner = persistent("SongUNet", network, SONG if init is None else init)
    settings = {"sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5} | outer
    return dumped({"ema": persistent("EDMPrecond", None, {}, _modules={"model": inner}, **settings)})


def training_state(network: nn.Module) -> bytes:
    """A training state as EDM writes it, of a SongUNet in an EDMPrecond."""
    inner = persistent("SongUNet", network, SONG)
    settings = {"sigma_min": 0, "sigma_max": float("inf"), "sigma_data": 0.5}
    outer = persistent("EDMPrecond", None, {}, _modules={"model": inner}, **settings)
    with _their_module():
        return archive({"net": outer, "optimizer_state": {"state": {}, "param_groups": []}})


def edm2_pickle() -> bytes:
    """A snapshot as EDM2 writes it, of a few hundred parameters."""
    init = {"img_resolution": 8, "img_channels": 1, "model_channels": 4, "channel_mult": [1], "num_blocks": 1}
    init |= {"attn_resolutions": [], "channels_per_head": 4}
    inner = persistent("UNet", _built("edm2", init), init)
    outer = persistent("Precond", None, {}, _modules={"unet": inner}, sigma_data=0.5)
    return dumped({"ema": outer, "dataset_kwargs": {"path": "x.zip", "xflip": True}})


def k_diffusion_file() -> bytes:
    """A slim file as k-diffusion writes it, of a few hundred parameters."""
    network = _built(
        "k-diffusion-unet",
        {"input_channels": 1, "mapping_out": 8, "depths": [1], "channels": [4], "self_attn_depths": [True]},
    )
    settings = {"model": {"type": "image_v1", "sigma_data": 0.4, "input_size": [8, 8], "patch_size": 1}}
    weights = {f"inner_model.{name}": value.contiguous() for name, value in state_dict(network).items()}
    return save(weights, {"config": json.dumps(settings)})


def sit_file() -> bytes:
    """What SiT's training script saves, of a few thousand parameters."""
    arguments = {"input_size": 8, "patch_size": 4, "in_channels": 1, "hidden_size": 24, "depth": 1, "num_heads": 6}
    weights = state_dict(_built("dit", arguments | {"num_classes": 2}))
    words = argparse.Namespace(path_type="GVP", prediction="velocity", model="SiT-S/2")
    return archive({"model": weights, "ema": weights, "opt": {"state": {}, "param_groups": []}, "args": words})


def score_sde_file() -> bytes:
    """What score_sde_pytorch saves, of one level with one block: a numbered list, and averages without names."""
    generator = torch.Generator().manual_seed(0)

    def layer(*shape: int, kind: str = "", ends: tuple[str, str] = ("weight", "bias")) -> dict[str, torch.Tensor]:
        weight = 0.1 * torch.randn(shape, generator=generator)
        return {f"{kind}{ends[0]}": weight, f"{kind}{ends[1]}": torch.zeros(shape[1 if ends[0] == "W" else 0])}

    def block(inputs: int) -> dict[str, torch.Tensor]:
        parts = layer(inputs, kind="GroupNorm_0.") | layer(4, inputs, 3, 3, kind="Conv_0.")
        parts |= layer(4, 16, kind="Dense_0.") | layer(4, kind="GroupNorm_1.") | layer(4, 4, 3, 3, kind="Conv_1.")
        return parts | (layer(4, inputs, 1, 1, kind="Conv_2.") if inputs != 4 else {})

    attention = layer(4, kind="GroupNorm_0.")
    for number in range(4):
        attention |= layer(4, 4, kind=f"NIN_{number}.", ends=("W", "b"))
    modules = [layer(16, 4), layer(16, 16), layer(4, 1, 3, 3), block(4), block(4), attention, block(4)]
    modules += [block(8), block(8), layer(4), layer(1, 4, 3, 3)]
    weights = {
        f"module.all_modules.{number}.{name}": value
        for number, parts in enumerate(modules)
        for name, value in parts.items()
    }
    averages = {"decay": 0.999, "num_updates": 5, "shadow_params": list(weights.values())}
    sigmas = {"module.sigmas": torch.linspace(50, 0.01, 4, dtype=torch.float64)}
    return archive({"optimizer": {"state": {}}, "model": sigmas | weights, "ema": averages, "step": 5})


def dumped(value: Any) -> bytes:
    """A pickle that may hold `persistent` records."""
    with _their_module():
        return pickle.dumps(value, 4)


@contextmanager
def _their_module() -> Iterator[None]:
    """Let the pickler find their function under its name while a file is written."""
    names = ("torch_utils", "torch_utils.persistence")
    modules = {name: types.ModuleType(name) for name in names}

    def reconstruct(meta: Any) -> Any:
        raise AssertionError("their code was called")

    reconstruct.__name__ = reconstruct.__qualname__ = "_reconstruct_persistent_obj"
    reconstruct.__module__ = "torch_utils.persistence"
    modules["torch_utils.persistence"]._reconstruct_persistent_obj = reconstruct  # type: ignore[attr-defined]
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def archive(value: Any, *, as_zip: bool = True) -> bytes:
    """What ``torch.save`` writes, in the format of today or that of before 2020."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=as_zip)
    return file.getvalue()


def state_dict(network: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers, as an ordered dictionary of detached tensors."""
    return collections.OrderedDict((name, value.detach()) for name, value in network.state_dict().items())
