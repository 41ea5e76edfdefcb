"""Denoisers and lenses of the user's own: a Python file that registers them, run by its owner's wish."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from scorescope.denoisers.registry import denoisers
from scorescope.foundation import UserError
from scorescope.lenses.base import lenses


def load_plugins(files: Sequence[Path]) -> list[str]:
    """Run Python files that register denoisers with `training_free` or lenses with `lens`; the names they added.

    Raises UserError if a file is missing, fails, or registers nothing.
    """
    added: list[str] = []
    for file in files:
        before = {*denoisers, *lenses}
        spec = importlib.util.spec_from_file_location(file.stem, file) if file.is_file() else None
        if spec is None or spec.loader is None:
            raise UserError(f"--plugin {file}: there is no Python file there")
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except (Exception, SystemExit) as error:
            raise UserError(f"--plugin {file} fails: {type(error).__name__}: {error}") from error
        new = [name for name in (*denoisers, *lenses) if name not in before]
        if not new:
            raise UserError(
                f"--plugin {file} registers nothing: decorate a denoiser with @training_free(...), a lens with @lens(...)"
            )
        added += new
    return added
