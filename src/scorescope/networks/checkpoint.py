"""Our own checkpoints: a folder with ``network.safetensors`` (weights) and ``network.json`` (how to rebuild the network).

Neither file can hold code. The folder is written under a temporary name and renamed, so it is complete or absent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
from safetensors.torch import save_file
from torch import nn

from scorescope.foundation import UserError, new_folder
from scorescope.foundation.files import is_out_of_memory, write_json
from scorescope.foundation.randomness import seeded
from scorescope.networks.preconditioning import preconditioning_from
from scorescope.networks.readers.rebuilding import rebuild
from scorescope.networks.readers.state_dict import read_safetensors
from scorescope.networks.registry import architectures

WEIGHTS, DESCRIPTION = "network.safetensors", "network.json"
LARGEST_DESCRIPTION = 16 << 20


class NetworkConfig(pydantic.BaseModel):
    """Everything but the weights.

    Attributes:
        schema_version: of this file.
        architecture: name in `architectures`.
        arguments: constructor arguments of the architecture.
        preconditioning: name in `preconditionings`.
        preconditioning_arguments: its arguments; empty for the published ones.
        image_shape: (C, H, W).
        sigma_range: lowest and highest sigma that it was trained on, in units of [-1, 1].
        training: how it was trained, as free JSON; empty if unknown.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    architecture: str
    arguments: dict[str, Any]
    preconditioning: str
    preconditioning_arguments: dict[str, Any] = {}
    image_shape: tuple[int, int, int]
    sigma_range: tuple[float, float]
    training: dict[str, Any] = {}

    @property
    def flips(self) -> bool | None:
        """Whether it was trained on mirrored images too, as recorded; None if nothing is."""
        settings = self.training.get("config")
        recorded = settings.get("flips") if isinstance(settings, dict) else self.training.get("flips")
        return recorded if isinstance(recorded, bool) else None


def build_network(config: NetworkConfig, seed: int = 0) -> nn.Module:
    """A freshly initialized network, the same for the same seed; the caller's random state is left as it was.

    Raises UserError for an unknown architecture or arguments that it does not take.
    """
    entry = architectures[config.architecture]
    with seeded(seed):
        try:
            return entry.build(**config.arguments)
        except (TypeError, ValueError, RuntimeError, AssertionError, ArithmeticError, LookupError) as error:
            if is_out_of_memory(error):
                raise
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

    Raises UserError if the folder is missing or is not a checkpoint, a file is damaged, its tensors do not fit the network
    that it describes, or one of them is not finite.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such checkpoint folder; a scorescope checkpoint is a folder with {WEIGHTS} and {DESCRIPTION}"
        )
    for name in (WEIGHTS, DESCRIPTION):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a scorescope checkpoint: it has no {name}")
    config = _description(folder / DESCRIPTION)
    preconditioning_from(config.preconditioning, config.preconditioning_arguments)
    try:
        network = rebuild(lambda: build_network(config), read_safetensors(folder / WEIGHTS), config.architecture)
    except UserError as error:
        raise UserError(f"{folder / WEIGHTS} was not opened: {error}") from error
    return network, config


def _description(path: Path) -> NetworkConfig:
    if path.stat().st_size > LARGEST_DESCRIPTION:
        raise UserError(f"{path} is larger than {LARGEST_DESCRIPTION:,} bytes: it describes no network")
    try:
        return NetworkConfig.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path} is damaged: {where}: {first['msg']}") from error
