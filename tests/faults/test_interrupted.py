"""Ctrl-C at any moment of any command: one line, exit code 130, nothing half-written, and runs that go on where they were."""

from __future__ import annotations

import inspect
import re
import signal
import sys
from pathlib import Path

import pytest

from scorescope.cli.main import _called, main
from tests.faults.test_inputs import contents, material  # noqa: F401 (a fixture)

PACKAGE = str(Path(sys.modules["scorescope"].__file__ or "").parent)
WRITING = {
    "import": "data import photos --out OUT",
    "duplicates": "data duplicates constant --out OUT --pictures OUT.png",
    "sample": "sample --denoiser gaussian --data store --count 4 --steps 3 --out OUT.png",
    "sample of a model": "sample --model edm.pkl --count 2 --steps 2 --out OUT.png",
    "denoise": "denoise --denoiser optimal --data store --sigma 0.5 --count 4 --out OUT.png",
    "restore": "restore --denoiser gaussian --data store --problem inpainting --h 0.5 --count 1 --each 1 --out OUT.png",
    "check": "model check edm.pkl --data store",
    "info": "model info edm.pkl --json",
    "built-in data": "data info disks:n=4,test_n=3,size=8",
}
QUICKEST = "audit of a model"
RUNS = {
    "train": "train --data store --preset tiny --size 4 --steps 4 --batch 2 --set observe_every=2 --set samples=1 --out OUT",
    "explain": "explain --model edm.pkl --data store --preset tiny --lens memorization --set measurement.samples=4 --out OUT",
    "audit": "audit --data store --samples photos --preset tiny --features pixels --out OUT",
    QUICKEST: "audit --data store --model edm.pkl --count 4 --preset tiny --features pixels --out OUT",
}


class Interrupted:
    """Presses Ctrl-C at the `at`-th call of a function of this package within a command; counts them.

    Args:
        at: None for never.
    """

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.calls = 0
        self.command = None

    def __call__(self, frame, event, _):
        if event == "call" and frame.f_code is _called.__code__:
            self.command = frame
        elif event == "return" and frame is self.command:
            self.command = None
        elif event == "call" and self.command and frame.f_code.co_filename.startswith(PACKAGE):
            if frame.f_code.co_flags & inspect.CO_GENERATOR:  # Python ignores what is raised where one is closed
                return
            self.calls += 1
            if self.calls == self.at:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    def run(self, line: str, out: Path) -> int:
        words = [word.replace("OUT", str(out)) for word in line.split()]
        sys.setprofile(self)
        try:
            with pytest.raises(SystemExit) as left:
                main(words)
        finally:
            sys.setprofile(None)
        return int(left.value.code or 0)


@pytest.fixture
def place(material, tmp_path, monkeypatch):  # noqa: F811
    """The folder that a command writes into, beside a cache of its own."""
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "whole" / "cache"))
    monkeypatch.chdir(material)
    monkeypatch.setattr(signal, "getsignal", _heeded(signal.getsignal))
    before = contents(material)
    yield tmp_path
    assert contents(material) == before


def _heeded(found):
    """A process in the background of a shell ignores SIGINT, which Python then leaves so: here it is heeded."""
    if found(signal.SIGINT) is not signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return found


def unfinished(folder: Path) -> list[Path]:
    """What a writer left under a temporary name."""
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def interrupted(line: str, at: int, place: Path, capsys: pytest.CaptureFixture[str], kept: bool) -> None:
    assert Interrupted(at).run(line, place / "out") == 130
    said = capsys.readouterr().err.splitlines()
    spoken = [words for words in said if not re.match(r"report, growing: |scorescope: warning: ", words)]
    promised = "goes on where it was" if kept else "starts again; nothing half-written is left"
    assert spoken == [f"scorescope: interrupted; the same command {promised}"]
    assert unfinished(place) == []


@pytest.mark.slow
@pytest.mark.parametrize("line", WRITING.values(), ids=WRITING)
def test_a_command_that_is_interrupted_leaves_nothing(line, place, capsys, monkeypatch):
    for name in ("first", "whole"):  # the first one loads modules, which the others find loaded
        whole = Interrupted(None)
        monkeypatch.setenv("SCORESCOPE_CACHE", str(place / name / "cache"))
        assert whole.run(line, place / name / "out") == 0
    capsys.readouterr()
    for share in (0.02, 0.3, 0.6, 0.9):
        now = place / f"{share}"
        now.mkdir()
        monkeypatch.setenv("SCORESCOPE_CACHE", str(now / "cache"))
        interrupted(line, max(1, round(share * whole.calls)), now, capsys, kept=False)
        # What is there is complete: the interruption came when the command had only to speak of it.
        left, complete = contents(now), contents(place / "whole")
        files = {name for name in left if (now / name).is_file()}
        assert files <= set(complete)
        assert all((now / name).stat().st_size == (place / "whole" / name).stat().st_size for name in files)
        for folder in [path for path in now.rglob("out") if path.is_dir()]:
            assert {path.name for path in folder.iterdir()} == {
                path.name for path in (place / "whole" / "out").iterdir()
            }


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, marks=pytest.mark.slow if name == QUICKEST else pytest.mark.exhaustive, id=name)
        for name, line in RUNS.items()
    ],
)
def test_a_run_that_is_interrupted_goes_on(line, place, capsys):
    whole = Interrupted(None)
    assert whole.run(line, place / "whole") == 0
    capsys.readouterr()
    for share in (0.15, 0.6):
        now = place / f"{share}"
        now.mkdir()
        interrupted(line, round(share * whole.calls), now, capsys, kept=True)
    assert Interrupted(None).run(line, now / "out") == 0
    first, again = ((folder / "results.json").read_text(encoding="utf-8") for folder in (place / "whole", now / "out"))
    assert re.findall(r'"(?:headline|explanation)": .*', first) == re.findall(r'"(?:headline|explanation)": .*', again)
