"""The images that benchmarks run on: CIFAR-10 where its archive is at hand, else as many generated ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scorescope.data import ImageStore, Provenance, cache_folder, import_images, open_source, writing_store
from scorescope.foundation.progress import track

ARCHIVE = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10-train.zip"
COUNT, SHAPE = 50_000, (3, 32, 32)


def fifty_thousand() -> ImageStore:
    """50,000 images of 3×32×32, made once and kept in the cache folder."""
    folder = cache_folder() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    if ARCHIVE.is_file():
        path = folder / "cifar10"
        if not path.exists():
            import_images(open_source(str(ARCHIVE)), path)
        return ImageStore.open(path, "CIFAR-10")
    return _generated(folder / "generated", COUNT)


def one_million() -> ImageStore:
    """1,000,000 images of 3×32×32, made once: those of `fifty_thousand`, twenty times, each time with other noise."""
    path = cache_folder() / "benchmarks" / "million"
    if not path.exists():
        base, rng = fifty_thousand(), np.random.default_rng(0)
        with writing_store(path) as writer:
            for _ in track(range(20), "a million images"):
                for _, pixels in base.chunks(5000):
                    noise = rng.integers(0, 16, pixels.shape, dtype=np.uint8)
                    writer.append(np.bitwise_xor(pixels, noise))
            writer.provenance = Provenance(source=f"{base.name} with noise in the lowest four bits", colour="colour")
    return ImageStore.open(path)


def _generated(path: Path, count: int) -> ImageStore:
    """Smooth random colour images: a coarse grid of colours, interpolated."""
    if not path.exists():
        rng = np.random.default_rng(0)
        weights = np.clip(1 - np.abs(np.linspace(0, 3, 32)[:, None] - np.arange(4)), 0, 1)
        with writing_store(path) as writer:
            for _ in range(0, count, 5000):
                coarse = rng.uniform(0, 255, (5000, 3, 4, 4))
                writer.append(np.einsum("hi,ncij,wj->nchw", weights, coarse, weights).astype(np.uint8))
            writer.provenance = Provenance(source="random colours, interpolated", colour="colour")
    return ImageStore.open(path, "generated images")
