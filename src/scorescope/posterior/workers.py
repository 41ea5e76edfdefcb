"""Work split among threads in fixed parts, so that results depend on the number of threads and on nothing else.

Kernels are compiled without the interpreter's lock; Python threads run them. The number of threads is PyTorch's
(`torch.set_num_threads`, or OMP_NUM_THREADS), so that one setting governs everything.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
_local = threading.local()


def worker_count() -> int:
    """How many threads the kernels use."""
    return torch.get_num_threads()


def split_range(length: int, parts: int) -> list[tuple[int, int]]:
    """Cut ``range(length)`` into at most `parts` non-empty half-open ranges of nearly equal size, in order."""
    parts = max(1, min(parts, length))
    edges = [length * part // parts for part in range(parts + 1)]
    return list(itertools.pairwise(edges))


def in_parallel(task: Callable[[int, int], T], length: int, parts: int | None = None) -> list[T]:
    """Run ``task(start, stop)`` on each part of ``range(length)`` in threads; results in order of the parts."""
    ranges = split_range(length, parts or worker_count())
    if len(ranges) <= 1:
        return [task(start, stop) for start, stop in ranges]
    return list(_pool().map(lambda part: task(*part), ranges))


def _pool() -> ThreadPoolExecutor:
    # One pool for each calling thread: a kernel called from within a pool cannot wait for its own pool.
    pool: ThreadPoolExecutor | None = getattr(_local, "pool", None)
    if pool is None or getattr(_local, "size", 0) != worker_count():
        if pool is not None:
            pool.shutdown(wait=False)
        pool = ThreadPoolExecutor(worker_count(), thread_name_prefix="posterior")
        _local.pool, _local.size = pool, worker_count()
    return pool
