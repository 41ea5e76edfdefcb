"""Small files that the tests of the readers damage: pickles in EDM's format, archives, state dictionaries."""

from __future__ import annotations

import collections
import io
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
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
