"""Results in a run folder: what was saved comes back, strictly as JSON, and damage is answered in one line."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scorescope.foundation import UserError
from scorescope.study import Claim, Results, Rule, charts, pictures
from scorescope.study.storage import frame_dtypes, read_frame, strict, write_frame


def small_results() -> Results:
    results = Results(study="test/study", title="A test", headline="It works.", question="Does it?", paper="a paper")
    results.add_verdict("N = 3", "memorizes", "all copies")
    results.introductions["One"] = "What is there to see."
    line = charts.Series("optimal", [0.1, 1.0, 10.0], [1.0, math.nan, 3.0])
    results.add_chart("curve", "A curve", "It bends.", "One", charts.lines(charts.Panel([line], "error")))
    tiles = np.linspace(-1, 1, 2 * 3 * 16).reshape(2, 3, 1, 4, 4)
    results.add_sheet(
        "sheet", "A sheet", "Grey.", "Two", pictures.grid(tiles, ["up", "down"], ["a", "b", "c"]), alt="grey"
    )
    frame = pd.DataFrame({"N": [1, 2], "gap": [0.1, math.nan], "name": ["007", "NA"], "copied": [True, False]})
    results.add_table("numbers", "Numbers", "Some.", frame, formats={"gap": ".2f"}, units={"gap": "dB"})
    results.arrays = {"samples/A": np.arange(6, dtype=np.float32).reshape(2, 3), "file": np.array([True])}
    results.claims.append(Claim("It grows.", "paper", "growth", math.nan, Rule(above=0.0)))
    results.claims.append(Claim("It grows.", "paper", "growth", 1.0, Rule(above=0.0), interval=(0.5, 1.5)))
    results.methods["Data"] = "made up"
    results.config = {"steps": 3, "rate": 0.5}
    results.environment = {"Python": "3"}
    results.timings = {"all": 1.5}
    return results


def test_what_was_saved_comes_back(tmp_path):
    before = small_results()
    before.save(tmp_path)
    after = Results.load(tmp_path)
    for name in ("study", "title", "headline", "question", "paper", "verdicts", "introductions", "figures", "claims",
                 "methods", "config", "environment", "timings"):  # fmt: skip
        assert getattr(after, name) == getattr(before, name), name
    assert list(after.arrays) == list(before.arrays)
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], array)
        assert after.arrays[name].dtype == array.dtype
    table, stored = before.tables["numbers"], after.tables["numbers"]
    assert (stored.title, stored.caption, stored.formats, stored.units) == (
        "Numbers",
        "Some.",
        {"gap": ".2f"},
        {"gap": "dB"},
    )
    pd.testing.assert_frame_equal(stored.frame, table.frame, check_dtype=False)
    assert frame_dtypes(stored.frame) == frame_dtypes(table.frame)


def test_the_run_folder_holds_what_its_readers_expect(tmp_path):
    small_results().save(tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"results.json", "arrays.npz", "tables/numbers.csv", "figures/curve.svg", "figures/sheet.png"}


def test_results_are_strict_json(tmp_path):
    results = small_results()
    results.timings["never"] = math.nan
    results.save(tmp_path)
    refuse = pytest.fail
    record = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda text: refuse(f"{text} in JSON"))
    assert record["timings"]["never"] is None
    assert record["claims"][0]["value"] is None
    assert record["schema"] == 1


def test_strict_refuses_what_json_cannot_say():
    assert strict({1: (np.float32(0.5), np.inf, np.arange(2), None)}) == {"1": [0.5, None, [0, 1], None]}
    with pytest.raises(TypeError, match="object"):
        strict({"x": object()})


def test_tables_come_back_with_their_types(tmp_path):
    frame = pd.DataFrame(
        {"text": ["1", "nan", ""], "whole": [1, 2, 3], "real": [1 / 3, math.inf, math.nan], "flag": [True, False, True]}
    )
    write_frame(tmp_path / "t.csv", frame)
    back = read_frame(tmp_path / "t.csv", frame_dtypes(frame))
    assert list(back["text"]) == ["1", "nan", ""]
    assert back["whole"].dtype == np.int64
    assert back["flag"].dtype == bool
    np.testing.assert_array_equal(back["real"], frame["real"])


@pytest.mark.parametrize("missing", ["results.json", "figures/curve.svg", "tables/numbers.csv", "arrays.npz"])
def test_a_missing_file_is_named(tmp_path, missing):
    small_results().save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match="is missing") as caught:
        Results.load(tmp_path)
    assert missing in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content"),
    [("results.json", "{"), ("results.json", '{"schema": 99}'), ("results.json", '{"schema": 1}'), ("results.json", "[]"),
     ("arrays.npz", "no zip"), ("tables/numbers.csv", "a,b\n1,2\n")],
)  # fmt: skip
def test_damage_is_one_line(tmp_path, file, content):
    small_results().save(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError) as caught:
        Results.load(tmp_path)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_arrays_of_objects_are_refused(tmp_path):
    results = small_results()
    results.arrays["objects"] = np.array([{}, None], dtype=object)
    with pytest.raises(ValueError, match="Object arrays"):
        results.save(tmp_path)
    assert not (tmp_path / "arrays.npz").exists()
    assert not (tmp_path / "results.json").exists()


def test_files_become_figures(tmp_path):
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "grey.png")
    (tmp_path / "box.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>')
    (tmp_path / "text.txt").write_text("no picture")
    results = Results(study="s", title="t")
    results.add_file("grey", "Grey", "All of it.", "One", tmp_path / "grey.png")
    results.add_file("box", "Box", "A box.", "One", tmp_path / "box.svg")
    assert [(figure.kind, figure.suffix) for figure in results.figures] == [("pictures", ".png"), ("chart", ".svg")]
    with pytest.raises(ValueError, match=r"not text\.txt"):
        results.add_file("text", "Text", "None.", "One", tmp_path / "text.txt")


def test_names_are_unique_and_fit_for_files():
    results = small_results()
    figure = charts.bars({"a": 1.0}, "length")
    with pytest.raises(ValueError, match="already"):
        results.add_chart("curve", "t", "c", "s", figure)
    with pytest.raises(ValueError, match="file's name"):
        results.add_chart("../curve", "t", "c", "s", figure)
    with pytest.raises(ValueError, match="no column 'x'"):
        results.add_table("other", "t", "c", pd.DataFrame({"a": [1]}), formats={"x": ".2f"})
    with pytest.raises(ValueError, match="undecided"):
        results.add_verdict("N = 3", "remembers")
