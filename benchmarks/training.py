"""Training and inference of every architecture on 28×28 grey images: steps, layouts, compilation, memory.

The *bare* step is what no training can do without, on a batch that is there already: forward, loss, backward, optimizer.
Ours draws images, noise and levels, and averages the weights besides. Both are measured in turn, step by step, so that what
else the machine does falls on both; medians are compared.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks.harness import Machine, Row
from benchmarks.memory import watched
from scorescope.data import ImageSet
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation.memory import reuse_freed_memory
from scorescope.networks import NetworkConfig, architectures, build_network, preconditioning_from
from scorescope.training import Trainer, TrainingConfig
from scorescope.training.usual import usual_training

SHAPE, BATCH = (1, 28, 28), 32
STEPS, WARM_UP = 15, 3
WANTED_RATIO = "≥ 0.91×: at most 1.1 bare steps"
COMPILED = ("unet", "ddpm++", "dit", "u-vit")
INFERENCE = 1024
MEMORY = (1_000, 20_000)


def cases() -> list[Row]:
    """All lines of the table."""
    return list(rows())


def rows(machine: Machine | None = None) -> Iterator[Row]:
    """All lines of the table; the machine's limits do not enter."""
    reuse_freed_memory()
    for name in architectures:
        yield step_cost(name)
    for name in architectures:
        yield layout(name)
    for name in COMPILED:
        yield compilation(name)
    for name in architectures:
        yield throughput(name)
    for name in ("unet", "ddpm++"):
        yield from memory(name)


def step_cost(name: str) -> Row:
    """Our step against the bare one."""
    trainer = _trainer(name)
    ours, bare = in_turn(trainer.step, _bare_step(_trainer(name)))
    size = sum(value.numel() for value in trainer.network.parameters())
    note = f"reference: the bare step; {size / 1e3:.0f}k parameters"
    return Row(f"training step, {name}, batch {BATCH}", ours, bare, wanted=WANTED_RATIO, note=note)


def layout(name: str) -> Row:
    """The bare step with channels last against the usual layout."""
    last, first = (_bare_step(_trainer(name), layout) for layout in (torch.channels_last, torch.contiguous_format))
    ours, plain = in_turn(last, first)
    return Row(f"channels last, {name}", ours, plain, note="bare steps; reference: channels first")


def compilation(name: str) -> Row:
    """Our step with ``torch.compile`` against the one without."""
    compiled, plain = _trainer(name, compile=True), _trainer(name)
    began = time.perf_counter()
    compiled.step()
    seconds = time.perf_counter() - began
    ours, reference = in_turn(compiled.step, plain.step)
    saved = reference - ours
    worth = f"pays after {seconds / saved:,.0f} steps" if saved > 0 else "never pays"
    return Row(
        f"torch.compile, {name}", ours, reference, note=f"first step {seconds:.0f} s, {worth}; reference: not compiled"
    )


def throughput(name: str) -> Row:
    """Seconds to denoise many images, against the same one image at a time."""
    denoiser = _denoiser(name)
    noisy = torch.randn(INFERENCE, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, one = in_turn(lambda: denoiser(noisy, 1.0), lambda: denoiser(noisy[:1], 1.0), steps=3, warm_up=1)
    note = f"{INFERENCE / ours:,.0f} images a second; reference: one at a time, scaled"
    return Row(f"inference, {name}, {INFERENCE} images", ours, one * INFERENCE, note=note)


def memory(name: str) -> Iterator[Row]:
    """Most memory above the start while many images are denoised, each number of them in a process of its own."""
    for count in MEMORY:
        call = [sys.executable, "-m", "benchmarks.training", name, str(count)]
        done = subprocess.run(call, capture_output=True, text=True, check=True)
        megabytes, results, seconds = (float(word) for word in done.stdout.split()[-3:])
        note = f"{megabytes:.0f} MB above the start, {results:.0f} MB of it the results"
        yield Row(f"memory, {name}, {count:,} images", seconds, wanted="no more for more images", note=note)


def in_turn(
    first: Callable[[], object], second: Callable[[], object], *, steps: int = STEPS, warm_up: int = WARM_UP
) -> tuple[float, float]:
    """Median seconds of two tasks that take turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(warm_up + steps):
        for task, found in zip((first, second), seconds, strict=True):
            began = time.perf_counter()
            task()
            if turn >= warm_up:
                found.append(time.perf_counter() - began)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))


def _network(name: str) -> NetworkConfig:
    entry = architectures[name]
    return NetworkConfig(
        architecture=name,
        arguments=entry.arguments_for(SHAPE),
        preconditioning=entry.preconditioning,
        image_shape=SHAPE,
        sigma_range=preconditioning_from(entry.preconditioning).sigma_range,
    )


def _trainer(name: str, **settings: object) -> Trainer:
    pixels = np.random.default_rng(0).integers(0, 256, (10_000, *SHAPE), dtype=np.uint8)
    network = _network(name)
    usual = usual_training(network.preconditioning)
    config = TrainingConfig.model_validate({**usual, "batch": BATCH, **settings})
    return Trainer(build_network(network), network.preconditioning, ImageSet(pixels), config)


def _bare_step(trainer: Trainer, layout: torch.memory_format | None = None) -> Callable[[], None]:
    """Forward, loss, backward and optimizer on one batch, in the layout that we train in or another one."""
    batch = trainer.draw(0)
    noisy = batch.noisy
    if layout is not None:
        trainer.network.to(memory_format=layout)  # type: ignore[call-overload]
        noisy = noisy.contiguous(memory_format=layout)
    weights = trainer.config.objective.weights(batch.sigma)

    def step() -> None:
        trainer.optimizer.zero_grad()
        denoised = trainer.preconditioning.denoise(trainer.network, noisy, batch.sigma)
        error = (denoised - batch.target).square().mean((1, 2, 3))
        (weights * error).mean().backward()  # type: ignore[no-untyped-call]
        trainer.optimizer.step()

    return step


def _denoiser(name: str) -> NetworkDenoiser:
    network = _network(name)
    return NetworkDenoiser(build_network(network), network.preconditioning, SHAPE, network.sigma_range)


def _measure_memory(name: str, count: int) -> None:
    denoiser, shape = _denoiser(name), (count, *SHAPE)
    noisy = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with watched() as peak:
        began = time.perf_counter()
        with torch.no_grad():
            denoised = denoiser(noisy, 1.0)
        seconds = time.perf_counter() - began
    print(peak[0], denoised.nbytes / 1e6, seconds)


if __name__ == "__main__":
    _measure_memory(sys.argv[1], int(sys.argv[2]))
