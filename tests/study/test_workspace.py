"""Run folders: resumed after a kill, owned by one process, finished once, clean after a refusal."""

import math
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pydantic
import pytest

from scorescope.foundation import UserError
from scorescope.study import Results, open_run
from scorescope.study import workspace as workspace_module
from scorescope.study.workspace import available_device, first_difference

CHILD = """
import sys, time
from scorescope.study import open_run
with open_run(sys.argv[1], "test", {"steps": 3}) as workspace:
    workspace.computed("first", lambda: {"value": 7})
    def stuck():
        print("stuck", flush=True)
        time.sleep(60)
    workspace.computed("second", stuck)
"""


def never():
    pytest.fail("a finished cell was computed again")


@pytest.mark.slow
def test_a_killed_run_is_locked_while_it_lives_and_goes_on_afterwards(tmp_path):
    folder = tmp_path / "run"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "stuck\n"
        with pytest.raises(UserError, match="another process is working in"), open_run(folder, "test", {"steps": 3}):
            pass
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    with open_run(folder, "test", {"steps": 3}) as workspace:
        assert workspace.done("first")
        assert not workspace.done("second")
        assert workspace.computed("first", never) == {"value": 7}
        assert workspace.computed("second", lambda: [1]) == [1]


def test_a_cell_that_fails_stores_nothing_and_keeps_the_others(tmp_path):
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path / "run", "test", {}) as workspace:
        workspace.computed("a/b", lambda: 1.5)

        def interrupted():
            raise KeyboardInterrupt

        workspace.computed("c", interrupted)
    with open_run(tmp_path / "run", "test", {}) as workspace:
        assert workspace.computed("a/b", never) == 1.5
        assert not workspace.done("c")
        assert not workspace.done("a")


def test_values_come_back_as_they_were_at_once_and_later(tmp_path):
    value = {
        "curves": {"psnr/train": np.linspace(0, 1, 3), "image": np.zeros((1, 2), np.uint8)},
        "rows": [pd.DataFrame({"N": [1, 2], "name": ["a", "NA"]}), None, True, 3, "text"],
        "numbers": [math.inf, -math.inf, math.nan, np.float32(0.5), 1 / 3],
    }
    with open_run(tmp_path / "run", "test", {}) as workspace:
        for found in (workspace.computed("cell", lambda: value), workspace.computed("cell", never)):
            np.testing.assert_array_equal(found["curves"]["psnr/train"], value["curves"]["psnr/train"])
            assert found["curves"]["image"].dtype == np.uint8
            assert list(found["rows"][0]["name"]) == ["a", "NA"]
            assert found["rows"][1:] == [None, True, 3, "text"]
            np.testing.assert_array_equal(found["numbers"], [math.inf, -math.inf, math.nan, 0.5, 1 / 3])
        assert workspace.timings["cell"] >= 0


@pytest.mark.parametrize("value", [object(), {1: 2}, {"$kind": "array"}, np.array([None])])
def test_values_that_cannot_be_stored_are_refused_and_leave_no_cell(tmp_path, value):
    with open_run(tmp_path / "run", "test", {}) as workspace:
        with pytest.raises((TypeError, ValueError)):
            workspace.computed("cell", lambda: value)
        assert not workspace.done("cell")
        assert list((workspace.folder / "cells").iterdir()) == []


def test_other_settings_are_refused_by_name(tmp_path):
    class Training(pydantic.BaseModel):
        steps: int = 3

    class Config(pydantic.BaseModel):
        training: Training = Training()
        data: str = "digits"

    with open_run(tmp_path / "run", "test", Config()):
        pass
    with open_run(tmp_path / "run", "test", Config()):
        pass
    other = Config(training=Training(steps=4))
    with (
        pytest.raises(UserError, match=r"training\.steps was 3 and is now 4"),
        open_run(tmp_path / "run", "test", other),
    ):
        pass
    with (
        pytest.raises(UserError, match='study was "test" and is now "other"'),
        open_run(tmp_path / "run", "other", Config()),
    ):
        pass


def test_differences_in_keys_are_found():
    assert first_difference({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}) == ""
    assert first_difference({"a": 1}, {"a": 1, "b": 2}) == "b was null and is now 2"
    assert first_difference({"a": [1, 2]}, {"a": [1]}) == "a was [1, 2] and is now [1]"


def test_a_finished_run_is_left_alone_and_holds_no_cells(tmp_path):
    with open_run(tmp_path / "run", "test", {"steps": 3}) as workspace:
        workspace.computed("cell", lambda: 1)
        workspace.store(Results(study="test", title="A test"))
        workspace.finish()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"finished run.*--out"), open_run(tmp_path / "run", "test", {"steps": 3}):
        pass
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert not (tmp_path / "run" / "cells").exists()
    stored = Results.load(tmp_path / "run")
    assert stored.config == {"steps": 3}
    assert list(stored.timings) == ["cell"]
    assert stored.environment["device"] == "cpu"


def test_folders_that_are_no_runs_are_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "file").touch()
    for name in ("photos", "file"):
        with pytest.raises(UserError, match="--out"), open_run(tmp_path / name, "test", {}):
            pass
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    (tmp_path / "empty").mkdir()
    with open_run(tmp_path / "empty", "test", {}):
        pass


def test_a_refusal_before_the_first_cell_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="no such data"), open_run(tmp_path / "run", "test", {}):
        raise UserError("no such data")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="no such data"), open_run(tmp_path / "runs" / "deep" / "run", "test", {}):
        raise UserError("no such data")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    with pytest.raises(UserError, match="no such data"), open_run(tmp_path / "kept" / "run", "test", {}):
        raise UserError("no such data")
    assert (tmp_path / "kept").is_dir()
    with pytest.raises(UserError, match="disk"), open_run(tmp_path / "run", "test", {}) as workspace:
        workspace.computed("cell", lambda: 1)
        raise UserError("the disk is full")
    assert (tmp_path / "run" / "cells" / "cell").is_dir()


def test_a_full_disk_at_the_start_leaves_no_folder(tmp_path, monkeypatch):
    def full(path, value):
        raise UserError(f"the disk is full: {path} was not written")

    monkeypatch.setattr(workspace_module, "write_strict_json", full)
    with pytest.raises(UserError, match="disk is full"), open_run(tmp_path / "run", "test", {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_networks_are_found_by_what_they_are(tmp_path):
    with open_run(tmp_path / "run", "test", {}, cache=tmp_path / "cache") as workspace:
        key = {"width": 16, "data": "abc", "sigmas": (0.1, 2)}
        folder = workspace.network_folder(key)
        assert folder == workspace.network_folder(dict(reversed(key.items())))
        assert folder != workspace.network_folder(key | {"width": 8})
        assert folder.parent == tmp_path / "cache" / "networks"
        assert not folder.parent.exists()


def test_the_cache_is_the_one_of_the_data_unless_another_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "elsewhere"))
    for cache, expected in ((None, tmp_path / "elsewhere"), (tmp_path / "given", tmp_path / "given")):
        with open_run(tmp_path / expected.name / "run", "test", {}, cache=cache) as workspace:
            assert workspace.cache == expected


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_devices_that_are_not_there_are_refused_in_one_line(tmp_path, name):
    with pytest.raises(UserError, match="--device") as caught, open_run(tmp_path / "run", "test", {}, device=name):
        pass
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert available_device("cpu").type == "cpu"
