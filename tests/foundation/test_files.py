"""Files and folders are complete or absent."""

import errno
import os
import shutil

import pytest
from safetensors import SafetensorError

from scorescope.foundation import UserError, new_file, new_folder
from scorescope.foundation.files import write_json


def test_a_finished_file_appears_under_its_name_only(tmp_path):
    with new_file(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert (tmp_path / "deep" / "a.txt").read_text() == "whole"


def test_an_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), new_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_folder_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "store") as temporary:
        (temporary / "images.npy").write_bytes(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_untouched(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="already exists"), new_folder(tmp_path / "run"):
        raise AssertionError("the block must not run")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        shutil.Error([("a", "b", f"[Errno 28] {os.strerror(errno.ENOSPC)}: 'a' -> 'b'")]),
        OSError("1500 requested and 496 written"),
        SafetensorError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"),
    ],
)
def test_a_full_disk_is_one_clear_line(tmp_path, error):
    with pytest.raises(UserError, match="disk is full") as caught, new_file(tmp_path / "a"):
        raise error
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_new_folder_has_the_permissions_of_an_ordinary_one(tmp_path):
    (tmp_path / "ordinary").mkdir()
    with new_folder(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_json_is_readable(tmp_path):
    write_json(tmp_path / "a.json", {"σ": [1, 2.5]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8").startswith('{\n  "σ"')
