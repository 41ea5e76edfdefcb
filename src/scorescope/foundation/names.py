"""Names and settings that somebody typed: one that nobody knows is answered with the nearest, and all that are known."""

from __future__ import annotations

from collections.abc import Sequence

from scorescope.foundation.errors import UserError


def unknown_name(kind: str, name: str, known: Sequence[str]) -> str:
    """The sentence for an unknown name: what was asked, the nearest known name, and all that are known."""
    import difflib

    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    meant = f"; did you mean {nearest[0]!r}?" if nearest else ";"
    return f"no {kind} is called {name!r}{meant} known: {', '.join(known)}"


def check_setting(override: str, known: Sequence[str]) -> tuple[str, str]:
    """Key and value of a setting as a command line gives it, KEY=VALUE.

    Args:
        override: what was given.
        known: the settings that there are, by dotted name ("training.steps").

    Raises:
        UserError: no value, an unknown key, or the name of a group of settings.
    """
    key, equals, value = (part.strip() for part in override.partition("="))
    if not equals:
        raise UserError(f"a setting is written KEY=VALUE, not {override!r}")
    if key not in known:
        inside = [name for name in known if name.startswith(key + ".")]
        if inside:
            raise UserError(f"{key!r} is a group of settings: set one of {', '.join(inside)}")
        raise UserError(unknown_name("setting", key, known))
    return key, value
