"""Every name that a command takes, with what stands behind it, known without importing any of it.

The file ``catalogue.json`` beside the package's rooms is written from the registries by ``python -m scorescope.app.catalogue``;
a test compares the two. A name of the user's own, of a plugin, is not in it, and becomes known by being registered.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scorescope.foundation.errors import UserError
from scorescope.foundation.names import unknown_name

FILE = Path(__file__).parents[1] / "catalogue.json"
Rows = dict[str, dict[str, Any]]
_kinds: dict[str, Rows] | None = None


def listed(kind: str) -> Rows:
    """Name -> what is said of it and the ``module`` that registers it, for "denoisers", "networks", "studies" and the like."""
    global _kinds
    if _kinds is None:
        _kinds = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return _kinds.get(kind, {})


def forget() -> None:
    """Begin without any name, for who writes the file anew: called before a registry is imported."""
    global _kinds
    _kinds = {}


def check_listed(kind: str, what: str, name: str) -> None:
    """Raise UserError with the nearest known name, unless there is a `what` of that name ("denoiser")."""
    if name not in listed(kind):
        raise UserError(unknown_name(what, name, list(listed(kind))))
