"""What a fixed permutation of the pixels does to a network (figure 21): training and measuring on both orders.

Permuting all pixels of all images by one permutation changes no information: the optimal denoiser of the permuted images is
the permuted optimal denoiser, with the same error. What it takes away is that neighbours in the picture are neighbours in the
array, which convolutions rely on and a fully connected network does not know of. Both orders are measured on the same images
with the same noise, each put into its own order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor

from scorescope.data import load_images
from scorescope.data.images import ImageSet
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.lenses.audit.unseen import apart
from scorescope.papers.kadkhodaie2024.bases import as_pictures, basis_at
from scorescope.papers.kadkhodaie2024.class_networks import NetworkSettings, trained_on
from scorescope.papers.kadkhodaie2024.psnr_levels import PsnrLevels
from scorescope.probes.errors import forward_inputs, psnr, squared_error
from scorescope.study.workspace import Workspace
from scorescope.training import TrainingConfig

Floats = npt.NDArray[np.float64]
ORIGINAL, PERMUTED = "original", "permuted"
ORDERS = (ORIGINAL, PERMUTED)
CONVOLUTIONAL, CONNECTED = "UNet", "MLP"
TRAINED_ENOUGH, SIDE_ENOUGH = 1000, 20


class ConnectedSettings(NetworkSettings):
    """A network that does not know which pixels are neighbours; it is trained on the other's noise levels and loss."""

    architecture: str = "mlp"
    arguments: dict[str, Any] = pydantic.Field({"width": 512, "depth": 3})
    training: TrainingConfig = TrainingConfig(steps=6000, batch=64, learning_rate=1e-3)


class PermutedConfig(PsnrLevels):
    """Settings of the study of permuted pixels.

    Attributes:
        data: a store (of faces, say), or the name of a built-in data set.
        images: training images.
        test_images: images that PSNRs are averaged over: the data's own test images, or else others of its images.
        convolutional: the network that knows which pixels are neighbours.
        connected: the network that does not, a control.
        eigen_sigma: noise level at which Jacobians are decomposed.
        eigen_images: images that eigenvalues are averaged over.
        shown: eigenvectors that are shown, counted from 1.
        seed: of the permutation, choices and noise.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    data: str = "fashion-mnist"
    images: int = pydantic.Field(10_000, ge=1)
    test_images: int = pydantic.Field(200, ge=2)
    convolutional: NetworkSettings = NetworkSettings()
    connected: ConnectedSettings = ConnectedSettings()
    levels: int = pydantic.Field(9, ge=2)
    psnr_range: tuple[float, float] = (4.0, 28.0)
    eigen_sigma: float = pydantic.Field(0.3, gt=0)
    eigen_images: int = pydantic.Field(4, ge=1)
    shown: tuple[pydantic.PositiveInt, ...] = (1, 2, 3, 5, 9, 17)
    seed: int = pydantic.Field(0, ge=0)


class Permutation:
    """One fixed order of the pixels of images (…, H, W), the same for all channels.

    Args:
        sides: (H, W).
        seed: of the order.
    """

    def __init__(self, sides: tuple[int, int], seed: int) -> None:
        self.sides = sides
        self.order = np.random.default_rng(seed).permutation(sides[0] * sides[1])
        self.back = np.argsort(self.order)

    def of(self, images: Tensor) -> Tensor:
        """Images in the new order."""
        return self._taken(images, self.order)

    def undone(self, images: Tensor) -> Tensor:
        """Images put back into their own order."""
        return self._taken(images, self.back)

    def of_set(self, images: ImageSet) -> ImageSet:
        """A whole set in the new order, in memory. Mirror images are not taken along: they would be other images."""
        pixels = images.read(0, images.stored)
        taken = pixels.reshape(*pixels.shape[:2], -1)[..., self.order].reshape(pixels.shape)
        return ImageSet(np.ascontiguousarray(taken), name=f"{images.name}, pixels permuted")

    def _taken(self, images: Tensor, order: npt.NDArray[np.int64]) -> Tensor:
        return images.flatten(-2)[..., torch.from_numpy(order).to(images.device)].reshape(images.shape)


@dataclass(frozen=True)
class Measured:
    """What was measured on one network.

    Attributes:
        psnr: output PSNR, (S, B) dB.
        eigenvalues: (E, d) decreasing.
        asymmetry: (E,).
        pictures: noisy, denoised and eigenvectors at the first image, in the order of the pixels of the picture,
            (2 + K, C, H, W).
    """

    psnr: Floats
    eigenvalues: Floats
    asymmetry: Floats
    pictures: npt.NDArray[np.floating]

    def kept(self) -> Floats:
        """How many directions are kept as much as the first, ``Σ max(λ_k, 0) / λ_1``, (E,)."""
        return np.asarray(self.eigenvalues.clip(0).sum(1) / self.eigenvalues[:, 0], dtype=np.float64)


@dataclass(frozen=True)
class Both:
    """A network on the images, and another of its kind on the permuted ones.

    Attributes:
        original: on the images.
        permuted: on the permuted images.
    """

    original: Measured
    permuted: Measured

    @property
    def loss(self) -> Floats:
        """PSNR lost by the permutation, (S, B) dB."""
        return self.original.psnr - self.permuted.psnr


@dataclass(frozen=True)
class Data:
    """The images of the study.

    Attributes:
        train: training images by order.
        clean: test images, (B, C, H, W), in their own order.
        permutation: between the orders.
        name: of the data.
        notes: what was left out of the test images, in sentences.
    """

    train: Mapping[str, ImageSet]
    clean: Tensor
    permutation: Permutation
    name: str
    notes: tuple[str, ...] = ()


def load(config: PermutedConfig) -> Data:
    """Training images in both orders, and test images.

    Raises:
        UserError: fewer images than asked for; eigenvectors that images of this size do not have.
    """
    images, notes = apart(load_images(config.data))
    spare = 0 if images.test is not None else config.test_images
    total = images.train.stored
    if config.images + spare > total:
        others = f", and {spare} others to measure on," if spare else ""
        raise UserError(
            f"{config.images} training images{others} asked for, {images.train.name} has {total}: set images to at most"
            f" {max(total - spare, 0)}"
        )
    order = np.random.default_rng(config.seed).permutation(total)
    train = images.train.subset(order[: config.images])
    if images.test is not None:
        chosen = np.random.default_rng(config.seed).permutation(images.test.stored)
        clean = images.test.tensor(np.resize(chosen, config.test_images))
    else:
        clean = images.train.tensor(order[config.images : config.images + spare])
    _, height, width = train.image_shape
    values = int(np.prod(train.image_shape))
    if max(config.shown) > values:
        raise UserError(f"images {train.image_shape} have {values} eigenvectors, number {max(config.shown)} asked for")
    permutation = Permutation((height, width), config.seed)
    return Data({ORIGINAL: train, PERMUTED: permutation.of_set(train)}, clean, permutation, images.train.name, notes)


def measure(config: PermutedConfig, data: Data, workspace: Workspace) -> dict[str, Both]:
    """Train both kinds of networks on both orders, and measure all four."""
    found = {}
    for kind, settings in ((CONVOLUTIONAL, config.convolutional), (CONNECTED, config.connected)):
        networks = trained_on(data.train, settings, workspace)
        found[kind] = Both(*(_measured(kind, order, networks[order], data, config, workspace) for order in ORDERS))
    return found


def _measured(
    kind: str, order: str, network: NetworkDenoiser, data: Data, config: PermutedConfig, workspace: Workspace
) -> Measured:
    curve = workspace.computed(f"{kind}/{order}/psnr", lambda: _curve(network, order, data, config, workspace.device))
    basis = workspace.computed(f"{kind}/{order}/basis", lambda: _basis(network, order, data, config, workspace.device))
    return Measured(psnr=curve, **basis)


def _curve(network: NetworkDenoiser, order: str, data: Data, config: PermutedConfig, device: torch.device) -> Floats:
    rows = []
    arranged = data.permutation.of if order == PERMUTED else torch.clone
    with torch.no_grad():
        for noisy, sigma in zip(forward_inputs(data.clean, config.sigmas, config.seed), config.sigmas, strict=True):
            denoised = network(arranged(noisy).to(device), sigma).cpu()
            rows.append(psnr(squared_error(denoised, arranged(data.clean))).numpy())
    return np.stack(rows)


def _basis(
    network: NetworkDenoiser, order: str, data: Data, config: PermutedConfig, device: torch.device
) -> dict[str, Any]:
    """Eigenvalues at a few noisy test images; eigenvectors at the first, put back into the picture's order."""
    clean = data.clean[: config.eigen_images]
    (noisy,) = forward_inputs(clean, [config.eigen_sigma], config.seed + 1)
    arranged = data.permutation.of(noisy) if order == PERMUTED else noisy
    bases = [basis_at(network, image.to(device), config.eigen_sigma) for image in arranged]
    first = bases[0]
    shown = as_pictures(first.vectors[:, [k - 1 for k in config.shown]], network.image_shape)
    images = torch.cat([arranged[:1], first.denoised.cpu()[None], torch.from_numpy(shown)])
    if order == PERMUTED:
        images = data.permutation.undone(images)
    return {
        "eigenvalues": np.stack([basis.values.cpu().numpy() for basis in bases]),
        "asymmetry": np.array([basis.asymmetry for basis in bases]),
        "pictures": images.numpy(),
    }


def too_small(config: PermutedConfig, data: Data) -> str:
    """Why a run decides nothing; empty if it does."""
    steps = min(config.convolutional.training.steps, config.connected.training.steps)
    if steps < TRAINED_ENOUGH:
        return f"networks trained for {steps} steps, {TRAINED_ENOUGH} are the least to judge by"
    if min(data.permutation.sides) < SIDE_ENOUGH:
        return f"it takes images of {SIDE_ENOUGH}×{SIDE_ENOUGH} pixels to tell"
    return ""
