"""PyTorch's global generator, which layers draw from by themselves, lent to one thread at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_GLOBAL_GENERATOR = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Run the block with what it draws from the global generator decided by `seed`; then the state is as it was.

    Threads that want this at the same time wait for one another: interleaved, neither would draw what its seed says.

    Args:
        seed: at least 0.
        devices: CUDA devices whose generators are seeded too.
    """
    import torch

    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(seed)
        yield
