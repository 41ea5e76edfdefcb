"""Several processes on one job, as ``torchrun`` starts them: how many, which one this is, and what one decides for all.

Process 0 owns everything outside the job: files, the terminal. What it finds there (a cell is finished, a folder is
locked, the disk is full) it tells the others, so that all take the same path and none waits in vain. Without a process
group there is one process, and all of this does nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from scorescope.foundation.errors import UserError
from scorescope.foundation.files import new_folder

T = TypeVar("T")
_alone = 0


def process_count() -> int:
    """How many processes share the work; 1 without a process group, and while working alone."""
    # Who has not imported PyTorch has no process group, and need not import it to know.
    dist: Any = sys.modules.get("torch.distributed")
    shared = dist is not None and dist.is_available() and dist.is_initialized() and not _alone
    return int(dist.get_world_size()) if shared else 1


def process_index() -> int:
    """Which of them this is, from 0."""
    return int(sys.modules["torch.distributed"].get_rank()) if process_count() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return process_index() == 0


@contextlib.contextmanager
def working_alone() -> Iterator[None]:
    """Within this block the process is on its own, in all its threads: what it calls neither shares nor waits."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def by_first(task: Callable[[], T]) -> T:
    """What ``task()`` returns in process 0, in every process; the others do not call it.

    Args:
        task: works alone. What it returns travels as a pickle, from one process of the job to the others.

    Raises:
        UserError: in every process, if the task raises one. Anything else is raised in process 0 alone, and ends the job.
    """
    if process_count() == 1:
        return task()
    import torch.distributed as dist

    outcome: list[Any] = [None, None]
    refusal = None
    if is_first():
        try:
            with working_alone():
                outcome[0] = task()
        except UserError as error:
            refusal, outcome[1] = error, str(error)
    dist.broadcast_object_list(outcome, 0)
    if outcome[1] is not None:
        raise refusal or UserError(outcome[1])
    result: T = outcome[0]
    return result


def from_all(value: T) -> list[T]:
    """The values of all processes, in their order, in every process."""
    if process_count() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * process_count()
    dist.all_gather_object(values, value)
    return values


def check_agreement(value: object, what: str) -> None:
    """Raise UserError, in every process, unless all processes have the same value of `what`."""
    values = from_all(value)
    other = next((index for index, seen in enumerate(values) if seen != values[0]), None)
    if other is not None:
        raise UserError(
            f"process 0 has {what} {values[0]}, process {other} has {values[other]}: give every host the same files"
        )


def share_folder(folder: os.PathLike[str], owner: int) -> None:
    """Give every process a folder of files that process `owner` has, where they do not see it anyway.

    On one host, or on a file system that all hosts see, nothing is copied; else one process a host writes it.
    """
    from pathlib import Path

    path = Path(folder)
    if all(from_all(path.exists())):
        return
    import torch.distributed as dist

    content = [{file.name: file.read_bytes() for file in path.iterdir()} if process_index() == owner else None]
    dist.broadcast_object_list(content, owner)
    if not path.exists() and os.environ.get("LOCAL_RANK", "0") == "0":
        with new_folder(path) as temporary:
            for name, data in (content[0] or {}).items():
                (temporary / name).write_bytes(data)
    dist.barrier()
