"""Verdicts on networks as the number N of training images grows: memorizes, in transition, generalizes, without a step back.

*The demo's networks*, those that come with the package: five seeds of the samples and of the unseen images they are compared
with. *Small networks*, trained here: six sizes and five seeds, of the training images, the initial weights and everything
else, on Fashion-MNIST averaged down to 14×14 pixels with a black border, so that thirty of them take minutes.

``python -m benchmarks audit-networks``; results are kept in ``benchmarks/results/audit-networks.json``.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scorescope.data import DataSplit, ImageSet, cache_folder, load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.jobs.demo import Demo, DemoConfig
from scorescope.lenses.memorization import measure_memorization
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import Trained
from scorescope.networks import NetworkConfig, architectures
from scorescope.study.pairs import choose_pair, train_pair
from scorescope.study.workspace import open_run
from scorescope.training import Selection, TrainingConfig, TrainingJob, train_networks

SEEDS = range(5)
DEMO_SIZES = (10, 100, 1000, 10000)
DATA = "fashion-mnist"
STEPS = {10: 500, 30: 700, 100: 1000, 300: 1200, 1000: 1600, 10000: 2500}
TRAINING = TrainingConfig(batch=32, learning_rate=3e-3, ema_decay=0.99)
ARCHITECTURE, ARGUMENTS = "unet", {"width": 16, "blocks": 2}
MEASURED = MeasurementConfig(psnr_levels=5, psnr_images=512, samples=200, more_samples=600)
ORDER = ("memorizes", "in transition", "generalizes")
FILE = Path(__file__).parent / "results" / "audit-networks.json"


def keep() -> str:
    """Measure everything, write the file after every row, and say it as text."""
    rows: list[dict[str, Any]] = []
    for part in (of_the_demo, small):
        for row in part():
            rows.append(row)
            print(json.dumps(row), flush=True)
            FILE.write_text(json.dumps(rows, indent=1) + "\n")
    return text(rows)


def of_the_demo(seeds: Sequence[int] = SEEDS) -> Iterator[dict[str, Any]]:
    """The pairs of the demo, each measured as the demo does, with five seeds of the samples and of the unseen images."""
    config = DemoConfig(**Demo.presets["pretrained"])
    images = load_images(config.data)
    for size in DEMO_SIZES:
        pair = choose_pair(images.train, size, config.seed)
        with tempfile.TemporaryDirectory() as folder, open_run(Path(folder) / "run", Demo.name, {}) as workspace:
            networks = train_pair(pair, config.width, config.training_of(size), workspace)
        for network in networks.values():
            network.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        subject = Trained(networks, pair.training, images.test)
        for seed in seeds:
            settings = config.measurement.model_copy(update={"seed": seed})
            yield _measured("of the demo", size, seed, subject, settings)


def small() -> Iterator[dict[str, Any]]:
    """Networks of six sizes and five seeds, each trained once and kept in the cache folder."""
    images = reduced()
    assert images.test is not None
    entry = architectures[ARCHITECTURE]
    network = NetworkConfig(
        architecture=ARCHITECTURE,
        arguments=entry.arguments_for(images.train.image_shape) | ARGUMENTS,
        preconditioning=entry.preconditioning,
        image_shape=images.train.image_shape,
        sigma_range=TRAINING.objective.sigma_range,
    )
    for seed in SEEDS:
        for size, steps in STEPS.items():
            selection = Selection(total=images.train.stored, size=size, count=1, share=0, seed=seed)
            training = selection.choose(images.train)
            how = TRAINING.model_copy(update={"steps": steps, "seed": seed})
            folder = cache_folder() / "benchmarks" / "audit-networks" / f"{size}-{steps}-{seed}"
            started = time.process_time()
            train_networks([TrainingJob(folder, network, training, how, selection)], description=folder.name)
            trained = time.process_time() - started
            subject = Trained({"A": NetworkDenoiser.open(folder, "A")}, {"A": training}, images.test)
            settings = MEASURED.model_copy(update={"seed": seed})
            row = _measured("small", size, seed, subject, settings)
            yield row | {"steps": steps, "processor seconds of training": round(trained, 1)}


def reduced() -> DataSplit:
    """Fashion-MNIST averaged down to 14×14 pixels, with a border of one black pixel."""
    split = load_images(DATA)

    def one(images: ImageSet) -> ImageSet:
        pixels = images.read(0, images.stored).astype(np.float32)
        count, channels, height, width = pixels.shape
        means = pixels.reshape(count, channels, height // 2, 2, width // 2, 2).mean((3, 5))
        framed = np.pad(means, ((0, 0), (0, 0), (1, 1), (1, 1)))
        return ImageSet(framed.round().astype(np.uint8), name=f"{images.name} at 14×14")

    assert split.test is not None
    return DataSplit(one(split.train), one(split.test))


def _measured(networks: str, size: int, seed: int, subject: Trained, settings: MeasurementConfig) -> dict[str, Any]:
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder, open_run(Path(folder) / "run", Demo.name, {}) as workspace:
        found = measure_memorization(f"N = {size}", subject, settings, workspace)
    row: dict[str, Any] = {"networks": networks, "N": size, "seed": seed, "verdict": found.ruling.state}
    row |= {"bound": found.ruling.bound, "because": found.ruling.because}
    row |= {"samples": found.evidence.samples, "looks": found.audited.looks}
    intervals = {"copies": found.evidence.copied, "leakage": found.evidence.leakage, "gap (dB)": found.evidence.gap}
    for name, one in intervals.items():
        row[name] = None if one is None else [round(value, 4) for value in (one.value, one.low, one.high)]
    row["listed"] = found.evidence.listed[0]
    row["processor seconds"] = round(time.process_time() - started, 1)
    return row


def steps_back(words: Sequence[str]) -> int:
    """How often a verdict is followed by an earlier one as N grows; undecided ones are passed over."""
    places = [ORDER.index(word) for word in words if word in ORDER]
    return sum(later < earlier for earlier, later in itertools.pairwise(places))


def text(rows: list[dict[str, Any]]) -> str:
    """One line a kind of networks and N: how often each verdict was given, and means; and how often one stepped back."""
    lines = ["| networks | N | verdicts | copies | leakage | gap (dB) |", "| --- | --- | --- | --- | --- | --- |"]
    for kind in dict.fromkeys(row["networks"] for row in rows):
        mine = [row for row in rows if row["networks"] == kind]
        for size in dict.fromkeys(row["N"] for row in mine):
            group = [row for row in mine if row["N"] == size]
            words = [row["verdict"] for row in group]
            said = ", ".join(f"{words.count(word)} × {word}" for word in dict.fromkeys(words))
            numbers = (
                f"{np.mean([row[name][0] for row in group]):.2f}"
                f" ({min(row[name][0] for row in group):.2f} to {max(row[name][0] for row in group):.2f})"
                for name in ("copies", "leakage", "gap (dB)")
            )
            lines.append("| " + " | ".join([kind, f"{size:,}", said, *numbers]) + " |")
        seeds = sorted({row["seed"] for row in mine})
        back = sum(steps_back([row["verdict"] for row in mine if row["seed"] == seed]) for seed in seeds)
        lines += ["", f"Networks {kind}: {back} steps back in {len(seeds)} seeds.", ""]
    return "\n".join(lines)
