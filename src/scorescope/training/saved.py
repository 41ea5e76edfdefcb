"""What an interrupted training run goes on from: one file, ``NAME.training.safetensors``, replaced as a whole.

It is written under another name, flushed to the disk and renamed, so whenever the process is killed the last state that was
finished is there and opens. ``NAME.training.lock`` is held by the process that trains, so that two never write the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from scorescope.foundation import UserError, new_file

STATE, LOCK = ".training.safetensors", ".training.lock"


class SavedState:
    """The saved state of the run that makes a checkpoint folder.

    Args:
        folder: of the checkpoint to be.
        identity: what a state must agree on to be gone on with: settings and data, as text.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.path = _beside(folder, STATE)
        self.identity = identity

    def write(self, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Replace the state. Raises UserError if the disk is full."""
        kept = {key: value.detach().to("cpu").contiguous() for key, value in tensors.items()}
        with new_file(self.path) as temporary:
            save_file(kept, temporary, metadata={"identity": self.identity, "progress": json.dumps(progress)})

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the progress that were written last, or None if there are none.

        Raises UserError if the file is damaged, or belongs to another run.
        """
        try:
            # In one go: a library that opens the file twice may find another one the second time.
            content = self.path.read_bytes()
            tensors = load(content)
            metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
            identity, progress = metadata["identity"], json.loads(metadata["progress"])
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise UserError(f"{self.path} is damaged ({error}): delete it to train from the beginning") from error
        if identity != self.identity:
            raise UserError(
                f"{self.path} belongs to a training run with other settings or data: delete it, or train in another folder"
            )
        return tensors, progress


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Be the only process that trains towards a checkpoint folder, and clear what a killed one left half-written.

    Raises UserError if another process does.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = _beside(folder, LOCK)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = path.exists() and path.stat().st_ino == os.fstat(lock.fileno()).st_ino
        except OSError:
            mine = False
        if not mine:
            raise UserError(f"another process is training {folder}: wait for it to end, or train in another folder")
        try:
            _clear_half_written(folder)
            yield
        finally:
            path.unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Remove what only an unfinished run needs, once its checkpoint is there."""
    for suffix in (STATE, LOCK):
        _beside(folder, suffix).unlink(missing_ok=True)


def _clear_half_written(folder: Path) -> None:
    temporary = re.compile(rf"\.{re.escape(folder.name)}({re.escape(STATE)})?\.\w+\.part")
    for path in folder.parent.iterdir():
        if temporary.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)
