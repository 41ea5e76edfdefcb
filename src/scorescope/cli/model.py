"""``scorescope model``: what a checkpoint holds and what was assumed of it, and whether it denoises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from scorescope.app.choices import ModelChoice
from scorescope.cli.options import CHECKPOINT_HELP, Arch, ArchArg, AsJson, ClassLabel, Data, Device, Seed, Weights
from scorescope.foundation.progress import showing_progress

app = typer.Typer(help="Look into a checkpoint; check that it denoises.", no_args_is_help=True)

Checkpoint = Annotated[Path, typer.Argument(help=CHECKPOINT_HELP)]
_SHOWN = 12


@app.command()
def info(
    checkpoint: Checkpoint,
    arch: Arch = None,
    arch_arg: ArchArg = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint holds: format, network, what was read, what was assumed, what would have to be said."""
    choice = ModelChoice.of(checkpoint, arch, arch_arg, None, weights)
    from scorescope.app import model

    found = model.info(choice)
    print(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(_described(found)))


@app.command()
def check(
    checkpoint: Checkpoint,
    data: Data,
    arch: Arch = None,
    arch_arg: ArchArg = None,
    weights: Weights = None,
    class_label: ClassLabel = None,
    seed: Seed = 0,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Denoise a few images with a checkpoint, as it was opened and in every other plausible way, and rank the ways."""
    from scorescope.app.checks import check_data, check_device

    choice = ModelChoice.of(checkpoint, arch, arch_arg, class_label, weights)
    check_device(device)
    check_data(data)
    from scorescope.app import model

    with showing_progress():
        opened, found = model.check(choice, data, seed, device)
    ways = [("as it was opened", found.own), *((trial.words, trial) for trial in found.trials)]
    ways.sort(key=lambda way: -way[1].mean)
    if as_json:
        print(
            json.dumps(
                {
                    "origin": opened.origin,
                    "sigmas": found.sigmas,
                    "images": found.images,
                    "gaussian_gains": found.gaussian,
                    "doubtful": found.doubtful,
                    "better": dict(found.better.arguments) if found.better else None,
                    "ways": [{"arguments": dict(trial.arguments), "gains": trial.gains} for _, trial in ways],
                },
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    print(opened.origin)
    print(found.sentence)
    levels = "".join(f"{sigma:>8g}" for sigma in found.sigmas)
    print(f"\ngain in dB at σ ={levels}    mean")
    rows = [("a Gaussian model of the data", found.gaussian, found.gaussian_mean)]
    rows += [("as it was opened", found.own.gains, found.own.mean)]
    rows += [(trial.words, trial.gains, trial.mean) for trial in found.trials]
    for words, gains, mean in rows[: _SHOWN + 1]:
        print("                 " + "".join(f"{gain:>+8.1f}" for gain in gains) + f"{mean:>+8.1f}  {words}")
    if len(rows) > _SHOWN + 1:
        print(f"                 and {len(rows) - _SHOWN - 1} more that gain less")


def _described(found: dict[str, Any]) -> list[str]:
    """Lines of what is known, and of what is not."""
    channels, height, width = found["image_shape"]
    sides = f"{channels}×{height}×{width}" if height else f"{channels} channels, any size"
    low, high = found["sigma_range"]
    if found["both_weights"]:
        rest = "raw" if found["weights"] == "averaged" else "averaged"
        weights = f"{found['weights']} (the {rest} ones: --weights {rest})"
    else:
        weights = found["weights"] or "one set"
    classes = f"{found['classes']}, one of them has to be asked for" if found["class_needed"] else str(found["classes"])
    rows = [
        ("format", found["format"]),
        ("network", f"{found['network']}, {found['parameters']:,} parameters"),
        ("weights", weights),
        ("images", sides),
        ("classes", classes if found["classes"] else "none"),
        ("denoises by", f"{found['preconditioning']}, σ {low:.3g} to {high:.3g}"),
        ("read", "; ".join(found["read"]) or "all from names and shapes"),
        ("assumed", "; ".join(one["said"] for one in found["assumed"]) or "nothing"),
        ("mirrored images", {True: "yes", False: "no", None: "not recorded"}[found["flips"]]),
        ("data set", found["data"] or "not recorded"),
    ]
    if not height:
        rows.append(("to be said", "--arch-arg image_size=N, where no data says it"))
    for one in found["assumed"]:
        ways = [" ".join(f"{name}={value}" for name, value in way.items()) for way in one["otherwise"]]
        if ways:
            more = f", and {len(ways) - 4} more" if len(ways) > 4 else ""
            rows.append(("if not so", f"--arch-arg {'; '.join(ways[:4])}{more}"))
    rows += [("note", note) for note in found["notes"]]
    return [f"{name:<16} {value}" for name, value in rows]
