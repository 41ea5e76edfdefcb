"""Everything random about step t is a function of (seed, t): a run that was killed and goes on draws what it would have drawn.

Images, noise and levels come from a generator of the step's own. Layers that draw by themselves (dropout) take from
PyTorch's global generator, which is seeded for the time of such a network's pass and then put back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from scorescope.foundation.randomness import seeded


def mixed(*numbers: int) -> int:
    """One 63-bit seed from several numbers ≥ 0, far from those of neighbouring numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class LayerNoise:
    """Seeds the global generator around a network's pass, if the network draws from it.

    Whether it does is seen at the first pass. Networks that are trained side by side then draw one after another.

    Args:
        device: where the network is.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = [device] if device.type == "cuda" else []
        self._drawing = True

    @contextlib.contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Run the block with what it draws decided by `seed`; the caller's random state is left as it was."""
        if not self._drawing:
            yield
            return
        with seeded(seed, self._cuda):
            before = self._state()
            yield
            self._drawing = not torch.equal(before, self._state())

    def _state(self) -> Tensor:
        return torch.cuda.get_rng_state(self._cuda[0]) if self._cuda else torch.get_rng_state()
