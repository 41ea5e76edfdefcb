"""Running a study: choose its settings, run it in a run folder, write the page, say the verdict.

What was asked is checked first; only then PyTorch and all that stands on it is imported.
"""

from __future__ import annotations

import html
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scorescope.app.checks import check_data, check_device, check_plugins, check_run_folder, check_study
from scorescope.app.choices import ModelChoice
from scorescope.foundation.catalogue import check_listed, listed

if TYPE_CHECKING:
    import pandas as pd

    from scorescope.app.opening import Images
    from scorescope.denoisers import NetworkDenoiser
    from scorescope.study import Exhibit, Results

    Model = NetworkDenoiser | ModelChoice | str | Path

PRETRAINED_DATA = "fashion-mnist"
SEEDS = ("seed", "training.seed", "measurement.seed")


@dataclass(frozen=True)
class Run:
    """A study that has been run and written. A notebook shows its page.

    Attributes:
        results: what it found.
        page: the report, in the run folder.
        seconds: how long this start took.
        kept: the run folder, if it is a temporary one that goes with this object.
    """

    results: Results
    page: Path
    seconds: float
    kept: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @property
    def explorer(self) -> Path | None:
        """The explorer beside the page; None if the run has stored nothing to explore."""
        from scorescope.report.explorer import EXPLORER_FILE

        return None if self.results.exploration is None else self.page.with_name(EXPLORER_FILE)

    @property
    def headline(self) -> str:
        """The verdict, in a sentence or two."""
        return self.results.headline

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables as data frames, by name."""
        return {name: table.frame for name, table in self.results.tables.items()}

    @property
    def figures(self) -> dict[str, Exhibit]:
        """The figures by key; a notebook shows one as a picture, and its `data` are the bytes of an SVG or a PNG file."""
        return {exhibit.key: exhibit for exhibit in self.results.figures}

    def _repr_html_(self) -> str:
        page = html.escape(self.page.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width:100%;height:56em;border:0"></iframe>'

    def show(self, as_json: bool) -> None:
        """Print the verdict, or everything as JSON."""
        if as_json:
            pages = {"report": str(self.page)} | ({"explorer": str(self.explorer)} if self.explorer else {})
            print(json.dumps(self.results.to_json() | pages, indent=2, default=str))
            return
        for note in self.results.notes:
            print(f"note: {note}")
        print(self.headline)
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
        if self.explorer is not None:
            print(f"explorer: {self.explorer}")


def reproduce(
    study: str,
    *,
    preset: str = "small",
    out: Path | str | None = None,
    seed: int | None = None,
    device: str = "cpu",
    settings: Sequence[str] = (),
    plugin: Sequence[Path | str] = (),
    about: Any = None,
    **chosen: Any,
) -> Run:
    """Run a study by name and write its report; goes on with an interrupted run in the same folder.

    Args:
        study: its name.
        preset: ``tiny``, ``small`` or ``paper``.
        out: the run folder; a temporary one by default, which goes with what is returned.
        seed: for every seed among the study's settings; those of the preset by default.
        device: where networks run.
        settings: other settings, KEY=VALUE each.
        plugin: Python files that register denoisers or lenses.
        about: what the study is about, opened already, for a study that takes such.
        chosen: settings by name, that `settings` overrule.

    Raises:
        UserError: wrong settings, a run folder that cannot be used, or whatever the study refuses.
    """
    started = time.perf_counter()
    check_study(study, preset, settings)
    check_device(device)
    plugins = [Path(file) for file in plugin]
    check_plugins(plugins)
    kept = tempfile.TemporaryDirectory(prefix="scorescope-") if out is None else None
    folder = Path(out) if out is not None else Path(kept.name if kept else "") / study.replace("/", "-")
    check_run_folder(folder)
    results, page = _run(study, preset, folder, device, [*_seeded(study, seed), *settings], plugins, chosen, about)
    return Run(results, page, time.perf_counter() - started, kept)


def _run(
    name: str,
    preset: str,
    folder: Path,
    device: str,
    settings: Sequence[str],
    plugins: Sequence[Path],
    chosen: dict[str, Any],
    about: Any,
) -> tuple[Results, Path]:
    from scorescope.study import studies

    study = studies[name]
    if not plugins:  # else a setting may name what a plugin registers
        config = study.configure(preset, settings, **chosen)
    from scorescope.data import cache_folder
    from scorescope.foundation.memory import reuse_freed_memory
    from scorescope.report.run import run_study

    reuse_freed_memory()
    if plugins:
        from scorescope.app.plugins import load_plugins

        load_plugins(plugins)
        config = study.configure(preset, settings, **chosen)
    made = study() if about is None else study(about)  # type: ignore[call-arg]
    command = _command()
    announce = _announce if command else None
    results = run_study(made, config, folder, device=device, cache=cache_folder(), command=command, announce=announce)
    from scorescope.report import REPORT_FILE

    return results, folder / REPORT_FILE


def demo(
    data: str | None = None, *, train: bool = False, preset: str = "small", seed: int | None = None, **running: Any
) -> Run:
    """The main job on an embedded data set: fashion-mnist where it is installed, natural-patches otherwise.

    At preset small its networks on fashion-mnist come with the package, unless `train` or another seed than theirs asks for
    others. Arguments and errors as `reproduce` has them.
    """
    check_data(data)
    chosen: dict[str, Any] = {} if preset == "tiny" and data is None else {"data": data or _embedded_data()}
    preset = demo_preset(chosen.get("data"), train, preset, seed)
    return reproduce("main/transition", preset=preset, seed=seed, **running, **chosen)


def demo_preset(data: str | None, train: bool, preset: str, seed: int | None) -> str:
    """The preset that a command line asks for: ``pretrained`` instead of ``small`` where its networks fit."""
    return "pretrained" if preset == "small" and data == PRETRAINED_DATA and not (train or seed) else preset


def explain(
    model: Model,
    images: Images,
    *,
    held_out: Images | None = None,
    others: Sequence[Model] = (),
    lenses: Sequence[str] = (),
    **running: Any,
) -> Run:
    """Does a model memorize or generalize its training images, and which mechanism accounts for it?

    Args:
        model: a checkpoint, or a network that is opened.
        images: its training images: a store, the name of a built-in data set, or opened images.
        held_out: images that it was not trained on; the data set's own test images by default, if it has any.
        others: networks that were trained on other draws of the same data, such as a disjoint half.
        lenses: names in ``scorescope list lenses``; all by default.
        running: what `reproduce` takes: preset, out, seed, device, settings, plugin.

    Raises:
        UserError: as `reproduce`; a model that cannot be opened, or takes other images.
    """
    if not running.get("plugin"):
        for name in lenses:
            check_listed("lenses", "lens", name)
    if all(one is None or isinstance(one, str | Path | ModelChoice) for one in (model, *others, images, held_out)):
        first, *rest = [_choice(one) for one in (model, *others)]
        data = [None if one is None else str(one) for one in (images, held_out)]
        check_data(*data)
        return reproduce(
            "main/explain",
            **running,
            model=str(first.path),
            others=[str(other.path) for other in rest],
            architecture=first.architecture,
            arguments=first.arguments,
            class_label=first.class_label,
            data=data[0],
            held_out=data[1],
            lenses=list(lenses),
        )
    from scorescope.app.opening import opened_for_explain

    opened = opened_for_explain([model, *others], images, held_out, running.get("device", "cpu"))
    return reproduce("main/explain", about=opened, **running, **opened.settings(), lenses=list(lenses))


def train(
    out: Path | str,
    *,
    data: str | None = None,
    architecture: str | None = None,
    size: int | None = None,
    split: str | None = None,
    steps: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    checkpoints: Sequence[int | str] | None = None,
    **running: Any,
) -> Run:
    """Train a network into a run folder; the same call goes on with a training that was interrupted.

    Args:
        out: the run folder; the checkpoint is its ``network/``.
        data: a store, or the name of a built-in data set.
        architecture: name in ``scorescope list networks``.
        size: number of training images; all by default.
        split: which of two disjoint halves they come from, ``a`` or ``b``.
        steps: optimizer steps.
        batch: images a step.
        learning_rate: the highest.
        checkpoints: steps after which a checkpoint is kept on the way, in ``steps/`` of the run folder.
        running: what `reproduce` takes: preset, seed, device, settings.

    Raises:
        UserError: as `reproduce`, and for an unknown architecture or data set.
    """
    check_data(data)
    if architecture is not None:
        check_listed("networks", "network", architecture)
    chosen: dict[str, Any] = {"data": data, "architecture": architecture, "size": size, "split": split}
    chosen["checkpoints"] = checkpoints
    chosen["training"] = _said({"steps": steps, "batch": batch, "learning_rate": learning_rate})
    return reproduce("main/train", out=out, **running, **_said(chosen))


def _said(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _choice(model: Any) -> ModelChoice:
    """A checkpoint that is named by its path, or chosen already."""
    return model if isinstance(model, ModelChoice) else ModelChoice.of(Path(model))


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
