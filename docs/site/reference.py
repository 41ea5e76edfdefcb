"""The reference: a page a module, found in the source, and a page of all commands and options."""

from __future__ import annotations

import ast
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SOURCE = Path(__file__).resolve().parents[2] / "src" / "scorescope"
# In the order in which a reader meets them; what a person types, cli, has a page of its own.
ROOMS = (
    "app denoisers sampling networks training data noise probes"
    " variance lenses jobs study report papers posterior foundation"
)
HEADING = "Reference"


@functools.cache
def modules() -> tuple[Path, ...]:
    """Every public module that has a docstring, relative to the package, packages before what is in them."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE)
        hidden = any(part.startswith("_") and part != "__init__.py" for part in inside.parts)
        if not hidden and inside.parts[0] != "cli" and first_sentence(path):
            found.append(inside)
    return tuple(sorted(found, key=_place))


def _place(inside: Path) -> tuple[str, ...]:
    return (inside.parent if inside.name == "__init__.py" else inside.with_suffix("")).parts


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def dotted(inside: Path) -> str:
    """The name under which a module is imported."""
    parts = inside.parent.parts if inside.name == "__init__.py" else inside.with_suffix("").parts
    return ".".join(["scorescope", *parts])


def page_of(inside: Path) -> str:
    """Where the page of a module lies."""
    name = "index.md" if inside.name == "__init__.py" else f"{inside.stem}.md"
    return (Path("reference") / inside.parent / name).as_posix()


def text_of(inside: Path, known: Sequence[Path]) -> str:
    """The page of a module; that of a package lists what is in it."""
    name = dotted(inside)
    lines = ["---\nsearch:\n  boost: 0.4\n---\n"]  # behind the pages that explain
    if inside.name != "__init__.py":
        return "\n".join([*lines, f"::: {name}\n"])
    # What a package offers stands on the pages of its modules; only what the whole package offers is shown in one place.
    shown = "true" if inside == Path("__init__.py") else str(_defined(SOURCE / inside))
    lines += [f"::: {name}\n    options:\n      members: {shown}\n"]
    children = [one for one in known if one != inside and _parent(one) == inside.parent]
    if children:
        lines.append("\n| module | subject |\n| --- | --- |")
        for one in children:
            link = Path(page_of(one)).relative_to(Path("reference") / inside.parent).as_posix()
            sentence = first_sentence(SOURCE / one).replace("|", "\\|")
            lines.append(f"| [{one.parent.name if one.name == '__init__.py' else one.stem}]({link}) | {sentence} |")
    return "\n".join(lines) + "\n"


def _defined(path: Path) -> list[str]:
    """Functions and classes that a file itself defines."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


def _parent(inside: Path) -> Path:
    return inside.parent.parent if inside.name == "__init__.py" else inside.parent


def navigation(known: Sequence[Path], parent: Path = Path()) -> list[Any]:
    """The part of the navigation that leads to them."""
    entries: list[Any] = []
    for inside in known:
        if inside.name == "__init__.py" and inside.parent == parent:
            entries.insert(0, page_of(inside))
        elif inside.name != "__init__.py" and inside.parent == parent:
            entries.append({inside.stem: page_of(inside)})
    packages = [
        one.parent
        for one in known
        if one.name == "__init__.py" and one.parent != parent and one.parent.parent == parent
    ]
    if parent == Path():
        packages.sort(key=lambda one: ROOMS.split().index(one.name))
    return [*entries, *({package.name: navigation(known, package)} for package in packages)]


def commands() -> str:
    """All commands with their options, as ``--help`` says them."""
    from scorescope.cli.main import app

    lines = [
        "# Commands\n",
        "What `scorescope COMMAND --help` says, in one place. `--debug`, anywhere, shows the traceback of an error.\n",
    ]
    for words, command in _leaves(typer.main.get_command(app), ["scorescope"]):
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option"]
        usage = " ".join([*words, *(one.name.upper() for one in arguments), "[OPTIONS]"])
        lines.append(f"## {' '.join(words[1:])}\n\n{' '.join((command.help or '').split())}\n\n```text\n{usage}\n```\n")
        rows = [(f"`{one.name.upper()}`", one.help) for one in arguments]
        rows += [(", ".join(f"`{name}`" for name in one.opts), _said(one)) for one in options if one.name != "help"]
        if rows:
            lines.append("| option | |\n| --- | --- |")
            lines += [f"| {name} | {_cell(said)} |" for name, said in rows]
            lines.append("")
    return "\n".join(lines)


def _leaves(command: Any, words: list[str]) -> list[tuple[list[str], Any]]:
    if not hasattr(command, "commands"):
        return [(words, command)]
    return [leaf for name, one in command.commands.items() for leaf in _leaves(one, [*words, name])]


def _said(option: Any) -> str:
    needed = " *Required.*" if option.required else ""
    usual = (
        f" Default: {option.default}." if isinstance(option.default, (int, float, str)) and not option.is_flag else ""
    )
    return f"{option.help or ''}{'.' if usual and not (option.help or '').endswith('.') else ''}{usual}{needed}"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def on_config(config: MkDocsConfig, **_: Any) -> MkDocsConfig:
    """Fill in the navigation."""
    for entry in config.nav or []:
        if HEADING in entry:
            entry[HEADING] = [{"Commands": "reference/commands.md"}, *navigation(modules())]
    return config


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages."""
    known = modules()
    for inside in known:
        files.append(File.generated(config, page_of(inside), content=text_of(inside, known)))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files
