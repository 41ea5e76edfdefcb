"""The explorer of a run that was finished before: what is stored in its folder becomes one HTML file.

A folder that holds nothing to explore is refused with what would have to be run.
"""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorescope.app.runs import Run
from scorescope.foundation import UserError
from scorescope.foundation.files import check_writable, user_path

EXPLAIN, NO_COMMAND = "main/explain", "run scorescope explain --model M --data D, which stores them"


@dataclass(frozen=True)
class Explorer:
    """An explorer that has been written. A notebook shows it.

    Attributes:
        page: the file.
        contents: how many noisy images, noise levels, denoisers and samples it shows.
    """

    page: Path
    contents: dict[str, int]

    def show(self, as_json: bool) -> None:
        """Print where it is, or everything as JSON."""
        size = self.page.stat().st_size
        if as_json:
            print(json.dumps({"explorer": str(self.page), "bytes": size, **self.contents}, indent=2))
            return
        said = ", ".join(f"{count} {name}" for name, count in self.contents.items())
        print(f"explorer: {self.page}  ({size / 1e6:.1f} MB; {said})")

    def _repr_html_(self) -> str:
        page = html.escape(self.page.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width:100%;height:56em;border:0"></iframe>'


def explore(run: Run | Path | str, *, out: Path | str | None = None) -> Explorer:
    """Make the explorer of a finished run.

    Args:
        run: it, as `explain` or `demo` returned it, or its folder.
        out: HTML file to write; ``explorer.html`` in the run folder by default. An explorer that is there is replaced,
            anything else stays.

    Returns:
        Where it is.

    Raises:
        UserError: no run folder, a run that is not finished, is of another version or has stored nothing to explore; a file
            that cannot be written, or is there and is no explorer.
    """
    folder = run.page.parent if isinstance(run, Run) else user_path(run)
    _check_run(folder)
    path = folder / "explorer.html" if out is None else user_path(out)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write, such as {path / 'explorer.html'}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{path}: an explorer's name ends in .html")
    check_writable(path, replace=True)
    from scorescope.report.explorer import check_own, write_explorer
    from scorescope.report.page import REPORT_FILE
    from scorescope.study.exploration import Exploration

    check_own(path)
    exploration = Exploration.load(folder)
    beside = path.absolute().parent == folder.absolute()
    write_explorer(exploration, path, _title(folder), REPORT_FILE if beside else "")
    levels, images, denoisers = exploration.distances.shape
    contents = {
        "noisy images": images,
        "noise levels": levels,
        "denoisers": denoisers,
        "samples": len(exploration.samples),
    }
    return Explorer(path, contents)


def _title(folder: Path) -> str:
    from scorescope.study.storage import read_json

    return str(read_json(folder / "results.json")["title"])


def _check_run(folder: Path) -> None:
    """Raise UserError, with what to do, unless the folder is that of a finished run with something to explore."""
    from scorescope.study.exploration import EXPLORATION_FILE
    from scorescope.study.storage import read_json

    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise UserError(f"{folder} {what}: name the run folder of scorescope explain or scorescope demo")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no run folder: name that of scorescope explain or scorescope demo")
    if not (folder / "results.json").exists():
        raise UserError(f"the run in {folder} is not finished: the command that began it goes on where it was")
    record = read_json(folder / "results.json")
    if not isinstance(record, Mapping) or "title" not in record or "study" not in record:
        raise UserError(f"{folder / 'results.json'} is damaged: run the study again into another folder")
    if not (folder / EXPLORATION_FILE).exists():
        raise UserError(f"{folder} has stored no denoised images to explore: {_remedy(record, folder)}")


def _remedy(record: Mapping[str, Any], folder: Path) -> str:
    """What to run instead, as exactly as the record of the run says it."""
    config = record.get("config")
    if not isinstance(config, Mapping) or record["study"] != EXPLAIN or not config.get("data"):
        return NO_COMMAND
    if not config.get("model") or ", opened" in str(config["model"]):  # what a notebook had opened has no path
        return NO_COMMAND
    given = {"--model": "model", "--data": "data", "--held-out": "held_out", "--arch": "architecture"}
    given["--class-label"] = "class_label"
    words = ["scorescope", "explain"]
    for option, name in given.items():
        words += [option, str(config[name])] if config.get(name) is not None else []
    for name, value in dict(config.get("arguments") or {}).items():
        words += ["--arch-arg", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return f"run {shlex.join([*words, '--lens', 'explorer', '--out', f'{folder}-explorer'])}"
