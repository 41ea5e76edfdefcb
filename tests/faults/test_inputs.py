"""Every line of `inputs.txt`, given as a user gives it: exit code, what is said, and that nothing that was there changed."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from scorescope.cli.main import main
from tests.faults.material import make

TABLE = Path(__file__).with_name("inputs.txt")


class Case(NamedTuple):
    """One line of the table.

    Attributes:
        number: of the line.
        words: of the command.
        code: expected exit code.
        phrase: that is in what is said.
    """

    number: int
    words: list[str]
    code: int
    phrase: str


def cases() -> list[Case]:
    """All cases of the table: ``CODE | COMMAND LINE | PHRASE``; a ``#`` begins a remark."""
    found = []
    for number, line in enumerate(TABLE.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            code, command, phrase = (part.strip() for part in re.split(r"\s\|\s", line, maxsplit=2))
            found.append(Case(number, shlex.split(command), int(code), phrase))
    return found


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """The folder that commands are given in."""
    folder = tmp_path_factory.mktemp("material")
    make(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything in a folder."""
    found = {}
    for top, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(top, name)
            status = os.lstat(path)
            found[os.path.relpath(path, folder)] = (
                status.st_size if name in files else 0,
                status.st_mtime_ns * (name in files),
            )
    return found


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"line {case.number}")
def test_what_is_said_and_that_nothing_is_lost(case, material, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path.parent / "cache"))
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(material)
    before = contents(material)
    words = [word.replace("OUT", str(tmp_path / "out")).replace("LONG", "x" * 300) for word in case.words]
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert left.value.code == case.code, said.err
    assert case.phrase in said.out + said.err
    assert contents(material) == before
    if case.code == 2:
        assert said.out == ""
        assert re.fullmatch(r"scorescope: .{1,1500}\n", said.err)
        assert list(tmp_path.iterdir()) == []
