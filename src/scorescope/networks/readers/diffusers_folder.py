"""A local ``diffusers`` folder: a pipeline (``model_index.json``) or a UNet (``config.json`` and its weights).

Pixel models whose network is a ``UNet2DModel``: DDPM (Ho et al. 2020, arXiv 2006.11239), DDIM (Song et al. 2021, arXiv
2010.02502), score-SDE VE (Song et al. 2021, arXiv 2011.13456), consistency models, flows. The class comes from the installed
package; its arguments, the scheduler's and the weights are read here, from files that hold numbers, be they in one piece, in
shards, or a variant of half precision. Nothing is ever looked up on a hub, and no code is taken from the folder. The scheduler
becomes a preconditioning, see `diffusers_schedulers`.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json
from torch import Tensor, nn

from scorescope.foundation import UserError
from scorescope.foundation.inert.file_view import viewed
from scorescope.foundation.inert.restricted_unpickler import Budget
from scorescope.foundation.inert.stored_tensor import StoredTensor
from scorescope.networks.labels import Classes
from scorescope.networks.readers.diffusers_schedulers import EXPLODING, USUAL_SCHEDULER, use_of_scheduler, word
from scorescope.networks.readers.state_dict import read_safetensors, read_torch_state_dict

PIPELINE, UNET, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model"
LARGEST_JSON = 16 << 20
MOST_CLASSES, MOST_SHARDS = 1_000_000, 1_000
AUTOENCODERS = ("vae", "vqvae", "vqmodel", "movq")

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
            f"its network is a {word(config['_class_name'])}; only pixel models with a UNet2DModel (DDPM, DDIM, score-SDE VE)"
            " are supported"
        )
    model = _unet_class()
    known = inspect.signature(model.__init__).parameters
    arguments = {name: value for name, value in config.items() if name in known}
    ignored = [name for name in config if name not in known and not name.startswith("_")]
    channels, sides = _image_shape(config)
    scheduler, assumed = _scheduler(folder, pipeline, config)
    preconditioning, its_arguments, said = use_of_scheduler(scheduler)
    assumed = (*assumed, *said)
    if ignored:
        assumed = (*assumed, f"its settings {', '.join(map(word, ignored[:3]))} mean nothing")

    classes = config.get("num_class_embeds") or 0
    if config.get("class_embed_type") is not None or not isinstance(classes, int) or not 0 <= classes <= MOST_CLASSES:
        raise UserError("its network is conditional on something else than a class number, which is not supported")

    learned = config.get("time_embedding_type") == "learned"
    if learned:
        its_arguments["time"]["between"] = "nearest"
        assumed = (*assumed, "its times are learned vectors, one a step: of every σ the nearest step is taken")

    def build() -> nn.Module:
        return DiffusersUNet(model(**arguments), classes, whole_steps=learned)

    tensors, said_of_file = _weights(home, budget)
    return DiffusersNetwork(
        build,
        arguments,
        tensors,
        preconditioning,
        its_arguments,
        (channels, *sides),
        (*assumed, *said_of_file),
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
        if part in AUTOENCODERS or part.startswith("text_encoder"):
            what = "latents of an autoencoder, not images" if part in AUTOENCODERS else "images that texts describe"
            raise UserError(
                f"its pipeline {word(pipeline.get('_class_name'))} has the part {word(part)}: its network denoises {what},"
                " which is not supported; give a pixel model without it"
            )
        if part not in ("unet", "scheduler") or library != "diffusers":
            raise UserError(
                f"its pipeline {word(pipeline.get('_class_name'))} has the part {word(part)} from {word(library)}; only"
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
            f"its network makes {word(config.get('out_channels'))} channels of {word(channels)}: no denoiser does"
        )
    return channels, (sides[0], sides[1])


def _scheduler(
    folder: Path, pipeline: dict[str, Any] | None, config: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The scheduler's settings, of the pipeline or of the one that a UNet folder lies in, and what was assumed."""
    places = [folder / "scheduler" / SCHEDULER, folder / SCHEDULER]
    if (folder.parent / PIPELINE).is_file():
        places.append(folder.parent / "scheduler" / SCHEDULER)
    found = next((place for place in places if place.is_file()), None)
    if found is not None:
        return _json(found), ()
    if pipeline is not None:
        raise UserError(
            f"its pipeline has no scheduler/{SCHEDULER}, which says what the network predicts: download the folder whole"
        )
    kind = EXPLODING if config.get("time_embedding_type") == "fourier" else USUAL_SCHEDULER
    return {"_class_name": kind}, (f"without a {SCHEDULER}, its scheduler is the {kind} with its usual settings",)


def _weights(home: Path, budget: Budget) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """The weights under the package's present names, and what is to be said of their file."""
    files, said = _weight_files(home)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        if file.suffix == ".safetensors":
            tensors |= read_safetensors(file)
        else:
            tensors |= read_torch_state_dict(viewed(file), budget).tensors
    pattern = re.compile(r"(.*\battentions\.\d+)\.(query|key|value|proj_attn)\.(\w+)")
    renamed = {}
    for name, tensor in tensors.items():
        old = pattern.fullmatch(name)
        renamed["unet." + (f"{old[1]}.{_OLD_ATTENTION[old[2]]}.{old[3]}" if old else name)] = tensor
    return renamed, said


def _weight_files(home: Path) -> tuple[list[Path], tuple[str, ...]]:
    """The files that hold all weights: whole before shards, safetensors before pickles, full precision before variants."""
    held = [path.name for path in home.iterdir() if path.is_file() and path.name.startswith(f"{WEIGHTS}.")]
    for kind in ("safetensors", "bin"):
        whole = re.compile(rf"{WEIGHTS}(?:\.(?P<variant>[\w-]+))?\.{kind}")
        index = re.compile(rf"{WEIGHTS}\.{kind}\.index(?:\.(?P<variant>[\w-]+))?\.json")
        for variant_too in (False, True):
            for name in sorted(held):
                match = whole.fullmatch(name) or index.fullmatch(name)
                if match is None or bool(match["variant"]) != variant_too:
                    continue
                if match["variant"] and re.fullmatch(r"\d+-of-\d+", match["variant"]):
                    continue
                said = (f"the {match['variant']} variant of its weights",) if match["variant"] else ()
                return (_shards(home / name) if name.endswith(".json") else [home / name]), said
    raise UserError(
        f"it has neither {WEIGHTS}.safetensors nor {WEIGHTS}.bin, nor an index of shards or a variant (fp16) of them:"
        " download the folder whole, weights included"
    )


def _shards(index: Path) -> list[Path]:
    places = _json(index).get("weight_map")
    names = sorted({str(name) for name in places.values()}) if isinstance(places, dict) else []
    if not 0 < len(names) <= MOST_SHARDS or any(Path(name).name != name for name in names):
        raise UserError(f"{index.name} lists no shards beside it: copy or download it again")
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of its {len(names)} shards are missing ({missing[0][:80]}): download the folder whole"
        )
    return [index.parent / name for name in names]


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
