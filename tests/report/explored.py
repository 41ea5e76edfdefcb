"""An exploration of a few small images with random bytes in it: every place of every array is told from its neighbours."""

from __future__ import annotations

import numpy as np

from scorescope.study.exploration import Exploration


def exploration(
    channels: int = 1,
    height: int = 6,
    width: int = 7,
    images: int = 3,
    samples: int = 6,
    levels: int = 4,
    training: int = 9,
) -> Exploration:
    """Two of four pixels in a row, three windows, three training images behind each pixel; of one the picture is not kept."""
    random = np.random.default_rng(channels)
    shape = (channels, height, width)
    names = ["net", "optimal", "gaussian", "pspc-square", "<b>odd</script>"]

    def bytes_of(*leading: int) -> np.ndarray:
        return random.integers(0, 256, (*leading, *shape), dtype=np.uint8)

    def numbers(*sides: int) -> np.ndarray:
        return random.random(sides).astype(np.float32)

    pixels = np.array([(1, 1), (1, 5), (4, 1), (4, 5)], dtype=np.int32)
    behind = random.integers(0, training, (levels, images, 4, 3)).astype(np.int32)
    entries = np.sort(random.choice(1000, training, replace=False)).astype(np.int32)
    behind_entries = entries[behind]
    behind[0, 0, 0, 1], behind_entries[0, 0, 0, 1] = -2, 999
    behind[0, 0, 0, 2], behind_entries[0, 0, 0, 2] = -1, -1
    side_errors = numbers(levels, images, 4, 3)
    best = side_errors.argmin(-1).astype(np.int32)
    side_errors[2, 0, 1, 2] = side_errors[2, 0, 1].min()  # as near as the nearest, and larger
    return Exploration(
        model="net",
        training_set="seen",
        held_out_set="unseen",
        denoisers=names,
        sigmas=[float(sigma) for sigma in np.geomspace(2, 0.1, levels)],
        kinds=["held-out", *["training"] * (images - 1)],
        sides=[3, 5, 13],
        spectrum_sigmas=[0.25, 1.0],
        clean=bytes_of(images),
        noisy=bytes_of(levels, images),
        denoised=bytes_of(levels, images, len(names)),
        distances=numbers(levels, images, len(names)),
        pixels=pixels,
        sensitivity=random.integers(0, 256, (levels, images, 4, height, width), dtype=np.uint8),
        peaks=numbers(levels, images, 4),
        side_errors=side_errors,
        best=best,
        behind=behind,
        behind_entries=behind_entries,
        weights=-np.sort(-numbers(levels, images, 4, 3), axis=-1),
        effective=1 + numbers(levels, images, 4),
        training=bytes_of(training),
        entries=entries,
        samples=bytes_of(samples),
        neighbours=random.integers(0, training, (samples, 3)).astype(np.int32),
        similarity=-np.sort(-numbers(samples, 3), axis=None).reshape(samples, 3),
        spectrum_images=bytes_of(2, 1, 3),
        eigenvectors=bytes_of(2, 1, 4),
        eigenvalues=-np.sort(-numbers(2, 1, 4), axis=-1),
    )
