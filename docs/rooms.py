"""``python docs/rooms.py``: draw ``docs/rooms.svg``, the rooms of the package and who imports whom, from the code itself.

Rows are the rooms, from the top layer of the import contract in ``pyproject.toml`` down, each with the first sentence of its
package. A dot in a column says that modules of the row's room import that column's room, its size how many do. All dots are
right of the diagonal: imports go down.
"""

from __future__ import annotations

import ast
import math
import tomllib
from collections import Counter
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "scorescope"
SOURCE = ROOT / "src" / PACKAGE
ROW, LEFT, NAME, WORDS, RADIUS, RIGHT = 30, 16, 96, 540, 11.0, 44
STYLE = """
text { font: 13px system-ui, "Segoe UI", "Liberation Sans", Arial, sans-serif; fill: #1f2328; }
.words { fill: #5c636b; font-size: 12px; } .name { font-weight: 640; } .line { stroke: #d9dce0; } .dot { fill: #0065ab; }
.band { fill: #f4f5f6; } .own { fill: #d9dce0; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6e8ea; } .words { fill: #a5abb2; } .line { stroke: #3a3f45; } .dot { fill: #5aa9e6; } .band { fill: #1d2126; }
  .own { fill: #3a3f45; }
}
"""


def layers() -> list[list[str]]:
    """The rooms of every layer, from the top down, as the import contract has them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["type"] == "layers"]
    return [[room.strip().removeprefix(f"{PACKAGE}.") for room in layer.split("|")] for layer in contract["layers"]]


def imports() -> Counter[tuple[str, str]]:
    """(room, imported room) -> how many modules of the first import the second, anywhere in their code."""
    found: Counter[tuple[str, str]] = Counter()
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0]
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            names |= {name.split(".")[1] for name in modules if name.startswith(f"{PACKAGE}.")}
        found.update((room, other) for other in names if other != room)
    return found


def said(room: str) -> str:
    """The first sentence of a package's documentation."""
    text = ast.get_docstring(ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    sentence = " ".join(text.replace("`", "").split("\n\n")[0].split()).split(". ")[0].rstrip(".")
    return sentence if len(sentence) <= 84 else sentence[:83].rsplit(" ", 1)[0].rstrip(",:") + " …"


def picture() -> str:
    """The drawing as SVG."""
    rows = layers()
    rooms = [room for layer in rows for room in layer]
    found = imports()
    across = LEFT + NAME + WORDS
    top = 86
    width, height = across + ROW * len(rooms) + RIGHT, top + ROW * len(rooms) + LEFT
    most = max(found.values())
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">']
    out.append("<title>The rooms of the package: a dot in a row says that the room imports the column's room</title>")
    out.append(f"<style>{STYLE}</style>")
    place = 0
    for number, layer in enumerate(rows):
        if number % 2 == 0:
            y = top + ROW * place
            out.append(f'<rect class="band" x="0" y="{y}" width="{width}" height="{ROW * len(layer)}"/>')
        place += len(layer)
    for place in range(len(rooms)):
        x = across + ROW * (place + 0.5)
        out.append(f'<line class="line" x1="{x}" y1="{top}" x2="{x}" y2="{height - LEFT}"/>')
    for place, room in enumerate(rooms):
        y, x = top + ROW * (place + 0.5), across + ROW * (place + 0.5)
        out.append(f'<text class="name" x="{LEFT}" y="{y + 4}">{escape(room)}</text>')
        out.append(f'<text class="words" x="{LEFT + NAME}" y="{y + 4}">{escape(said(room))}</text>')
        out.append(f'<text class="words" transform="translate({x + 4} {top - 8}) rotate(-60)">{escape(room)}</text>')
        out.append(f'<rect class="own" x="{x - 6}" y="{y - 6}" width="12" height="12"/>')
        for other in rooms:
            if count := found[room, other]:
                radius = max(2.5, RADIUS * math.sqrt(count / most))
                column = across + ROW * (rooms.index(other) + 0.5)
                words = f"{count} module{'s' if count > 1 else ''} of {room} import {other}"
                out.append(
                    f'<circle class="dot" cx="{column}" cy="{y}" r="{radius:.1f}"><title>{words}</title></circle>'
                )
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    target = Path(__file__).with_name("rooms.svg")
    target.write_text(picture(), encoding="utf-8")
    print(f"written: {target}")
