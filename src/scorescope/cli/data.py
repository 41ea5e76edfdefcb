"""``scorescope data``: bring images into a store, look at one, check one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorescope.cli.duplicates import duplicates
from scorescope.cli.options import AsJson
from scorescope.foundation import UserError
from scorescope.foundation.progress import showing_progress

if TYPE_CHECKING:
    from rich.console import Console

    from scorescope.data import ImageSet
    from scorescope.data.importing import Colour

app = typer.Typer(help="Bring images into a store, look at one, check one.", no_args_is_help=True)
app.command("duplicates")(duplicates)

_SHOWN = 5


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="Folder, zip, .npy, .npz, IDX, CIFAR, parquet, Hugging Face folder or hf:NAME.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to make; it must not exist.")],
    size: Annotated[
        str | None,
        typer.Option("--size", help="Crop every image to its centre square and resize it to this side: 32 or 32x32."),
    ] = None,
    color: Annotated[
        bool | None, typer.Option("--color/--grey", help="Colour mode; that of the first image by default.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Classes: .npy, IDX, or text with one whole number a line.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave broken images out and name them in store.json.")
    ] = False,
    split: Annotated[
        str, typer.Option("--split", help="Which split of a Hugging Face data set, or of folders train and test.")
    ] = "train",
    white: Annotated[
        float | None,
        typer.Option(
            "--white", help="The value that is white where values have more than 8 bits: 4095 for 12-bit data."
        ),
    ] = None,
) -> None:
    """Make a store from images in any usual form."""
    from scorescope.data import import_images, open_source, parse_builtin
    from scorescope.data.importing import side_of
    from scorescope.data.sources.labels import read_labels

    if parse_builtin(source) is not None and not Path(source).exists():
        raise UserError(f"{source} is built in and needs no import: pass it as --data {source}")
    colour: Colour | None = None if color is None else "colour" if color else "grey"
    side = None if size is None else side_of(size)
    with showing_progress(), open_source(source, split, white=white) as opened:
        given = None if labels is None else read_labels(labels, len(opened))
        store = import_images(opened, out, size=side, colour=colour, labels=given, skip_broken=skip_broken)
    _show(f"imported into {out}", [(str(out), store)])
    for skipped in store.record.provenance.skipped[:_SHOWN]:
        _console().print(f"left out: {skipped.name} ({skipped.reason})", highlight=False, markup=False)
    rest = len(store.record.provenance.skipped) - _SHOWN
    if rest > 0:
        _console().print(f"and {rest} more, all named in {out / 'store.json'}", highlight=False)


@app.command()
def info(
    data: Annotated[str, typer.Argument(help="A store's folder, or a built-in name with options (c-alpha:alpha=3).")],
    as_json: AsJson = False,
) -> None:
    """Say what a store or a built-in data set holds."""
    from scorescope.data import builtin_datasets, load_images, parse_builtin

    with showing_progress():
        train, test = load_images(data)
    parts = [("train" if test is not None else data, train)] + ([("test", test)] if test is not None else [])
    if as_json:
        typer.echo(json.dumps({name: _facts(images) for name, images in parts}, indent=2, ensure_ascii=False))
        return
    request = parse_builtin(data)
    title = data if request is None else f"{data}: {builtin_datasets[request.name].description}"
    _show(title, parts)


@app.command()
def verify(
    store: Annotated[Path, typer.Argument(help="A store's folder.")],
    as_json: AsJson = False,
) -> None:
    """Read every byte of a store and compare with its SHA-256."""
    from scorescope.data import ImageStore

    opened = ImageStore.open(store)
    with showing_progress():
        opened.verify()
    if as_json:
        typer.echo(json.dumps({"store": str(store), "intact": True, "sha256": opened.record.sha256}))
    else:
        typer.echo(f"{store} is intact: {len(opened):,} images, SHA-256 {opened.record.sha256}")


def _facts(images: ImageSet) -> dict[str, Any]:
    """What `info` says about one set of images, as JSON holds it."""
    from scorescope.data import ImageStore

    channels, height, width = images.image_shape
    facts: dict[str, Any] = {"images": images.stored, "channels": channels, "height": height, "width": width}
    if images.labels is not None:
        facts["classes"] = _class_counts(images)
    if isinstance(images, ImageStore):
        facts |= {"path": str(images.path), "sha256": images.record.sha256}
        facts |= images.record.provenance.model_dump(mode="json", exclude={"classes"})
    return facts


def _class_counts(images: ImageSet) -> dict[str, int]:
    import numpy as np

    from scorescope.data import ImageStore

    classes, counts = np.unique(images.own_labels(), return_counts=True)
    name = images.class_name if isinstance(images, ImageStore) else str
    return {name(label): count for label, count in zip(classes.tolist(), counts.tolist(), strict=True)}


def _show(title: str, parts: list[tuple[str, ImageSet]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    facts = [_facts(images) for _, images in parts]
    table = Table(title=escape(title), title_justify="left", show_header=len(parts) > 1)
    table.add_column("")
    for name, _ in parts:
        table.add_column(escape(name), overflow="fold")
    for key in dict.fromkeys(key for part in facts for key in part):
        values = [_said(key, part.get(key)) for part in facts]
        if any(values):
            table.add_row(key, *(escape(value) for value in values))
    _console().print(table)


def _said(key: str, value: Any) -> str:
    if value in (None, "", [], {}):
        return ""
    if key == "classes":
        return f"{len(value)}: " + ", ".join(f"{name} ({count:,})" for name, count in value.items())
    if key == "skipped":
        return f"{len(value)} broken images, the first {value[0]['name']}"
    if key == "notes":
        return "; ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _console() -> Console:
    from rich.console import Console

    return Console()
