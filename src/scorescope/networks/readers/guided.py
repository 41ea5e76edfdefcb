"""Files of improved- and guided-diffusion, consistency models, TorchCFM and Meta's flow matching: one U-Net, five uses.

Names and shapes say the network but for its attention heads and their order; which of the five it is follows from what
stands around the weights, and what it predicts from that. All of it can be said: ``--arch`` one of the names below,
``num_heads``, ``num_head_channels``, ``use_new_attention_order``, and how it is used, in the words of `use`.

| name | known by | used as |
| --- | --- | --- |
| ``consistency-models`` | ``qkv`` with four axes | EDM's preconditioning, told 250 ln σ |
| ``flow-matching`` | settings ``args`` with a ``dataset`` and an ``lr`` | velocity of the straight path |
| ``torchcfm`` | ``net_model`` beside ``ema_model``, or ``cfm`` in the file's name | velocity of the straight path |
| ``improved-diffusion`` | its name only | noise, cosine table of 4,000 steps |
| ``guided-diffusion`` | the rest | noise, linear table of 1,000 steps |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from scorescope.networks.readers.formats import CheckpointFile, Format, Given, Reading, Shapes
from scorescope.networks.readers.use import OTHER_STEPPED_USES, Use, flow_use, said_use, stepped_use

ARCHITECTURE = "guided-unet"


def _is_guided(file: CheckpointFile) -> bool:
    return file.has(
        "input_blocks.0.0.weight", "time_embed.0.weight", "middle_block.0.in_layers.2.weight", "out.2.weight"
    )


def _is_consistency(file: CheckpointFile) -> bool:
    return _is_guided(file) and len(file.shapes.get("middle_block.1.qkv.weight", ())) == 4


def _is_flow_matching(file: CheckpointFile) -> bool:
    return _is_guided(file) and "dataset" in file.settings("args") and "lr" in file.settings("args")


def _is_torchcfm(file: CheckpointFile) -> bool:
    named = re.search(r"cfm|flow", file.path.name.lower()) is not None
    return _is_guided(file) and (("sched" in file.beside and "optim" in file.beside) or named)


def _read(
    use: Callable[[Given, CheckpointFile], Use],
    heads: Callable[[Given, dict[str, Any]], dict[str, Any]],
    **usual: Any,
) -> Callable[[CheckpointFile, Given], Reading]:
    """A reader of this network for one of its uses."""

    def read(file: CheckpointFile, given: Given) -> Reading:
        shapes = file.shapes
        arguments = structure(shapes) | usual
        arguments |= heads(given, arguments)
        name, its = use(given, file)
        channels = arguments["in_channels"]
        halved = 2 ** (len(arguments["widths"]) - 1)
        return Reading(ARCHITECTURE, arguments | given.left, (channels, 0, 0), name, its, side_multiple=halved)

    return read


def structure(shapes: Shapes) -> dict[str, Any]:
    """What names and shapes say of the network. Raises KeyError or ValueError if they are of another one."""
    first, channels = shapes["input_blocks.0.0.weight"][:2]
    model_channels = shapes["time_embed.0.weight"][1]
    inputs = _numbers(r"input_blocks\.(\d+)\.", shapes)
    outputs = max(_numbers(r"output_blocks\.(\d+)\.", shapes)) + 1
    # on the way up, the last block of every level but the first has one layer more, that doubles the resolution
    doubling = [n for n in range(outputs) if any(f"output_blocks.{n}.{k}.{part}.weight" in shapes
                for k in (1, 2) for part in ("conv", "in_layers.2"))]  # fmt: skip
    silent = max(inputs) + 1 - len(inputs)  # halvings without parameters are not among the numbers
    levels = 1 + max(len(doubling), silent)
    blocks = outputs // levels - 1
    if blocks < 1 or outputs != levels * (blocks + 1) or max(inputs) + 1 != outputs:
        raise ValueError("its levels do not have equally many blocks")
    starts = [1 + level * (blocks + 1) for level in range(levels)]
    widths = [shapes[f"input_blocks.{start}.0.out_layers.3.weight"][0] for start in starts]
    return {
        "in_channels": channels,
        "out_channels": shapes["out.2.weight"][0],
        "model_channels": model_channels,
        "widths": widths,
        "num_res_blocks": blocks,
        "attention_levels": [n for n, start in enumerate(starts) if f"input_blocks.{start}.1.qkv.weight" in shapes],
        "num_classes": shapes.get("label_emb.weight", (0,))[0],
        "first_width": first,
        "use_scale_shift_norm": shapes["middle_block.0.emb_layers.1.weight"][0] == 2 * widths[-1],
        "resblock_updown": any(".in_layers." in name for n in doubling for name in shapes
                               if re.match(rf"output_blocks\.{n}\.[12]\.in_layers", name)),
        "conv_resample": not silent,
        "square_attention": len(shapes["middle_block.1.qkv.weight"]) == 4,
    }  # fmt: skip


def _numbers(pattern: str, shapes: Shapes) -> set[int]:
    found = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    if not found:
        raise KeyError(pattern)
    return found


def attention_widths(arguments: dict[str, Any]) -> set[int]:
    """Channels of all the network's attentions; the middle always has one."""
    return {arguments["widths"][level] for level in arguments["attention_levels"]} | {arguments["widths"][-1]}


def _heads(order: bool | None, usual_heads: int, usual_channels: int | None) -> Callable[..., dict[str, Any]]:
    """Heads of attention as given or assumed; the order as well, unless it is known."""

    def choose(given: Given, arguments: dict[str, Any]) -> dict[str, Any]:
        attended = attention_widths(arguments)
        found: dict[str, Any] = {}
        wide = usual_channels is not None and all(width % usual_channels == 0 for width in attended)
        phrase = f"heads of {usual_channels} channels" if wide else f"{usual_heads} attention heads"
        said: dict[str, Any] = {
            name: given.take(name) for name in ("num_heads", "num_head_channels") if name in given.left
        }
        said_order = given.take("use_new_attention_order")
        if said:
            found |= said
        else:
            found["num_head_channels" if wide else "num_heads"] = usual_channels if wide else usual_heads
        found["use_new_attention_order"] = order if said_order is None and order is not None else bool(said_order)
        settings = _other_heads(attended) if not said else [said]
        orders = [True, False] if said_order is None and order is None else [found["use_new_attention_order"]]
        others = [one | {"use_new_attention_order": way} for one in settings for way in orders]
        if order is None and said_order is None:
            phrase = f"{phrase}, cut out of qkv in the old order" if not said else "the old order of attention"
        if not said or (order is None and said_order is None):
            given.assume(phrase, [one for one in others if one != found])
        return found

    return choose


def _other_heads(attended: set[int]) -> list[dict[str, Any]]:
    """Numbers of heads and widths of them that are plausible for all attentions, each once."""
    whole = [{"num_heads": n} for n in (1, 2, 4, 8) if all(width % n == 0 and width // n >= 8 for width in attended)]
    wide = [
        {"num_head_channels": n}
        for n in (64, 32, 16, 8)
        if all(width % n == 0 for width in attended) and (len(attended) > 1 or max(attended) // n not in (1, 2, 4, 8))
    ]
    return [*whole, *wide]


def _guided_use(given: Given, file: CheckpointFile) -> Use:
    return stepped_use(given, others=[*OTHER_STEPPED_USES, *RESCALED])


def _improved_use(given: Given, file: CheckpointFile) -> Use:
    if "rescale_timesteps" not in given.left and not {"steps", "preconditioning"} & given.left.keys():
        given.left["rescale_timesteps"] = True
    return stepped_use(given, schedule="cosine", steps=4000, others=[*OTHER_STEPPED_USES, *RESCALED])


# Tables of 4,000 steps, told as they are or out of 1,000.
RESCALED = tuple(
    {"prediction": "epsilon", "schedule": schedule, "steps": 4000, "rescale_timesteps": rescaled}
    for schedule in ("cosine", "linear")
    for rescaled in (True, False)
)


def _consistency_use(given: Given, file: CheckpointFile) -> Use:
    outright = said_use(given)
    if outright is not None or "prediction" in given.left:
        return outright or stepped_use(given)
    arguments: dict[str, Any] = {"noise_scale": 250.0}
    sigma_data = given.value("sigma_data", 0.5, "σ_data 0.5")
    distilled = given.value(
        "distilled", False, "EDM's preconditioning (not one that is exact at σ = 0.002)", [{"distilled": True}]
    )
    if distilled:
        arguments["boundary"] = 0.002
    return "edm", arguments | ({"sigma_data": sigma_data} if sigma_data != 0.5 else {})


def _flow_use(given: Given, file: CheckpointFile) -> Use:
    return flow_use(given, others=[*OTHER_STEPPED_USES, {"path": "trigonometric"}])


def _flow_matching(file: CheckpointFile, given: Given) -> Reading:
    """Their heads follow from the data set that ``args`` names: one head on CIFAR-10, heads of 64 channels on ImageNet."""
    on_cifar = "cifar" in str(file.settings("args").get("dataset", "")).lower()
    read = _read(_flow_use, _heads(True, 1 if on_cifar else 4, None if on_cifar else 64))
    found = read(file, given)
    classes = found.arguments["num_classes"]  # the last row of their table stands for no class
    return found if not classes else replace(found, arguments=found.arguments | {"no_class": True})


CONSISTENCY = Format(
    "consistency-models", "openai/consistency_models", _is_consistency, _read(_consistency_use, _heads(True, 4, 64))
)
FLOW_MATCHING = Format("flow-matching", "facebookresearch/flow_matching", _is_flow_matching, _flow_matching)
TORCHCFM = Format("torchcfm", "atong01/conditional-flow-matching", _is_torchcfm, _read(_flow_use, _heads(None, 4, 64)))
IMPROVED = Format(
    "improved-diffusion", "openai/improved-diffusion", lambda file: False, _read(_improved_use, _heads(False, 4, None))
)
GUIDED = Format("guided-diffusion", "openai/guided-diffusion", _is_guided, _read(_guided_use, _heads(None, 4, 64)))
