"""The posterior engine on an accelerator, in PyTorch: the same posteriors, formulas and exactness as on the processor.

`device_engine` gives the engine of a training set on a device. All its posteriors share one store of bytes there
(`store`), kept on the device if it fits and streamed to it if not; arguments and results are tensors on the device.

- `whole_image`: logits are exact products of bytes, by kernels (`two_passes`) or in fixed point (`digits`).
- `windows`, `masks`: sums over parts of images (`regions`) that never cancel, in two passes (`local`) or one (`centred`).
- `equivariant`: windows from every place of training images; products of bytes again.
- `attention`: windows, masks and windows from every place on matrix units, where the device has them and Triton.

Nothing here switches TF32 on or depends on it where logits are formed from bytes; matrix products of floats follow
`torch.backends` as they find it. Under several processes each goes over its own part and the sums are merged
(`reductions`).
"""

from __future__ import annotations

import weakref

import torch

from scorescope.data.images import ImageSet
from scorescope.posterior.device.equivariant import DeviceEquivariantPosterior
from scorescope.posterior.device.masks import DeviceCompositePosterior, DeviceEntryPosterior
from scorescope.posterior.device.regions import MaskMatrix
from scorescope.posterior.device.store import WORK_BYTES, DeviceStore
from scorescope.posterior.device.whole_image import DeviceWholeImagePosterior
from scorescope.posterior.device.windows import DeviceWindowPosterior

__all__ = ["DeviceEngine", "DeviceStore", "MaskMatrix", "device_engine", "has_device_engine"]


class DeviceEngine:
    """Every posterior under one training set on one device.

    Args:
        images: the training set.
        device: where noisy images are and posteriors are computed.
        resident_bytes: most bytes of training images to keep on the device; a share of its free memory by default.
        work_bytes: what intermediate results of a pass may take, in bytes.
        kept_bytes: what a pass may keep for the next, in bytes; a share of the free memory by default.

    Attributes:
        store: the training set on the device.
        whole_image: posteriors over whole images.
        windows: posteriors over square windows.
        composites: posteriors over masks, put together where they overlap.
        entries: posteriors over masks, one a pixel-channel.
        equivariant: posteriors over windows from every place.
    """

    def __init__(
        self,
        images: ImageSet,
        device: torch.device | str,
        *,
        resident_bytes: int | None = None,
        work_bytes: int = WORK_BYTES,
        kept_bytes: int | None = None,
    ) -> None:
        self.store = DeviceStore(images, device, resident_bytes=resident_bytes, work_bytes=work_bytes)
        self.whole_image = DeviceWholeImagePosterior(self.store)
        self.windows = DeviceWindowPosterior(self.store, kept_bytes=kept_bytes)
        self.composites = DeviceCompositePosterior(self.store, kept_bytes=kept_bytes)
        self.entries = DeviceEntryPosterior(self.store)
        self.equivariant = DeviceEquivariantPosterior(self.store)


# Engines live as long as somebody holds them, and an engine holds its images: an id cannot be another set's.
_engines: weakref.WeakValueDictionary[tuple[int, torch.device], DeviceEngine] = weakref.WeakValueDictionary()


def has_device_engine(device: torch.device) -> bool:
    """Whether posteriors of noisy images on this device are computed there, and not on the processor.

    They are where PyTorch's CUDA interface drives the device (NVIDIA, and AMD through ROCm); logits need float64, which
    Apple's devices do not have.
    """
    return device.type == "cuda"


def device_engine(images: ImageSet, device: torch.device | str) -> DeviceEngine:
    """The engine of a training set on a device, shared by all who hold it: its bytes are there once.

    Args:
        images: the training set.
        device: any device with float64, the processor too; a device without a number is the current one.
    """
    where = torch.device(device)
    if where == torch.device("cuda"):
        where = torch.device("cuda", torch.cuda.current_device())
    engine = _engines.get((id(images), where))
    if engine is None:
        engine = _engines[id(images), where] = DeviceEngine(images, where)
    return engine
