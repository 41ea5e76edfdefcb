"""Our own checkpoints: a folder with ``network.safetensors`` (weights) and ``network.json`` (how to rebuild the network).

Neither file can hold code. The folder is written under a temporary name and renamed, so it is complete or absent.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from scorescope.foundation import UserError, new_folder
from scorescope.foundation.files import write_json
from scorescope.networks.preconditioning import preconditionings
from scorescope.networks.registry import architectures

WEIGHTS, DESCRIPTION = "network.safetensors", "network.json"


class NetworkConfig(pydantic.BaseModel):
    """Everything but the weights.

    Attributes:
        schema_version: of this file.
        architecture: name in `architectures`.
        arguments: constructor arguments of the architecture.
        preconditioning: name in `preconditionings`.
        image_shape: (C, H, W).
        sigma_range: lowest and highest sigma that it was trained on, in units of [-1, 1].
        training: how it was trained, as free JSON; empty if unknown.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    architecture: str
    arguments: dict[str, Any]
    preconditioning: str
    image_shape: tuple[int, int, int]
    sigma_range: tuple[float, float]
    training: dict[str, Any] = {}


def build_network(config: NetworkConfig, seed: int = 0) -> nn.Module:
    """A freshly initialized network, the same for the same seed; the caller's random state is left as it was.

    Raises UserError for an unknown architecture or arguments that it does not take.
    """
    entry = architectures[config.architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return entry.build(**config.arguments)
        except TypeError as error:
            raise UserError(
                f"network {config.architecture!r} cannot be built from {config.arguments}: {error}"
            ) from error


def save_network(folder: Path | str, network: nn.Module, config: NetworkConfig) -> None:
    """Write a checkpoint folder. Raises UserError if `folder` exists or cannot be written."""
    weights = {key: value.detach().to("cpu").contiguous() for key, value in network.state_dict().items()}
    with new_folder(folder) as temporary:
        save_file(weights, temporary / WEIGHTS)
        write_json(temporary / DESCRIPTION, config.model_dump(mode="json"))


def load_network(folder: Path | str) -> tuple[nn.Module, NetworkConfig]:
    """Rebuild a network from a checkpoint folder, in evaluation mode, on the CPU.

    Raises UserError if the folder is missing or is not a checkpoint, a file is damaged, or keys do not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such checkpoint folder; a scorescope checkpoint is a folder with {WEIGHTS} and {DESCRIPTION}"
        )
    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a scorescope checkpoint: it has no {name}")
    try:
        config = NetworkConfig.model_validate_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{folder / DESCRIPTION} is damaged: {where}: {first['msg']}") from error
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / WEIGHTS} is damaged or cut short ({error}): copy or train it again") from error
    preconditionings[config.preconditioning]
    network = build_network(config)
    expected = network.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    wrong = [key for key in expected.keys() & weights.keys() if expected[key].shape != weights[key].shape]
    if missing or extra or wrong:
        raise UserError(
            f"{folder}: the weights do not fit {config.architecture}{config.arguments}:"
            f" missing {missing[:3]}, not expected {extra[:3]}, other shape {wrong[:3]}"
        )
    network.load_state_dict(weights)
    return network.eval(), config
