"""Commands as a user types them, in this process, with a cache of their own."""

import os
import subprocess
import sys

import pytest

from scorescope.cli.main import main


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of its own for these tests, shared among them."""
    folder = tmp_path_factory.getbasetemp() / "command-cache"
    monkeypatch.setenv("SCORESCOPE_CACHE", str(folder))
    return folder


def run(capsys, *words):
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


def refused(capsys, *words):
    """The one line that a refused command prints."""
    code, out, err = run(capsys, *words)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    return err


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A network trained on 200 digits, by the command itself."""
    folder = tmp_path_factory.mktemp("trained") / "net"
    environment = os.environ | {"SCORESCOPE_CACHE": str(tmp_path_factory.getbasetemp() / "command-cache")}
    words = ["train", "--data", "digits", "--size", "200", "--preset", "tiny", "--steps", "150", "--out", str(folder)]
    subprocess.run([sys.executable, "-m", "scorescope", *words], check=True, env=environment)
    return folder
