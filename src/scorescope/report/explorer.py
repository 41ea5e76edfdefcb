"""The explorer: what was stored of a run as one HTML page to drag, click and turn, which needs no server and fetches nothing.

Arrays stand in the page as they are stored: compressed, in base64, and painted byte by byte. The script lies in files of its
own (``explorer*.js``), checked by TypeScript's compiler with ``jsconfig.json``.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from scorescope.foundation import UserError
from scorescope.foundation.files import write_text
from scorescope.study.exploration import Exploration
from scorescope.study.palette import DARK_PARTNER, variable
from scorescope.study.storage import strict

EXPLORER_FILE = "explorer.html"
GENERATOR = "scorescope explorer"
SCRIPTS = (
    "explorer_arrays.js",
    "explorer_paint.js",
    "explorer_images.js",
    "explorer_samples.js",
    "explorer_directions.js",
    "explorer.js",
)
HEAT = "inferno"
_BEGINNING = 1000


def write_explorer(exploration: Exploration, path: Path | str, title: str = "", report: str = "") -> Path:
    """Write the page of an exploration, at once as a whole, over an explorer that is there but over nothing else.

    Args:
        exploration: what it shows.
        path: of the file.
        title: its heading; the model's name by default.
        report: address of the report that it belongs to; empty for none.

    Returns:
        The path. Raises UserError if something else is there, or the disk is full.
    """
    path = Path(path)
    check_own(path)
    write_text(path, explorer_html(exploration, title, report))
    return path


def check_own(path: Path) -> None:
    """Raise UserError if what is at `path` is no explorer that this program wrote."""
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write, such as {path / EXPLORER_FILE}")
    if path.is_symlink() or path.exists():
        try:
            with path.open("rb") as file:
                own = path.is_file() and f'content="{GENERATOR}"'.encode() in file.read(_BEGINNING)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): choose another file with --out") from error
        if not own:
            raise UserError(f"{path} is there, and no explorer: choose another file with --out, or delete it first")


def explorer_html(exploration: Exploration, title: str = "", report: str = "") -> str:
    """The page as text; arguments as `write_explorer` has them."""
    loader = jinja2.PackageLoader("scorescope", "report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    arrays = {**exploration.arrays(), "heat": _heat()}

    def source(name: str) -> str:
        return loader.get_source(environment, name)[0]

    return environment.get_template("explorer.html").render(
        generator=GENERATOR,
        title=title or exploration.model,
        report=report,
        words=exploration,
        words_json=_inert(exploration.words()),
        samples=len(exploration.samples),
        directions=exploration.eigenvalues.shape[-1],
        blocks=[_block(name, array) for name, array in arrays.items()],
        script=Markup("\n".join(source(name) for name in SCRIPTS)),
        style=Markup(source("style.css") + source("explorer.css")),
        light=variables({colour: colour for colour in DARK_PARTNER}),
        dark=variables(DARK_PARTNER),
    )


def _block(name: str, array: npt.NDArray[Any]) -> dict[str, str]:
    """An array for the page: as it is, or as differences along its rows, whichever packs better."""
    plain = np.ascontiguousarray(array)
    packed, delta = zlib.compress(plain.tobytes(), 9), "0"
    if plain.dtype == np.uint8 and plain.size:
        differences = np.diff(plain, axis=-1, prepend=np.zeros_like(plain[..., :1]))
        other = zlib.compress(differences.tobytes(), 9)
        if len(other) < len(packed):
            packed, delta = other, "1"
    shape = ",".join(map(str, plain.shape))
    text = base64.b64encode(packed).decode()
    return {"name": name, "type": plain.dtype.name, "shape": shape, "delta": delta, "text": text}


def _inert(words: Mapping[str, Any]) -> Markup:
    """JSON that no name in it can break out of."""
    return Markup(json.dumps(strict(words), ensure_ascii=False).replace("<", "\\u003c"))


def _heat() -> npt.NDArray[np.uint8]:
    """256 colours from nothing to most, (256, 3)."""
    from matplotlib import colormaps

    return np.asarray(np.rint(255 * colormaps[HEAT](np.arange(256))[:, :3]), dtype=np.uint8)


def variables(colours: Mapping[str, str]) -> Markup:
    """Declarations of the CSS variables that hold the house's colours."""
    return Markup("".join(f"{variable(name)}:{colour};" for name, colour in colours.items()))
