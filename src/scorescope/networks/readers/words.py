"""What a command line says of a checkpoint, checked before anything heavy is imported: its path, arguments NAME=VALUE."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scorescope.foundation import UserError

ACCEPTED = "accepted are a scorescope folder, an EDM .pkl, a .pt, .pth or .safetensors state dict, and a local diffusers folder"


def check_there(path: Path) -> None:
    """Raise UserError if nothing is at a checkpoint's path."""
    if path.exists():
        return
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and not path.parent.exists()
    next_step = f": check the path; {ACCEPTED}"
    if hub:
        next_step = f", and names on a hub are not looked up: download {path} first, and give its folder"
    raise UserError(f"{path} was not opened: there is no such checkpoint{next_step}")


def arguments_from(words: Sequence[str]) -> dict[str, Any]:
    """Arguments from ``NAME=VALUE`` words, values as JSON or else as they stand. Raises UserError for another form."""
    arguments = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UserError(f"an argument of the architecture is written NAME=VALUE, not {word!r}")
        try:
            arguments[name] = json.loads(text)
        except ValueError:
            arguments[name] = text
    return arguments
