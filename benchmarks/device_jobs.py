"""Training and `explain` on a device, each in a process of its own that says what it has measured, and is ended in time.

``python -m benchmarks.device_jobs training SIZES`` and ``… explain SIZES STORE FOLDER``; every line that they print is one
measurement, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.harness import Row
from scorescope.data import ImageSet, Provenance, writing_store

if TYPE_CHECKING:
    from scorescope.networks import NetworkConfig

_POLLED_EVERY = 0.2


class JobError(Exception):
    """A process that ended without any measurement."""


@dataclass(frozen=True)
class Sizes:
    """How large the jobs are, and where they run.

    Attributes:
        device: a name.
        shape: of images.
        batch: images of a training step.
        steps: of which the median is taken.
        trained: arguments of the DDPM++ that is trained; those of the paper where there are none.
        explained: of the DDPM++ that is explained; by default about seven million parameters on images of 32×32.
        explained_images: of which it is explained.
        preset: of `explain`.
    """

    device: str = "cuda"
    shape: tuple[int, int, int] = (3, 32, 32)
    batch: int = 256
    steps: int = 8
    trained: dict[str, Any] = field(default_factory=dict)
    explained: dict[str, Any] = field(
        default_factory=lambda: {"model_channels": 64, "channel_mult": [1, 2, 2], "num_blocks": 2}
    )
    explained_images: int = 10_000
    preset: str = "small"

    @classmethod
    def of(cls, words: str) -> Sizes:
        """From what `__str__` gives."""
        given = json.loads(words)
        return cls(**given | {"shape": tuple(given["shape"])})

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def training(sizes: Sizes, seconds: float) -> list[Row]:
    """Steps of DDPM++ in bfloat16: bare, ours, ours compiled."""
    call = [sys.executable, "-m", "benchmarks.device_jobs", "training", str(sizes)]
    return training_rows(_run(call, seconds), sizes)


def training_rows(found: list[dict[str, Any]], sizes: Sizes) -> list[Row]:
    """From what `measure_training` found, as far as it got."""
    rates = {line["case"]: line["seconds"] for line in found}
    rows, bare = [], rates.get("bare")
    for case, wanted in (("not compiled", ""), ("compiled", "≥ 2,000 images/s")):
        if case in rates:
            note = f"{sizes.batch / rates[case]:,.0f} images/s; reference: the bare step, not compiled"
            if case == "compiled":
                note += f"; first step {rates['first compiled']:.0f} s"
            name = f"training step, DDPM++ 56 M, batch {sizes.batch}, bfloat16, {case}"
            rows.append(Row(name, rates[case], bare, wanted=wanted, note=note))
    if rows and "compiled" not in rates:
        rows[-1] = replace(rows[-1], note=f"{rows[-1].note}; it was ended before the compiled step was measured")
    return rows


def explain(images: ImageSet, sizes: Sizes, seconds: float) -> list[Row]:
    """`explain` on a DDPM++ of random weights, and how busy the device was meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        with writing_store(store) as writer:
            writer.append(images.read(0, min(sizes.explained_images, images.stored)))
            writer.provenance = Provenance(source=images.name, colour="colour")
        words = ["explain", str(sizes), str(store), str(Path(folder) / "net")]
        call = [sys.executable, "-m", "benchmarks.device_jobs", *words]
        began = time.perf_counter()
        with busy_share() as busy:
            found = _run(call, seconds)
        ended = any(line["case"] == "explain" for line in found)
        taken = next((line["seconds"] for line in found if line["case"] == "explain"), time.perf_counter() - began)
    note = "" if ended else "ended before it had finished; "
    note += f"device busy {np.mean(busy):.0%} of the time" if busy else "how busy the device was is not known"
    return [
        Row(f"explain, DDPM++ 7 M, {sizes.explained_images:,} images", taken, wanted="≤ 60 s, busy ≥ 50 %", note=note)
    ]


def _run(call: list[str], seconds: float) -> list[dict[str, Any]]:
    """What a process printed until it ended or was ended."""
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            said, complaints = process.communicate(timeout=max(1.0, seconds - 3))
        except subprocess.TimeoutExpired:
            process.kill()
            said, complaints = process.communicate()
    found = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    if not found:
        last = (complaints.strip().splitlines() or ["no word"])[-1]
        raise JobError(f"it ended without a measurement ({last[:200]})")
    return found


@contextmanager
def busy_share() -> Iterator[list[float]]:
    """Shares of the time for which the device was busy, one every fifth of a second; none where nvidia-smi is missing."""
    shares: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        call = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not ended.wait(_POLLED_EVERY):
            try:
                said = subprocess.run(call, capture_output=True, text=True, check=True, timeout=5).stdout
                shares.append(float(said.splitlines()[0]) / 100)
            except (OSError, ValueError, IndexError, subprocess.SubprocessError):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield shares
    finally:
        ended.set()
        watcher.join()


def measure_training(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Seconds of a step, one case after another; images are random."""
    from benchmarks.training import _bare_step
    from scorescope.networks import build_network
    from scorescope.training import TrainingConfig
    from scorescope.training.accelerated import AcceleratedTrainer, open_accelerator
    from scorescope.training.published import PUBLISHED
    from scorescope.training.usual import usual_training

    device = torch.device(sizes.device)
    pixels = np.random.default_rng(0).integers(0, 256, (2_000, *sizes.shape), dtype=np.uint8)
    network = _ddpmpp(sizes.shape, sizes.trained or dict(PUBLISHED["ddpm++"]))

    def trainer(**settings: Any) -> AcceleratedTrainer:
        config = TrainingConfig.model_validate(
            usual_training(network.preconditioning) | {"batch": sizes.batch} | settings
        )
        accelerator = open_accelerator(device, "bf16", None, Path())
        return AcceleratedTrainer(
            build_network(network), network.preconditioning, ImageSet(pixels), config, accelerator
        )

    def median(step: Callable[[], object], warm_up: int) -> float:
        taken = []
        for _ in range(warm_up + sizes.steps):
            began = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - began)
        return float(np.median(taken[warm_up:]))

    def not_compiled() -> Iterator[dict[str, Any]]:
        plain = trainer()
        bare = _bare_step(plain)

        def bare_in_bfloat16() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                bare()

        yield {"case": "bare", "seconds": median(bare_in_bfloat16, 2)}
        yield {"case": "not compiled", "seconds": median(plain.step, 2)}

    yield from not_compiled()  # its network goes before the next one comes
    compiled = trainer(compile=True)
    began = time.perf_counter()
    compiled.step()
    yield {"case": "first compiled", "seconds": time.perf_counter() - began}
    yield {"case": "compiled", "seconds": median(compiled.step, 2)}


def make_network(folder: Path, shape: tuple[int, int, int], arguments: dict[str, Any]) -> None:
    """A checkpoint of a DDPM++ with random weights."""
    from scorescope.networks import build_network, save_network

    config = _ddpmpp(shape, arguments)
    save_network(folder, build_network(config, seed=0), config)


def _ddpmpp(shape: tuple[int, int, int], arguments: dict[str, Any]) -> NetworkConfig:
    from scorescope.networks import NetworkConfig, architectures, preconditioning_from

    entry = architectures["ddpm++"]
    return NetworkConfig(
        architecture="ddpm++",
        arguments=entry.arguments_for(shape) | arguments,
        preconditioning=entry.preconditioning,
        image_shape=shape,
        sigma_range=preconditioning_from(entry.preconditioning).sigma_range,
    )


def _explain(sizes: Sizes, store: str, folder: str) -> None:
    make_network(Path(folder), sizes.shape, sizes.explained)
    out = Path(folder).with_name("run")
    call = [sys.executable, "-m", "scorescope", "explain", "--model", folder, "--data", store]
    call += ["--device", sizes.device, "--preset", sizes.preset]
    print(json.dumps({"case": "started", "seconds": 0.0}), flush=True)
    began = time.perf_counter()
    done = subprocess.run([*call, "--out", str(out)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    print(json.dumps({"case": "explain", "seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "training":
        for line in measure_training(Sizes.of(sys.argv[2])):
            print(json.dumps(line), flush=True)
    else:
        _explain(Sizes.of(sys.argv[2]), *sys.argv[3:])
