"""Attribution as a command: what was asked, the run, and the first training images."""

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

ATTRIBUTION_FILE, IMAGES_FILE = "attribution.json", "attribution.csv"


@dataclass(frozen=True)
class FinishedAttribution:
    """An attribution that has been run and written.

    Attributes:
        run: the study as it was run.
        found: what was found, as JSON.
    """

    run: Run
    found: dict[str, Any]

    def _repr_html_(self) -> str:
        return self.run._repr_html_()

    def show(self, as_json: bool) -> None:
        """Print what the sample is made of, or everything as JSON."""
        images = self.run.page.parent / IMAGES_FILE
        if as_json:
            record = self.run.results.to_json() | {"attribution": self.found, "report": str(self.run.page)}
            print(json.dumps(record | {"images_csv": str(images)}, indent=2, default=str))
            return
        for note in self.found["notes"]:
            print(f"note: {note}")
        for name, method in self.found["methods"].items():
            if named := [f"{one['image']} ({one['score']:.3g})" for one in method["images"][:5]]:
                print(f"  {name}: {', '.join(named)}")
        self.run.show(False)
        print(f"training images: {images}")


def attribute(
    model: ModelChoice | Path | str,
    data: str,
    *,
    sample: Path | str | None = None,
    sides: Sequence[int] = (),
    everywhere: int | None = None,
    gradients: int | None = None,
    out: Path | str | None = None,
    **running: Any,
) -> FinishedAttribution:
    """Say which training images one sample is made of: writes a page, a CSV of images and a JSON; goes on if interrupted.

    Args:
        model: a checkpoint.
        data: the images it was trained on: a store, or the name of a built-in data set.
        sample: an image file of the model's size; the model draws one by default.
        sides: sides of windows in pixels; some of every size by default.
        everywhere: training images, those most like the sample, in which all places are looked at.
        gradients: training images, those most like the sample, of which gradients are taken.
        out: run folder; a temporary one by default, which goes with what is returned.
        running: as `runs.reproduce` takes it.

    Raises:
        UserError: wrong settings, a run folder that cannot be used, a sample or images that the model does not take.
    """
    choice = model if isinstance(model, ModelChoice) else ModelChoice.of(Path(model))
    if sample is not None and not Path(sample).expanduser().is_file():
        raise UserError(f"--sample {sample}: there is no image file there")
    check_data(data)
    measured = {"sides": list(sides) or None, "everywhere_images": everywhere, "gradient_images": gradients}
    run = reproduce(
        "main/attribute",
        out=out,
        **running,
        model=str(choice.path),
        architecture=choice.architecture,
        arguments=choice.arguments,
        class_label=choice.class_label,
        data=data,
        sample=None if sample is None else str(sample),
        measurement={name: value for name, value in measured.items() if value is not None},
    )
    return FinishedAttribution(run, json.loads((run.page.parent / ATTRIBUTION_FILE).read_text(encoding="utf-8")))
