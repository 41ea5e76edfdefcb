"""What a package offers, imported when it is first asked for: importing the package itself costs nothing (PEP 562).

A package says what it offers once, in imports that type checkers and import-linter read and that do not run::

    if TYPE_CHECKING:
        from scorescope.noise.forward import add_noise
    else:
        __getattr__, __dir__ = offered(__name__)

    __all__ = ["add_noise"]
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable


def offered(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__``, from the imports under its ``if TYPE_CHECKING``.

    Args:
        package: its ``__name__``; called while it is being imported.
    """
    module = sys.modules[package]
    homes: dict[str, tuple[str, str]] | None = None

    def found() -> dict[str, tuple[str, str]]:
        nonlocal homes
        if homes is None:
            homes = _homes(package)
        return homes

    def attribute(name: str) -> object:
        hidden = name.startswith("__") and name != "__version__"  # which inspect asks for, to find the source
        if hidden or name not in found():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, inside = found()[name]
        if home == package:
            return importlib.import_module(f"{package}.{inside}")
        value = getattr(importlib.import_module(home), inside)
        setattr(module, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *found()})

    return attribute, names


def _homes(package: str) -> dict[str, tuple[str, str]]:
    """Offered name -> the module that has it, and its name there."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.parse(inspect.getsource(sys.modules[package])).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                if isinstance(line, ast.ImportFrom) and line.module is not None:
                    found |= {alias.asname or alias.name: (line.module, alias.name) for alias in line.names}
    return found
