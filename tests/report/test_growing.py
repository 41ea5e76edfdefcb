"""The page of a run that is not finished: there from the first cell on, valid at any time, and plain again at the end."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pydantic
import pytest
from tests.report.test_page import Page

from scorescope.foundation import UserError
from scorescope.report import REPORT_FILE, run_study
from scorescope.study import Results, Study, Workspace


class Config(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    cells: int = 4


class Counting(Study[Config]):
    """Shows a verdict after every second cell, and reads its own page while every cell is computed."""

    name = "test/counting"
    title = "Counting"
    question = "How far can it count?"
    paper = "A primer"
    Config = Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": {}, "small": {}, "paper": {}}

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.pages: list[str] = []

    def run(self, config: Config, workspace: Workspace) -> Results:
        found: list[int] = []
        for index in range(config.cells):
            found.append(workspace.computed(f"n={index}/count", lambda index=index: self.count(index, workspace)))
            if index % 2:
                pending = {"Numbers": "Larger numbers are being counted.", "Primes": "Not yet looked for."}
                workspace.show(self.results(found), pending, expected=config.cells)
        return self.results(found)

    def results(self, found: list[int]) -> Results:
        results = Results(study=self.name, title=self.title, headline=f"It counted to {found[-1]}.")
        results.add_verdict("n", "generalizes", f"{len(found)} numbers")
        return results

    def count(self, index: int, workspace: Workspace) -> int:
        page = workspace.folder / REPORT_FILE
        self.pages.append(page.read_text(encoding="utf-8"))
        if self.failure is not None and index == 3:
            raise self.failure
        return index


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> list[str]:
    """What was there while each cell was computed, and at the end."""
    folder = tmp_path_factory.mktemp("growing") / "run"
    study = Counting()
    run_study(study, Config(), folder, command="scorescope count --out 'a < b'")
    return [*study.pages, (folder / REPORT_FILE).read_text(encoding="utf-8")]


def test_the_page_grows_and_says_what_is_measured(pages):
    first, _, third, *_ = (Page(text) for text in pages)
    assert "Unfinished. 0 parts measured" in first.text
    assert ", now n\u00a0=\u00a00: count" in first.text
    assert "How far can it count?" in first.text
    assert "2 of 4 parts measured" in third.text
    assert "It counted to 1." in third.text
    assert third.all("progress") == [{"value": "2", "max": "4", "aria-label": "parts measured"}]
    assert "scorescope count --out 'a < b' goes on where it was" in third.text


def test_sections_that_are_not_measured_stand_on_the_page(pages):
    page = Page(pages[2])
    assert "Larger numbers are being counted." in page.text
    assert "Not yet looked for." in page.text
    assert {"numbers", "primes"} <= {attributes.get("id") for attributes in page.all("h2")}
    links = {attributes["href"].removeprefix("#") for attributes in page.all("a")}
    assert links == {attributes["id"] for attributes in page.all("h2")}


def test_an_unfinished_page_loads_itself_again_and_fetches_nothing_else(pages):
    for text in pages[:-1]:
        page = Page(text)
        assert len(page.all("script")) == 1
        assert "location.reload()" in text
        assert not re.search(r"https?:|import |fetch\(", text)


def test_the_finished_page_is_plain(pages):
    page = Page(pages[-1])
    assert not page.all("script")
    assert not page.all("progress")
    assert "Unfinished" not in page.text
    assert "Not yet looked for" not in page.text
    assert "It counted to 3." in page.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (KeyboardInterrupt(), "it was interrupted"),
        (UserError("n = 3 is too large"), "n\u00a0=\u00a03 is too large"),
        (RuntimeError("no more fingers"), "RuntimeError: no more fingers"),
    ],
)
def test_a_run_that_ends_early_leaves_a_page_that_says_how_to_go_on(tmp_path, failure, reason):
    folder = tmp_path / "run"
    with pytest.raises(type(failure)):
        run_study(Counting(failure), Config(), folder)
    page = Page((folder / REPORT_FILE).read_text(encoding="utf-8"))
    assert f"The run ended after 3 of 4 parts: {reason}. The same call goes on where it was." in page.text
    assert not page.all("script")
    assert "It counted to 1." in page.text
    again = Counting()
    run_study(again, Config(), folder)
    assert len(again.pages) == 1
    assert "It counted to 1." in again.pages[0]
    assert "3 of 4 parts measured" in again.pages[0]
    assert "It counted to 3." in (folder / REPORT_FILE).read_text(encoding="utf-8")


def test_a_run_that_is_refused_leaves_no_page(tmp_path):
    class Refused(Counting):
        def run(self, config: Config, workspace: Workspace) -> Results:
            raise UserError("there is nothing to count")

    with pytest.raises(UserError, match="nothing to count"):
        run_study(Refused(), Config(), tmp_path / "run")
    assert not Path(tmp_path / "run").exists()
