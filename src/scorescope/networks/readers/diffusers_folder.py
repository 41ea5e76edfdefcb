"""A local ``diffusers`` folder: a pipeline (``model_index.json``) or a UNet (``config.json`` and its weights).

Pixel models whose network is a ``UNet2DModel``: DDPM (Ho et al. 2020, arXiv 2006.11239), DDIM (Song et al. 2021, arXiv
2010.02502) and score-SDE VE (Song et al. 2021, arXiv 2011.13456). The class comes from the installed package; its
arguments, the scheduler's and the weights are read here, from files that hold numbers. Nothing is ever looked up on a hub,
and no code is taken from the folder. The scheduler becomes a preconditioning: its table of ᾱ_t, or for the VE process σ
itself, for images in [0, 1].
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic_core import from_json
from torch import Tensor, nn

from scorescope.foundation import UserError
from scorescope.foundation.inert.file_view import viewed
from scorescope.foundation.inert.restricted_unpickler import Budget
from scorescope.foundation.inert.stored_tensor import StoredTensor
from scorescope.networks.labels import Classes
from scorescope.networks.readers.state_dict import read_safetensors, read_torch_state_dict

PIPELINE, UNET, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model"
LARGEST_JSON = 16 << 20
MOST_STEPS = 100_000
MOST_CLASSES = 1_000_000
TABLED = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler")
EXPLODING = "ScoreSdeVeScheduler"
PREDICTIONS = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v"}

# How attention was named before the package's version 0.12, in which the published DDPM and VE models are.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


@dataclass(frozen=True)
class DiffusersNetwork:
    """What a folder describes.

    Attributes:
        build: makes the network, freshly initialized.
        arguments: of the UNet.
        tensors: its weights.
        preconditioning: name in `scorescope.networks.preconditionings`.
        preconditioning_arguments: its arguments.
        image_shape: (C, H, W).
        assumed: what the folder does not say and was assumed, as phrases.
    """

    build: Callable[[], nn.Module]
    arguments: dict[str, Any]
    tensors: dict[str, StoredTensor]
    preconditioning: str
    preconditioning_arguments: dict[str, Any]
    image_shape: tuple[int, int, int]
    assumed: tuple[str, ...]


class DiffusersUNet(nn.Module):
    """A ``UNet2DModel`` called as the other networks are: (B, C, H, W), (B,), (B,) -> (B, C, H, W).

    Args:
        unet: the model.
        classes: number of classes that it is conditional on; 0 for none.
        whole_steps: whether it looks its time up in a table of learned vectors: fractions of a step are rounded.
    """

    def __init__(self, unet: nn.Module, classes: int, *, whole_steps: bool = False) -> None:
        super().__init__()
        self.unet = unet
        self.whole_steps = whole_steps
        self.classes = Classes(classes, optional=classes == 0)

    def forward(self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None) -> Tensor:
        """Images, times and classes to what the model predicts. Raises UserError if it needs a class and gets none."""
        if self.classes.count and class_labels is None:
            self.classes.check(None)
        labels = class_labels if self.classes.count else None
        times = noise_labels.round().long() if self.whole_steps else noise_labels
        predicted: Tensor = self.unet(x, times, class_labels=labels, return_dict=False)[0]
        return predicted


def is_diffusers_folder(folder: Path) -> bool:
    """Whether a folder looks like a pipeline or a model of ``diffusers``."""
    return any((folder / name).is_file() for name in (PIPELINE, UNET))


def read_diffusers_folder(folder: Path, budget: Budget) -> DiffusersNetwork:
    """Read a pipeline or UNet folder.

    Args:
        folder: an existing folder with ``model_index.json`` or ``config.json``.
        budget: instructions that may be executed, if its weights are a pickle.

    Raises:
        UserError: the package is not installed, a file is missing or damaged, or the model is of a kind not supported.
    """
    pipeline = _json(folder / PIPELINE) if (folder / PIPELINE).is_file() else None
    if pipeline is not None:
        _check_pipeline(pipeline)
    home = folder / "unet" if pipeline is not None and (folder / "unet").is_dir() else folder
    config = _json(home / UNET)
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise UserError(
            f"its network is a {_word(config['_class_name'])}; only pixel models with a UNet2DModel (DDPM, DDIM, score-SDE VE)"
            " are supported"
        )
    model = _unet_class()
    known = inspect.signature(model.__init__).parameters
    arguments = {name: value for name, value in config.items() if name in known}
    ignored = [name for name in config if name not in known and not name.startswith("_")]
    channels, sides = _image_shape(config)
    preconditioning, its_arguments, assumed = _preconditioning(_scheduler(folder), config)
    if ignored:
        assumed = (*assumed, f"its settings {', '.join(map(_word, ignored[:3]))} mean nothing")

    classes = config.get("num_class_embeds") or 0
    if config.get("class_embed_type") is not None or not isinstance(classes, int) or not 0 <= classes <= MOST_CLASSES:
        raise UserError("its network is conditional on something else than a class number, which is not supported")

    learned = config.get("time_embedding_type") == "learned"
    if learned:
        its_arguments["time"]["between"] = "nearest"
        assumed = (*assumed, "its times are learned vectors, one a step: of every σ the nearest step is taken")

    def build() -> nn.Module:
        return DiffusersUNet(model(**arguments), classes, whole_steps=learned)

    return DiffusersNetwork(
        build,
        arguments,
        _weights(home, budget),
        preconditioning,
        its_arguments,
        (channels, *sides),
        assumed,
    )


def _unet_class() -> Callable[..., nn.Module]:
    if importlib.util.find_spec("diffusers") is None:
        raise UserError("it is a diffusers folder, which needs the package: pip install 'scorescope[diffusers]'")
    try:
        from diffusers import UNet2DModel
    except (ImportError, RuntimeError) as error:  # the package reports what it lacks itself as either
        raise UserError(
            f"the installed diffusers cannot be imported ({str(error)[:150]}): pip install 'scorescope[diffusers]' again"
        ) from error
    model: Callable[..., nn.Module] = UNet2DModel
    return model


def _check_pipeline(pipeline: Mapping[str, Any]) -> None:
    for part, value in pipeline.items():
        if part.startswith("_"):
            continue
        library = value[0] if isinstance(value, list) and value else None
        if part not in ("unet", "scheduler") or library != "diffusers":
            raise UserError(
                f"its pipeline {_word(pipeline.get('_class_name'))} has the part {_word(part)} from {_word(library)}; only"
                " pixel models made of a unet and a scheduler of diffusers itself are supported, and no code of a folder is run"
            )


def _image_shape(config: Mapping[str, Any]) -> tuple[int, tuple[int, int]]:
    size = config.get("sample_size")
    sides = (size, size) if isinstance(size, int) else size
    channels = config.get("in_channels", 3)
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise UserError(f"{UNET} does not say the images' size: write it there as sample_size")
    if not isinstance(channels, int) or config.get("out_channels", 3) not in (channels, 2 * channels):
        raise UserError(
            f"its network makes {_word(config.get('out_channels'))} channels of {_word(channels)}: no denoiser does"
        )
    return channels, (sides[0], sides[1])


def _scheduler(folder: Path) -> dict[str, Any] | None:
    """The scheduler's settings: of the pipeline, or of the pipeline that a UNet folder lies in."""
    places = [folder / "scheduler" / SCHEDULER, folder / SCHEDULER]
    if (folder.parent / PIPELINE).is_file():
        places.append(folder.parent / "scheduler" / SCHEDULER)
    return next((_json(place) for place in places if place.is_file()), None)


def _preconditioning(
    scheduler: dict[str, Any] | None, config: Mapping[str, Any]
) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """Name, arguments and what was assumed."""
    assumed: tuple[str, ...] = ()
    if scheduler is None:
        exploding = config.get("time_embedding_type") == "fourier"
        scheduler = {"_class_name": EXPLODING if exploding else TABLED[0]}
        assumed = (f"without a {SCHEDULER}, its scheduler is the {scheduler['_class_name']} with its usual settings",)
    kind = scheduler.get("_class_name")
    if kind == EXPLODING:
        low, high = _number(scheduler, "sigma_min", 0.01), _number(scheduler, "sigma_max", 1348.0)
        time = {"kind": "sigma", "low": low, "high": high}
        return "score", {"process": "ve", "time": time, "image_range": [0.0, 1.0]}, assumed
    if kind not in TABLED:
        raise UserError(f"its scheduler is a {_word(kind)}; supported are {', '.join((*TABLED, EXPLODING))}")
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise UserError(f"its prediction_type is {_word(prediction)}; supported are {', '.join(PREDICTIONS)}")
    table = [signal for signal in signal_table(scheduler) if signal > 0]
    return PREDICTIONS[prediction], {"time": {"kind": "table", "alphas_cumprod": table}}, assumed


def signal_table(scheduler: Mapping[str, Any]) -> list[float]:
    """ᾱ_t of every step from a scheduler's settings; the last is 0 where they ask for no signal at the end.

    Raises UserError for settings that are not known or make no table.
    """
    steps = scheduler.get("num_train_timesteps", 1000)
    if not isinstance(steps, int) or not 2 <= steps <= MOST_STEPS:
        raise UserError(f"num_train_timesteps is {_word(steps)}; allowed are 2 to {MOST_STEPS:,}")
    betas = _betas(scheduler, steps)
    if not bool(((betas > 1e-12) & (betas < 1)).all()):
        raise UserError("the scheduler's betas do not lie between 0 and 1: copy its scheduler_config.json again")
    signal = (1 - betas).cumprod(0)
    if scheduler.get("rescale_betas_zero_snr"):
        # Lin et al. 2024, arXiv 2305.08891: sqrt(ᾱ) is shifted to end at 0 and stretched to begin where it began.
        root = signal.sqrt()
        signal = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))).square()
    return [float(value) for value in signal]


def _betas(scheduler: Mapping[str, Any], steps: int) -> Tensor:
    trained = scheduler.get("trained_betas")
    if trained is not None:
        if not isinstance(trained, list) or not 2 <= len(trained) <= MOST_STEPS:
            raise UserError(f"trained_betas must be a list of 2 to {MOST_STEPS:,} numbers")
        return torch.tensor([_finite(value, "trained_betas") for value in trained], dtype=torch.float64)
    start, end = _number(scheduler, "beta_start", 1e-4), _number(scheduler, "beta_end", 0.02)
    schedule = scheduler.get("beta_schedule", "linear")
    if schedule == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()
    if schedule == "squaredcos_cap_v2":
        time = torch.arange(steps + 1, dtype=torch.float64) / steps
        signal = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
        return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    if schedule == "sigmoid":
        return torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid() * (end - start) + start
    raise UserError(
        f"its beta_schedule is {_word(schedule)}; supported are linear, scaled_linear, squaredcos_cap_v2 and sigmoid"
    )


def _weights(home: Path, budget: Budget) -> dict[str, StoredTensor]:
    safe, pickled = home / f"{WEIGHTS}.safetensors", home / f"{WEIGHTS}.bin"
    if safe.is_file():
        tensors = read_safetensors(safe)
    elif pickled.is_file():
        tensors = dict(read_torch_state_dict(viewed(pickled), budget).tensors)
    else:
        raise UserError(f"it has neither {safe.name} nor {pickled.name}: download the folder whole, weights included")
    pattern = re.compile(r"(.*\battentions\.\d+)\.(query|key|value|proj_attn)\.(\w+)")
    renamed = {}
    for name, tensor in tensors.items():
        old = pattern.fullmatch(name)
        renamed["unet." + (f"{old[1]}.{_OLD_ATTENTION[old[2]]}.{old[3]}" if old else name)] = tensor
    return renamed


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"it has no {path.name}: download the folder whole")
    if path.stat().st_size > LARGEST_JSON:
        raise UserError(f"{path.name} is larger than {LARGEST_JSON:,} bytes: it is no description of a model")
    try:
        value = from_json(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path.name} is not JSON ({error}): copy or download it again") from error
    if not isinstance(value, dict):
        raise UserError(f"{path.name} is not a JSON object: copy or download it again")
    return value


def _number(settings: Mapping[str, Any], name: str, usual: float) -> float:
    return _finite(settings.get(name, usual), name)


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise UserError(f"the scheduler's {name} is {_word(value)}: it must be a number from 0")
    return float(value)


def _word(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "a number of more than 64 bits"  # which Python may refuse to print
    return repr(value)[:40] if isinstance(value, str | int | float | None) else f"of type {type(value).__name__}"
