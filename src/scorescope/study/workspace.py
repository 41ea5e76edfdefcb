"""A run folder: made once, owned by one process at a time, gone on with after an interruption, finished once.

A long study is made of *cells*. Each cell's value is stored when it is finished, so that a killed run goes on where it
was. What a study gets is always the stored value, read back, so that a resumed run and an uninterrupted one agree.

Several processes of one job work on the same run together. Process 0 alone owns the folder and writes; whether a cell is
finished, and its value, the others have from it. So they need not see the folder at all.

A value is any nesting of dicts with text keys, lists, NumPy arrays, tables (DataFrame), numbers, texts, booleans and None.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pydantic

from scorescope.data import cache_folder
from scorescope.foundation import UserError, new_folder
from scorescope.foundation.devices import available_device
from scorescope.foundation.files import is_out_of_memory, write_text
from scorescope.foundation.processes import by_first, from_all, process_count
from scorescope.study.progress import Progress
from scorescope.study.storage import (
    frame_dtypes,
    read_arrays,
    read_frame,
    read_json,
    strict,
    write_arrays,
    write_frame,
    write_strict_json,
)

if TYPE_CHECKING:
    import torch

    from scorescope.study.results import Results

__all__ = ["Workspace", "available_device", "check_unfinished", "first_difference", "open_run"]

CONFIG_FILE, LOCK_FILE, FINISHED_FILE = "config.json", ".lock", ".finished"
TAG = "$kind"


class Workspace:
    """What a study works in: its run folder with the cells, the device, and the cache of trained networks.

    Made by `open_run`.

    Attributes:
        folder: the run folder.
        device: where networks run.
        cache: folder that all runs share.
        study: name of the study.
        config: every setting, as JSON has it.
        timings: cell -> seconds it took, in this run or before it was interrupted.
        progress: how far the run is.
        watch: called in process 0 with whether there is something new to see, when a cell begins and at every `show`.
    """

    def __init__(
        self, folder: Path, device: torch.device, cache: Path, study: str = "", config: Mapping[str, Any] | None = None
    ) -> None:
        self.folder = folder
        self.device = device
        self.cache = cache
        self.study = study
        self.config = dict(config or {})
        self.timings: dict[str, float] = {}
        self.progress = Progress()
        self.watch: Callable[[bool], None] = lambda _: None

    def cell(self, name: str) -> Path:
        """The folder of a cell, there or not."""
        return self.folder / "cells" / urllib.parse.quote(name, safe="=,+ ")

    def done(self, name: str) -> bool:
        """Whether a cell is finished. Several processes must ask this together."""
        return by_first(self.cell(name).is_dir)

    def computed(self, name: str, function: Callable[[], Any]) -> Any:
        """The value of a cell: loaded if it is finished, else computed by `function()` and stored.

        Several processes call this, and `function()`, together; all get the value that process 0 stored.

        Raises TypeError, and stores nothing, if the value holds something that this module's first lines do not list.
        """
        if not self.done(name):
            self.progress.now = name
            by_first(lambda: self.watch(False))
            started = time.perf_counter()
            value = function()
            by_first(lambda: self._store(name, value, time.perf_counter() - started))
        self.timings[name], stored = by_first(lambda: self._load(name))
        self.progress.finished = len(self.timings)
        return stored

    def show(self, results: Results, pending: Mapping[str, str] | None = None, expected: int = 0) -> None:
        """Let the page show what is known so far; a study calls it as often as there is more to see, and need not.

        Several processes call this together.

        Args:
            results: as far as they go.
            pending: section -> what is still to be measured for it, in a sentence, for sections that are not complete.
            expected: how many cells the run will have; 0 if that is not known, or was said before.
        """
        self.progress.shown, self.progress.pending = results, dict(pending or {})
        self.progress.expected = expected or self.progress.expected
        by_first(lambda: self.watch(True))

    def network_folder(self, key: Mapping[str, Any]) -> Path:
        """Where the cache keeps the network that `key` describes (settings, data fingerprint), there or not."""
        text = json.dumps(strict(key), sort_keys=True, ensure_ascii=False)
        return self.cache / "networks" / hashlib.sha256(text.encode()).hexdigest()[:20]

    def store(self, results: Results) -> None:
        """Write results into the run folder, with this run's settings, timings and environment."""
        from scorescope.study.environment import environment

        results.config = self.config
        results.timings = {**self.timings, **results.timings}
        results.environment = {**environment(self.device), **_processes(), **results.environment}
        by_first(lambda: results.save(self.folder))

    def finish(self) -> None:
        """Mark the run as finished and delete the cells, which only an unfinished run needs."""

        def mark() -> None:
            write_text(self.folder / FINISHED_FILE, time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))
            shutil.rmtree(self.folder / "cells", ignore_errors=True)

        by_first(mark)

    def _store(self, name: str, value: Any, seconds: float) -> None:
        with new_folder(self.cell(name)) as folder:
            writer = _Writer(folder)
            record = {"name": name, "seconds": round(seconds, 3), "value": writer.encoded(value)}
            if writer.arrays:
                write_arrays(folder / "arrays.npz", writer.arrays)
            write_strict_json(folder / "value.json", record)

    def _load(self, name: str) -> tuple[float, Any]:
        record = read_json(self.cell(name) / "value.json")
        return record["seconds"], _Reader(self.cell(name)).decoded(record["value"])


@contextlib.contextmanager
def open_run(
    folder: Path | str,
    study: str,
    config: pydantic.BaseModel | Mapping[str, Any],
    *,
    device: torch.device | str = "cpu",
    cache: Path | str | None = None,
) -> Iterator[Workspace]:
    """Make a run folder, or go on with an interrupted run of the same study with the same settings.

    Several processes enter and leave together; process 0 makes and locks the folder. A run that is refused with a
    UserError before its first cell leaves no folder behind.

    Args:
        folder: of the run.
        study: name of the study.
        config: all settings.
        device: where networks run.
        cache: folder that all runs share; $SCORESCOPE_CACHE, else ``~/.cache/scorescope``.

    Raises:
        UserError: the folder holds a finished run, a run with other settings or something else; another process is
            working in it; the device is not there; the disk is full.
    """
    folder = Path(folder)
    chosen_device = available_device(device)
    settings = strict(config.model_dump(mode="json") if isinstance(config, pydantic.BaseModel) else config)
    record = {"study": study, "config": settings}
    shared = Path(cache) if cache is not None else cache_folder()
    with contextlib.ExitStack() as owned:
        by_first(lambda: owned.enter_context(_owned(folder, record)))
        yield Workspace(folder, chosen_device, shared, study, settings)


def first_difference(before: Any, now: Any, name: str = "") -> str:
    """The first setting in which two configs differ, as "steps was 100 and is now 200"; empty if there is none."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            found = first_difference(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
            if found:
                return found
        return ""
    if before == now:
        return ""
    return f"{name} was {json.dumps(before, ensure_ascii=False)} and is now {json.dumps(now, ensure_ascii=False)}"


def check_unfinished(folder: Path) -> None:
    """Raise UserError if a run cannot be made in `folder`, or gone on with: it is something else, or finished."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: choose another run folder with --out")
    # A lock alone is what a run leaves that was killed at once; other programs leave files of that name too.
    others = [path for path in folder.iterdir() if path.name != LOCK_FILE] if folder.is_dir() else []
    if others and not (folder / CONFIG_FILE).exists():
        raise UserError(f"{folder} exists and is not a run folder: choose another with --out")
    if (folder / FINISHED_FILE).exists():
        raise UserError(f"{folder} already holds a finished run: choose another folder with --out, or delete it first")


def _check_resumable(folder: Path, record: dict[str, Any]) -> None:
    before = read_json(folder / CONFIG_FILE)
    if not isinstance(before, dict) or set(before) != set(record):
        raise UserError(f"{folder} exists and is not a run folder: choose another with --out")
    difference = first_difference(before, record).replace("config.", "")
    if difference:
        raise UserError(
            f"{folder} holds an unfinished run with other settings: {difference}; "
            "use the same settings to go on with it, or choose another folder with --out"
        )


@contextlib.contextmanager
def _owned(folder: Path, record: dict[str, Any]) -> Iterator[None]:
    """Lock a run folder that is new or can be gone on with; if the run is refused at once, leave what was there before."""
    check_unfinished(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    with _locked(folder):
        try:
            check_unfinished(folder)  # once more: another process may have been in it until now
            if (folder / CONFIG_FILE).exists():
                _check_resumable(folder, record)
            else:
                write_strict_json(folder / CONFIG_FILE, record)
            yield
        except Exception as error:
            refused = isinstance(error, UserError) or is_out_of_memory(error)
            if refused and made and not (folder / "cells").exists():
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):  # another run has moved in beside this one
                    for parent in made[1:]:
                        parent.rmdir()
            raise


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Own the folder while the block runs; the lock goes with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock: IO[str] = (folder / LOCK_FILE).open("a")
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another run folder with --out"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"another process is working in {folder}: wait for it to end, or choose another folder with --out"
            ) from error
        yield


def _processes() -> dict[str, str]:
    """How many processes on how many nodes shared the work, if several did."""
    if process_count() == 1:
        return {}
    nodes = len(set(from_all(os.environ.get("GROUP_RANK", "0"))))
    return {"processes": f"{process_count()} on {nodes} {'host' if nodes == 1 else 'hosts'}"}


class _Writer:
    """Splits a value into JSON, and files for what JSON cannot hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays: dict[str, Any] = {}
        self.frames = 0

    def encoded(self, value: Any) -> Any:
        import pandas as pd

        if isinstance(value, np.ndarray):
            name = f"array{len(self.arrays)}"
            self.arrays[name] = value
            return {TAG: "array", "name": name}
        if isinstance(value, pd.DataFrame):
            name = f"table{self.frames}.csv"
            self.frames += 1
            write_frame(self.folder / name, value)
            return {TAG: "table", "name": name, "columns": frame_dtypes(value)}
        if isinstance(value, np.generic):
            return self.encoded(value.item())
        if isinstance(value, float) and not math.isfinite(value):
            return {TAG: "float", "text": str(value)}
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) and key != TAG for key in value):
                raise TypeError(f"the keys of a cell's dicts are texts, other than {TAG!r}: {list(value)}")
            return {key: self.encoded(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.encoded(item) for item in value]
        return strict(value)


class _Reader:
    """Puts a value together again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        arrays = folder / "arrays.npz"
        self.arrays = read_arrays(arrays) if arrays.exists() else {}

    def decoded(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.decoded(item) for item in value]
        if not isinstance(value, dict):
            return value
        match value.get(TAG):
            case "array":
                return self.arrays[value["name"]]
            case "table":
                return read_frame(self.folder / value["name"], value["columns"])
            case "float":
                return float(value["text"])
        return {key: self.decoded(item) for key, item in value.items()}
