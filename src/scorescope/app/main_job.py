"""The commands that run a study: choose its settings, run it in a run folder, write the page, say the verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import scorescope.jobs
import scorescope.papers  # noqa: F401 - registers the studies
from scorescope import report
from scorescope.app.models import ModelChoice
from scorescope.app.plugins import load_plugins
from scorescope.data import cache_folder
from scorescope.data.fashion_mnist import DEBIAN_FOLDER
from scorescope.foundation.memory import reuse_freed_memory
from scorescope.study import Results, studies


@dataclass(frozen=True)
class FinishedRun:
    """A study that has been run and written.

    Attributes:
        results: what it found.
        page: the report.
        seconds: how long this start took.
    """

    results: Results
    page: Path
    seconds: float

    def show(self, as_json: bool) -> None:
        """Print the verdict, or everything as JSON."""
        if as_json:
            print(json.dumps(self.results.to_json() | {"report": str(self.page)}, indent=2, default=str))
            return
        print(self.results.headline)
        for verdict in self.results.verdicts:
            print(f"  {verdict.label:>12}  {verdict.state:<14}  {verdict.explanation}")
        for claim in self.results.claims:
            print(f"  {claim.verdict}: {claim.sentence} ({claim.source})")
            if claim.value is None:
                print(f"      {claim.note}")
            else:
                number = f"{claim.value:.3g} {claim.unit}".rstrip()
                print(f"      {claim.quantity}: {number}; holds if {claim.rule.words(claim.unit)}")
        print(f"report: {self.page}  ({self.seconds:.0f} s)")


def reproduce(
    name: str,
    preset: str,
    out: Path | None,
    device: str,
    overrides: Sequence[str],
    plugins: Sequence[Path],
    **settings: Any,
) -> FinishedRun:
    """Run a study by name and write its report; goes on with an interrupted run in the same folder.

    Raises UserError for wrong settings, a run folder that cannot be used, or whatever the study refuses.
    """
    started = time.perf_counter()
    reuse_freed_memory()
    load_plugins(plugins)
    chosen = studies[name]
    config = chosen.configure(preset, overrides, **settings)
    folder = out or Path("runs") / name.replace("/", "-")
    results = report.run_study(chosen(), config, folder, device=device, cache=cache_folder())
    return FinishedRun(results, folder / report.REPORT_FILE, time.perf_counter() - started)


def demo(
    data: str | None,
    preset: str,
    out: Path | None,
    seed: int,
    device: str,
    overrides: Sequence[str],
    plugins: Sequence[Path],
) -> FinishedRun:
    """The main job on an embedded data set: fashion-mnist where it is installed, natural-patches otherwise."""
    settings: dict[str, Any] = {} if preset == "tiny" and data is None else {"data": data or _embedded_data()}
    settings |= _seeded(seed)
    return reproduce("main/transition", preset, out or Path("runs/demo"), device, overrides, plugins, **settings)


def explain(
    model: ModelChoice,
    others: Sequence[Path],
    data: str,
    held_out: str | None,
    preset: str,
    out: Path | None,
    seed: int,
    device: str,
    overrides: Sequence[str],
    plugins: Sequence[Path],
) -> FinishedRun:
    """The main job on a user's model and its training images."""
    folder = out or Path("runs") / f"explain-{model.path.name}"
    settings = {
        "model": str(model.path),
        "others": [str(path) for path in others],
        "architecture": model.architecture,
        "arguments": model.arguments,
        "class_label": model.class_label,
        "data": data,
        "held_out": held_out,
        "measurement": {"seed": seed},
    }
    return reproduce("main/explain", preset, folder, device, overrides, plugins, **settings)


def train(
    out: Path, preset: str, device: str, overrides: Sequence[str], settings: dict[str, Any], training: dict[str, Any]
) -> FinishedRun:
    """Train a network into a run folder; `settings` and `training` hold what was said on the command line."""
    chosen = {key: value for key, value in settings.items() if value is not None}
    chosen["training"] = {key: value for key, value in training.items() if value is not None}
    return reproduce("main/train", preset, out, device, overrides, [], **chosen)


def _seeded(seed: int) -> dict[str, Any]:
    return {"seed": seed, "training": {"seed": seed}, "measurement": {"seed": seed}}


def _embedded_data() -> str:
    if DEBIAN_FOLDER.is_dir():
        return "fashion-mnist"
    print("fashion-mnist is not installed (apt-get install dataset-fashion-mnist): using natural-patches")
    return "natural-patches"
