"""What a command was told, checked before anything heavy is imported: a wrong path or name is answered at once.

Whatever needs the contents of a checkpoint or of images is checked where they are opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scorescope.foundation import UserError
from scorescope.foundation.catalogue import check_listed, listed
from scorescope.foundation.devices import check_device
from scorescope.foundation.names import check_setting, unknown_name

__all__ = ["check_data", "check_device", "check_plugins", "check_run_folder", "check_study"]


def check_data(*names: str | None) -> None:
    """Raise UserError for a name that is no data set's, options that it does not take, and a store that cannot be opened."""
    from scorescope.data import load_images, parse_builtin

    for name in names:
        if name is not None and parse_builtin(name) is None:
            load_images(name)


def check_plugins(files: Sequence[Path]) -> None:
    """Raise UserError for a plugin that is not there."""
    for file in files:
        if not file.is_file():
            raise UserError(f"--plugin {file}: there is no Python file there")


def check_study(name: str, preset: str, overrides: Sequence[str]) -> None:
    """Raise UserError for an unknown study, preset or setting; values are checked by the study."""
    check_listed("studies", "study", name)
    entry = listed("studies")[name]
    if preset not in (presets := entry["presets"].split(", ")):
        raise UserError(unknown_name(f"preset of {name}", preset, presets))
    for override in overrides:
        check_setting(override, entry["settings"].split())


def check_run_folder(folder: Path) -> None:
    """Raise UserError if a run can neither be made nor gone on with there."""
    from scorescope.study.workspace import check_unfinished

    check_unfinished(folder)
