"""The networks that attribution is measured on: 64 on random halves of 2,000 images, and what each makes of 64 test points.

``nice python -m benchmarks.attribution_networks`` trains what is not trained yet, one after the other on one core, and
writes each network's losses as soon as it is done; ``keep`` after it gathers them into ``results/attribution-losses.npz``.

Fashion-MNIST, its images of 28×28 brought to 14×14 by means of 2×2 pixels. All networks share initial weights, order, noise
levels and noise: a half keeps the places of all 2,000 images in that order, and the places of those left out are taken by
those kept, each once more, so that two networks differ by their images and by nothing else. Every half is trained on from
up to three seeds: losses of those that are complete are averaged (two are committed), and how well one seed's tell another's
says how much of them is the images' doing.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data import ImageSet, load_images
from scorescope.data.images import to_float, to_uint8
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import new_file
from scorescope.networks.unet import UNet
from scorescope.noise import edm_sigmas
from scorescope.probes.errors import forward_inputs, reverse_inputs, squared_error
from scorescope.training import TrainingConfig
from scorescope.training.loop import Trainer

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "attribution"
FILE = Path(__file__).parent / "results" / "attribution-losses.npz"

IMAGES, HALVES, POINTS, SAMPLES = 2000, 64, 64, 32
SEEDS = ("half", "again", "third")  # what networks of seed 0, 1 and 2 are called
SIDE = 14
WIDTH, STEPS, BATCH = 16, 800, 16
SIGMAS, NOISES, NOISE_SEED = (0.1, 0.25, 0.5, 1.0, 2.0), 8, 1000
HIGH, LOW, FLOW_STEPS = 2.0, 0.03, 18
TRAINING = TrainingConfig(steps=STEPS, batch=BATCH, learning_rate=3e-3, ema_decay=0.99, seed=0)
Entries = npt.NDArray[np.int64]


@functools.cache
def training_images() -> ImageSet:
    """The 2,000: drawn from the training images of Fashion-MNIST."""
    chosen = np.random.default_rng(0).permutation(60_000)[:IMAGES]
    return ImageSet(_smaller(load_images("fashion-mnist").train.take(np.sort(chosen))), name="Fashion-MNIST 14×14")


@functools.cache
def unseen_images() -> Tensor:
    """Test images that nothing is trained on, (32, 1, 14, 14)."""
    test = load_images("fashion-mnist").test
    assert test is not None, "Fashion-MNIST has test images"
    return to_float(_smaller(test.take(np.random.default_rng(1).permutation(10_000)[: POINTS - SAMPLES])))


def _smaller(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    count, channels, height, width = pixels.shape
    blocks = pixels.reshape(count, channels, height // 2, 2, width // 2, 2).astype(np.float64)
    return np.rint(blocks.mean((3, 5))).astype(np.uint8)


def halves() -> npt.NDArray[np.bool_]:
    """Which of the images are in which half, (64, 2000), 1,000 in each."""
    random = np.random.default_rng(2)
    found = np.zeros((HALVES, IMAGES), dtype=np.bool_)
    for half in found:
        half[random.permutation(IMAGES)[: IMAGES // 2]] = True
    return found


def places_taken(kept: npt.NDArray[np.bool_], seed: int) -> Entries:
    """The 2,000 entries that a network trains on: kept images at their own places, others of them where one is left out."""
    entries, random = np.arange(len(kept)), np.random.default_rng((3, seed))
    missing, members = np.flatnonzero(~kept), np.flatnonzero(kept)
    entries[missing] = random.permutation(members)[: len(missing)]
    return entries


def trained(entries: Entries, seed: int) -> NetworkDenoiser:
    """A network trained on some entries of the images."""
    torch.manual_seed(seed)
    network = UNet(1, WIDTH, 1)
    config = TRAINING.model_copy(update={"seed": seed})
    trainer = Trainer(network, "blind-residual", training_images().subset(entries), config)
    for _ in range(STEPS):
        trainer.step()
    return denoiser_of(trainer.average)


def denoiser_of(network: torch.nn.Module) -> NetworkDenoiser:
    """A network of this design as a denoiser."""
    return NetworkDenoiser(network, "blind-residual", (1, SIDE, SIDE), (0.0, HIGH))


def sample(denoiser: NetworkDenoiser) -> Tensor:
    """Its samples from the shared noise, (32, 1, 14, 14), by Heun's method."""
    centre = float(training_images().tensor().mean())
    sigmas = edm_sigmas(FLOW_STEPS, LOW, HIGH).tolist()
    return reverse_inputs(denoiser, denoiser.image_shape, sigmas, SAMPLES, 0, centre)[-1].denoised


@functools.cache
def points() -> Tensor:
    """The 64 test points: 32 samples of the network trained on all images, in 8-bit steps, then 32 unseen images."""
    samples = to_float(to_uint8(sample(network_of("full"))))
    return torch.cat([samples, unseen_images()])


def noisy_points(sigma: float, count: int = NOISES) -> Tensor:
    """The test points with the noise that all networks and methods see, (count, 64, 1, 14, 14)."""
    seed = NOISE_SEED + round(1000 * sigma)
    return torch.stack(forward_inputs(points(), [sigma] * count, seed))


def losses(denoiser: NetworkDenoiser) -> npt.NDArray[np.float32]:
    """Mean squared error a pixel at every level of every test point, mean over noises, (levels, points)."""
    rows = []
    with torch.no_grad():
        for sigma in SIGMAS:
            errors = [squared_error(denoiser(noisy, sigma), points()) for noisy in noisy_points(sigma)]
            rows.append(torch.stack(errors).mean(0).numpy())
    return np.stack(rows).astype(np.float32)


def design() -> dict[str, tuple[Entries, int]]:
    """Every network by name, in the order of training: its entries and its seed."""
    everything = np.arange(IMAGES)
    networks = {"full": (everything, 0), "full again": (everything, 1)}
    for seed, word in enumerate(SEEDS):
        for place, half in enumerate(halves()):
            networks[f"{word} {place:02d}"] = places_taken(half, place), seed
    return networks


def folder_of(name: str) -> Path:
    """Where a network's weights and losses are kept."""
    return RUNS / name.replace(" ", "-")


def network_of(name: str, entries: Entries | None = None, seed: int = 0) -> NetworkDenoiser:
    """A network by name, trained now if it has not been."""
    path = folder_of(name) / "weights.npz"
    if not path.is_file():
        if entries is None:
            entries, seed = design()[name]
        started = time.process_time()
        done = trained(entries, seed)
        state = {key: value.numpy() for key, value in done.network.state_dict().items()}
        _write(path, state | {"processor seconds": np.array(time.process_time() - started)})
    network = UNet(1, WIDTH, 1)
    kept = dict(np.load(path))
    kept.pop("processor seconds")
    network.load_state_dict({key: torch.from_numpy(value) for key, value in kept.items()})
    return denoiser_of(network)


def losses_of(name: str) -> npt.NDArray[np.float32]:
    """The losses of a network by name, measured now if they have not been, (levels, points)."""
    path = folder_of(name) / "losses.npz"
    if not path.is_file():
        _write(path, {"losses": losses(network_of(name))})
    return np.asarray(np.load(path)["losses"])


def keep() -> str:
    """Gather subsets, points and losses into the committed file: of the halves, and of the seeds, that are complete."""
    done = {name for name in design() if (folder_of(name) / "losses.npz").is_file()}
    words = [word for word in SEEDS if f"{word} {HALVES - 1:02d}" in done] or [SEEDS[0]]
    chosen = [place for place in range(HALVES) if all(f"{word} {place:02d}" in done for word in words)]
    losses_by_seed = [[losses_of(f"{word} {place:02d}") for place in chosen] for word in words]
    names = ["full", "full again", *(f"{word} {place:02d}" for word in words for place in chosen)]
    again = [row for row, place in enumerate(chosen) if f"{SEEDS[1]} {place:02d}" in done]
    seconds = [float(np.load(folder_of(name) / "weights.npz")["processor seconds"]) for name in names]
    _write(
        FILE,
        {
            "sigmas": np.array(SIGMAS),
            "halves": np.packbits(halves()[chosen], axis=1),
            "points": to_uint8(points()),
            "losses": np.array(losses_by_seed),
            "again": np.array(again, dtype=np.int64),
            "losses again": np.array([losses_of(f"{SEEDS[1]} {chosen[row]:02d}") for row in again]),
            "losses full": np.stack([losses_of("full"), losses_of("full again")]),
            "processor seconds": np.array(seconds),
        },
    )
    return f"{len(chosen)} halves, {len(words)} networks each, {np.mean(seconds):.1f} processor seconds each: {FILE}"


def _write(path: Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, replace=True) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def main() -> None:
    """Train what is missing, or gather what is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attribution_networks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["train", "keep"], default="train")
    if parser.parse_args().what == "keep":
        print(keep())
        return
    torch.set_num_threads(1)
    for name in design():
        started = time.process_time()
        done = losses_of(name)
        print(f"{name}: {time.process_time() - started:.1f} s, mean loss {done.mean(1).round(5).tolist()}", flush=True)


if __name__ == "__main__":
    main()
