"""Networks that come with the package, found by what they were trained on and how, never by their name alone.

They were trained by the commands in their records (``assets/make.py`` in the repository) and are stored in half precision;
opened, they compute in single precision.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from scorescope.data import ImageSet
from scorescope.networks import NetworkConfig
from scorescope.networks.checkpoint import DESCRIPTION
from scorescope.training.config import TrainingConfig

FOLDER = Path(__file__).parents[1] / "pretrained"


def network_identity(network: NetworkConfig, training: TrainingConfig, images: str) -> dict[str, Any]:
    """What makes a trained network the one that it is.

    Args:
        network: what is trained.
        training: how.
        images: fingerprint of the images that it is trained on.
    """
    untrained = network.model_copy(update={"training": {}})
    return {"network": untrained.model_dump(), "training": training.model_dump(), "images": images}


def shipped_network(network: NetworkConfig, training: TrainingConfig, images: ImageSet) -> Path | None:
    """The checkpoint folder of the network that came with the package, if one was trained like this on these images."""
    wanted = json.dumps(network_identity(network, training, images.fingerprint()), sort_keys=True)
    return _shipped().get(wanted)


@functools.cache
def _shipped() -> dict[str, Path]:
    """Identity, as text -> checkpoint folder."""
    found = {}
    for path in sorted(FOLDER.glob(f"*/{DESCRIPTION}")):
        network = NetworkConfig.model_validate_json(path.read_bytes())
        training = TrainingConfig.model_validate(network.training["config"])
        identity = network_identity(network, training, network.training["data_sha256"])
        found[json.dumps(identity, sort_keys=True)] = path.parent
    return found
