"""Docstrings as pages of the site: formulas drawn, names of other objects linked, code blocks as Markdown has them."""

from __future__ import annotations

import re
import textwrap

import griffe

from notation import to_latex

# Code, a name that may be a link, and what stands in a sentence as ``x_i`` does, without any marks.
SPAN = re.compile(
    r"``(?P<code>[^`]+)``|(?<![`\w])`(?P<name>[A-Za-z_][\w.]*)`(?!`)|(?<![\w`$^.{])(?P<bare>[A-Za-zα-ωΑ-Ω]_[A-Za-z0-9])(?![\w(`])"
)
BLOCK = re.compile(r"(?<=\n\n)(?:(?: {4}.*|[ ]*)\n)*(?: {4}.*)(?=\n|\Z)")


class Docstrings(griffe.Extension):
    """Rewrites every docstring once all modules are read, so that names of other modules are known."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: object) -> None:
        """Rewrite those of a package."""
        for owner in _objects(pkg):
            if owner.docstring:
                owner.docstring.value = rewritten(owner.docstring.value, owner)


def _objects(owner: griffe.Object) -> list[griffe.Object]:
    inside = [one for one in owner.members.values() if not one.is_alias]
    return [owner, *(found for one in inside for found in _objects(one))]


def rewritten(text: str, owner: griffe.Object | None = None) -> str:
    """A docstring in the Markdown of the site.

    Args:
        text: as the source has it.
        owner: whose it is; names are looked up from there.
    """
    text = re.sub(r"(?m)::$", ":", textwrap.dedent(text) if text.startswith(" ") else text)
    parts, at = [], 0
    for block in BLOCK.finditer(text + "\n"):
        parts += [_spans(text[at : block.start()], owner), _display(block[0])]
        at = block.end()
    return "".join([*parts, _spans(text[at:], owner)])


def _display(block: str) -> str:
    """An indented block: formulas, a line each, or else the code that it is."""
    lines = [line.strip() for line in block.splitlines() if line.strip()]
    formulas = [to_latex(line) for line in lines]
    if None in formulas:
        return block
    return "\n".join(f"$$\n{formula}\n$$\n" for formula in formulas)


def _spans(text: str, owner: griffe.Object | None) -> str:
    def one(match: re.Match[str]) -> str:
        if match["code"]:
            latex = to_latex(" ".join(match["code"].split()))
            return match[0] if latex is None else f"${latex}$"
        if match["bare"]:
            return "${}_{{{}}}$".format(*match["bare"].split("_"))
        path = owner and _path(match["name"], owner)
        return f"[`{match['name']}`][{path}]" if path else match[0]

    return SPAN.sub(one, text)


def _path(name: str, owner: griffe.Object) -> str | None:
    """The full name of what a docstring mentions, if the site has a place for it."""
    candidates = [name] if name.startswith("scorescope.") else []
    first, _, rest = name.partition(".")
    for at in (owner, owner.package):
        try:
            candidates.append(".".join(filter(None, [at.resolve(first), rest])))
        except griffe.NameResolutionError:
            continue
    for path in candidates:
        try:
            found = owner.modules_collection[path]
            target = found.final_target if found.is_alias else found
        except (griffe.GriffeError, KeyError):
            continue
        if _has_place(target) and target.path != owner.path:
            return str(target.path)
    return None


def _has_place(target: griffe.Object) -> bool:
    parts = target.path.split(".")
    hidden = parts[0] != "scorescope" or parts[1:2] == ["cli"] or any(part.startswith("_") for part in parts)
    return not hidden and target.kind.value in ("module", "class", "function") and target.has_docstring
