"""The audit as a command: what was asked, the run, and whether a release must stop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scorescope.app.checks import check_data
from scorescope.app.choices import ModelChoice
from scorescope.app.runs import Run, reproduce
from scorescope.foundation import UserError

AUDIT_FILE, SAMPLES_FILE = "audit.json", "samples.csv"


@dataclass(frozen=True)
class FinishedAudit:
    """An audit that has been run and written.

    Attributes:
        run: the study as it was run.
        found: what was found about every model, as JSON.
    """

    run: Run
    found: list[dict[str, Any]]

    @property
    def copies(self) -> int:
        """Samples of any model on the list of copies, of copied regions, or equal to a training image byte for byte."""
        return sum(max(one["copies"], one["copied_regions"], one["same_bytes"]) for one in self.found)

    def _repr_html_(self) -> str:
        return self.run._repr_html_()

    def show(self, as_json: bool) -> None:
        """Print the verdict and its error rates, or everything as JSON."""
        samples = self.run.page.parent / SAMPLES_FILE
        if as_json:
            record = self.run.results.to_json() | {"audits": self.found, "report": str(self.run.page)}
            print(json.dumps(record | {"samples_csv": str(samples)}, indent=2, default=str))
            return
        self.run.show(False)
        for one in self.found:
            print(f"{one['label']}: {one['power_words']}" if len(self.found) > 1 else one["power_words"])
        print(f"all samples: {samples}")


def audit(
    data: str,
    *,
    samples: str | None = None,
    models: Sequence[ModelChoice | Path | str] = (),
    held_out: str | None = None,
    features: Sequence[str] = (),
    out: Path | str | None = None,
    bound: float | None = None,
    fdr: float | None = None,
    chosen: dict[str, Any] | None = None,
    **running: Any,
) -> FinishedAudit:
    """Run an audit and write its page, a CSV of all samples and a JSON of what was found; goes on if it was interrupted.

    Args:
        data: training images: a store, a built-in name, or a folder or zip of images.
        samples: a folder, zip or store of samples.
        models: checkpoints that draw them instead.
        held_out: unseen images, as `data`.
        features: feature spaces; pixels and embedded ones by default.
        out: run folder; a temporary one by default, which goes with what is returned.
        bound: see `AuditSettings`.
        fdr: see `AuditSettings`.
        chosen: other settings by name, left out where None.
        running: as `runs.reproduce` takes it.

    Raises:
        UserError: wrong settings, a run folder that cannot be used, or whatever the audit refuses.
    """
    choices = [model if isinstance(model, ModelChoice) else ModelChoice.of(Path(model)) for model in models]
    if (samples is None) == (not choices):
        raise UserError("give either --samples FOLDER or --model CHECKPOINT")
    if samples is not None and not Path(samples).expanduser().exists():
        raise UserError(f"there is nothing at {samples}: samples are a folder or zip of images, or a store")
    for name in (data, held_out):
        if name is not None and not Path(name).expanduser().exists():
            check_data(name)
    measured = {"features": list(features) or None, "bound": bound, "fdr": fdr}
    settings: dict[str, Any] = {name: value for name, value in (chosen or {}).items() if value is not None}
    settings |= {"data": data, "held_out": held_out, "samples": samples or ""}
    settings["models"] = [str(choice.path) for choice in choices]
    settings["measurement"] = {name: value for name, value in measured.items() if value is not None}
    if choices:
        first = choices[0]
        settings |= {"architecture": first.architecture, "arguments": first.arguments, "class_label": first.class_label}
    run = reproduce("main/audit", out=out, **running, **settings)
    return FinishedAudit(run, json.loads((run.page.parent / AUDIT_FILE).read_text(encoding="utf-8")))
