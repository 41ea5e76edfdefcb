"""Code blocks of the documentation, and how tests run them: what a comment before a block replaces, or that none runs it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?:^<!-- (?P<kind>test|untested|elsewhere): (?P<note>.*?) -->\n\n?)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        page: the file, from the top of the repository.
        line: where it begins.
        language: as the fence says.
        code: as the test runs it.
        untested: why none does; empty if one does.
        elsewhere: the test that runs it instead, and how.
        leaves_with: exit code of its commands.
        unused: replacements that nothing was found for.
    """

    page: str
    line: int
    language: str
    code: str
    untested: str = ""
    elsewhere: str = ""
    leaves_with: int = 0
    unused: list[str] = field(default_factory=list)

    @property
    def commands(self) -> list[list[str]]:
        """Its command lines, each as words; comments and line breaks that a backslash continues are gone."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def pages() -> list[Path]:
    """The README and all pages of the site."""
    return [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [_block(page, text, match) for match in BLOCK.finditer(text)]


def _block(page: Path, text: str, match: re.Match[str]) -> Block:
    where = (page.relative_to(TOP).as_posix(), text.count("\n", 0, match.start("code")), match["language"])
    note = " ".join((match["note"] or "").split())
    if match["kind"] in ("untested", "elsewhere"):
        return Block(*where, match["code"], **{match["kind"]: note})
    code, left, unused = match["code"], 0, []
    for change in filter(None, note.split(" | ")):
        if change.startswith("exit "):
            left = int(change.removeprefix("exit "))
            continue
        old, _, new = change.partition("=>")
        if old.strip() not in code:
            unused.append(change)
        code = code.replace(old.strip(), new.strip())
    return Block(*where, code, leaves_with=left, unused=unused)
