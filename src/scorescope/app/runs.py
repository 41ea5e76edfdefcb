"""Running a study: choose its settings, run it in a run folder, write the page, say the verdict.

What was asked is checked first; only then PyTorch and all that stands on it is imported.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorescope.app.checks import check_data, check_device, check_plugins, check_run_folder, check_study
from scorescope.app.choices import ModelChoice
from scorescope.foundation.catalogue import check_listed, listed
from scorescope.networks.readers.words import check_there

if TYPE_CHECKING:
    from scorescope.study import Results

PRETRAINED_DATA = "fashion-mnist"
SEEDS = ("seed", "training.seed", "measurement.seed")


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
    study: str,
    *,
    preset: str = "small",
    out: Path | None = None,
    seed: int | None = None,
    device: str = "cpu",
    settings: Sequence[str] = (),
    plugin: Sequence[Path] = (),
    **chosen: Any,
) -> FinishedRun:
    """Run a study by name and write its report; goes on with an interrupted run in the same folder.

    Args:
        study: its name.
        preset: ``tiny``, ``small`` or ``paper``.
        out: the run folder; one in ``runs/`` by default.
        seed: for every seed among the study's settings; those of the preset by default.
        device: where networks run.
        settings: other settings, KEY=VALUE each.
        plugin: Python files that register denoisers.
        chosen: settings by name, that `settings` overrule.

    Raises:
        UserError: wrong settings, a run folder that cannot be used, or whatever the study refuses.
    """
    started = time.perf_counter()
    check_study(study, preset, settings)
    check_device(device)
    check_plugins(plugin)
    folder = out or Path("runs") / study.replace("/", "-")
    check_run_folder(folder)
    return _run(study, preset, folder, device, [*_seeded(study, seed), *settings], plugin, chosen, started)


def _run(
    name: str,
    preset: str,
    folder: Path,
    device: str,
    settings: Sequence[str],
    plugins: Sequence[Path],
    chosen: dict[str, Any],
    started: float,
) -> FinishedRun:
    from scorescope.study import studies

    study = studies[name]
    if not plugins:  # else a setting may name what a plugin registers
        config = study.configure(preset, settings, **chosen)
    from scorescope import report
    from scorescope.app.plugins import load_plugins
    from scorescope.data import cache_folder
    from scorescope.foundation.memory import reuse_freed_memory

    reuse_freed_memory()
    if plugins:
        load_plugins(plugins)
        config = study.configure(preset, settings, **chosen)
    results = report.run_study(
        study(), config, folder, device=device, cache=cache_folder(), command=_command(), announce=_announce
    )
    return FinishedRun(results, folder / report.REPORT_FILE, time.perf_counter() - started)


def demo(
    *,
    data: str | None = None,
    train: bool = False,
    preset: str = "small",
    out: Path | None = None,
    seed: int | None = None,
    **running: Any,
) -> FinishedRun:
    """The main job on an embedded data set: fashion-mnist where it is installed, natural-patches otherwise.

    At preset small its networks on fashion-mnist come with the package, unless `train` or another seed than theirs asks for
    others. Arguments and errors as `reproduce` has them.
    """
    check_data(data)
    chosen: dict[str, Any] = {} if preset == "tiny" and data is None else {"data": data or _embedded_data()}
    preset = demo_preset(chosen.get("data"), train, preset, seed)
    return reproduce("main/transition", preset=preset, out=out or Path("runs/demo"), seed=seed, **running, **chosen)


def demo_preset(data: str | None, train: bool, preset: str, seed: int | None) -> str:
    """The preset that a command line asks for: ``pretrained`` instead of ``small`` where its networks fit."""
    return "pretrained" if preset == "small" and data == PRETRAINED_DATA and not (train or seed) else preset


def explain(
    model: ModelChoice,
    data: str,
    *,
    held_out: str | None = None,
    others: Sequence[Path] = (),
    lens: str | None = None,
    out: Path | None = None,
    **running: Any,
) -> FinishedRun:
    """The main job on a user's model and its training images. Arguments and errors as `reproduce` has them.

    `lens` holds names of lenses with commas between them; None for all.
    """
    for other in others:
        check_there(other)
    check_data(data, held_out)
    chosen: dict[str, Any] = {
        "model": str(model.path),
        "others": [str(path) for path in others],
        "architecture": model.architecture,
        "arguments": model.arguments,
        "class_label": model.class_label,
        "data": data,
        "held_out": held_out,
    }
    if lens is not None:
        chosen["lenses"] = [name.strip() for name in lens.split(",") if name.strip()]
    folder = out or Path("runs") / f"explain-{model.path.name}"
    return reproduce("main/explain", out=folder, **running, **chosen)


def train(out: Path, settings_said: dict[str, Any], training_said: dict[str, Any], **running: Any) -> FinishedRun:
    """Train a network into a run folder. Arguments and errors as `reproduce` has them.

    Args:
        out: the run folder; the checkpoint is its ``network/``.
        settings_said: settings by name, None where nothing was said.
        training_said: the same, of how the network is trained.
        running: what `reproduce` takes.
    """
    chosen = {key: value for key, value in settings_said.items() if value is not None}
    check_data(chosen.get("data"))
    if "architecture" in chosen:
        check_listed("networks", "network", chosen["architecture"])
    chosen["training"] = {key: value for key, value in training_said.items() if value is not None}
    return reproduce("main/train", out=out, **running, **chosen)


def _seeded(study: str, seed: int | None) -> list[str]:
    """The seed for each of the study's settings that is one, as KEY=VALUE."""
    known = listed("studies")[study]["settings"].split()
    return [f"{name}={seed}" for name in SEEDS if name in known and seed is not None]


def _command() -> str:
    """What was typed, where that was this program's own command line."""
    program, *words = sys.argv
    return shlex.join(["scorescope", *words]) if Path(program).name in ("scorescope", "__main__.py") else ""


def _announce(page: Path) -> None:
    print(f"report, growing: {page}", file=sys.stderr)


def _embedded_data() -> str:
    from scorescope.data.fashion_mnist import DEBIAN_FOLDER

    if DEBIAN_FOLDER.is_dir():
        return "fashion-mnist"
    print("fashion-mnist is not installed (apt-get install dataset-fashion-mnist): using natural-patches")
    return "natural-patches"
