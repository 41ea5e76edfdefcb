"""Files of SiT (Ma et al., ECCV 2024, https://arxiv.org/abs/2401.08740): a DiT that predicts a velocity, as a rule.

Its weights are those of a DiT by name and shape. Its training script writes its own words beside them (``args``: path,
prediction, model), by which it is told apart; of bare weights the user says ``--arch sit``.
"""

from __future__ import annotations

import math
import re
from typing import Any

from scorescope.foundation import UserError
from scorescope.networks.readers.formats import IN_A_STUDY, CheckpointFile, Format, Given, Reading
from scorescope.networks.readers.infer import DIT_HEADS
from scorescope.networks.readers.use import said_use

HEADS_OF_MODELS = {"S": 6, "B": 12, "L": 16, "XL": 16}
PATHS, PREDICTIONS = ("Linear", "GVP", "VP"), ("velocity", "score", "noise")


def _recognize(file: CheckpointFile) -> bool:
    words = file.settings("args")
    return file.has("x_embedder.proj.weight", "pos_embed") and "path_type" in words and "prediction" in words


def _read(file: CheckpointFile, given: Given) -> Reading:
    shapes, words = file.shapes, file.settings("args")
    hidden, channels, patch = shapes["x_embedder.proj.weight"][:3]
    side = patch * math.isqrt(shapes["pos_embed"][1])
    classes = max(shapes["y_embedder.embedding_table.weight"][0] - 1, 0)
    arguments = {
        "input_size": side,
        "patch_size": patch,
        "in_channels": channels,
        "hidden_size": hidden,
        "depth": len({name.split(".")[1] for name in shapes if name.startswith("blocks.")}),
        "mlp_ratio": shapes["blocks.0.mlp.fc1.weight"][0] / hidden,
        "num_classes": classes,
        "learn_sigma": shapes["final_layer.linear.weight"][0] == 2 * channels * patch**2,
        "num_heads": _heads(words, hidden, given),
    }
    use = said_use(given) or use_of(words, given)
    read = ("path, prediction and heads in its args",) if words else ()
    return Reading("dit", arguments | given.left, (channels, side, side), *use, read=read)


def _heads(words: dict[str, Any], hidden: int, given: Given) -> Any:
    said = given.take("num_heads")
    if said is not None:
        return said
    model = re.fullmatch(r"SiT-(S|B|L|XL)/\d+", str(words.get("model", "")))
    if model is not None:
        return HEADS_OF_MODELS[model[1]]
    if hidden in DIT_HEADS:
        heads = DIT_HEADS[hidden]
        return given.value("num_heads", heads, f"{heads} attention heads, as published networks of width {hidden} have")
    raise UserError(
        f"the number of attention heads leaves no trace in the weights, and {hidden} is not the width of a published"
        f" network: say --arch-arg num_heads=N {IN_A_STUDY}"
    )


def use_of(words: dict[str, Any], given: Given) -> tuple[str, dict[str, Any]]:
    """Preconditioning and arguments from path and prediction, 1 of its time being the image."""
    path = given.take("path_type") or words.get("path_type")
    predicts = given.take("prediction") or words.get("prediction")
    if path is None or predicts is None:
        given.assume("a velocity on the straight path", [{"path_type": "GVP"}, {"prediction": "score"}])
    path, predicts = path or "Linear", predicts or "velocity"
    if path not in PATHS or predicts not in PREDICTIONS:
        raise UserError(
            f"its path is {str(path)[:20]!r} and it predicts {str(predicts)[:20]!r}: supported are {', '.join(PATHS)} and"
            f" {', '.join(PREDICTIONS)}"
        )
    if predicts == "velocity":
        if path == "VP":
            raise UserError("it predicts a velocity on the VP path, which is not supported")
        return ("flow", {"time": {"kind": "flow"}}) if path == "Linear" else ("trigonometric-flow", {})
    name = "epsilon" if predicts == "noise" else "score"
    if path == "VP":
        return name, {"process": "vp", "time": {"kind": "vp", "scale": 1.0, "toward": "image"}}
    if path == "GVP":
        return name, {"process": "vp", "time": {"kind": "cosine", "toward": "image"}}
    return name, {"process": "flow", "time": {"kind": "flow"}}


SIT = Format("sit", "willisma/SiT", _recognize, _read)
