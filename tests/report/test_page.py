"""The page: well-formed, self-contained, legible without colour or sight, and the same from results and from disk."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.report.demonstration import demonstration

from scorescope.foundation import UserError
from scorescope.report import html, render, write_report
from scorescope.report.page import duration, flattened, grouped, slug, tied
from scorescope.report.tables import columns_of, text_of
from scorescope.study import Results, charts, pictures
from scorescope.study.glances import small_chart
from scorescope.study.results import Table

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """A page read strictly: every element closed by its own end tag; elements and texts kept."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>: {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", "".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def results() -> Results:
    return demonstration()


@pytest.fixture(scope="module")
def source(results) -> str:
    return html(results)


@pytest.fixture(scope="module")
def page(source) -> Page:
    return Page(source)


@pytest.mark.slow
def test_nothing_is_fetched_and_nothing_runs(page, source):
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "poster", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/")), value
        assert not any(name.startswith("on") for name in attributes)
    assert not page.all("script")
    assert not page.all("link")
    assert not re.search(r"url\((?!#)|@import", source)


def test_anchors_lead_somewhere_and_names_are_unique(page):
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    links = [attributes["href"] for attributes in page.all("a")]
    assert len(links) >= 5
    assert {link.removeprefix("#") for link in links} <= set(names)


def test_every_figure_says_what_it_shows(page, results):
    drawings = list(page.all("svg"))
    assert len(drawings) == sum(exhibit.kind == "chart" for exhibit in results.figures)
    for attributes in drawings:
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"]) > 10
    pictures = page.all("img")
    assert len(pictures) >= 16
    assert all(len(attributes["alt"]) > 5 for attributes in pictures)


def test_pictures_are_embedded_whole(page):
    for attributes in page.all("img"):
        kind, _, data = attributes["src"].partition(";base64,")
        assert kind == "data:image/png"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")


def test_verdicts_come_first_then_pictures_claims_tables_and_methods(page, results):
    text = page.text
    places = [text.index(tied(part)) for part in (results.title, results.headline, results.verdicts[0].explanation)]
    headings = ["Samples", "Claims", "The evidence behind each verdict", "Verdict rule", "Software and machine"]
    places += [text.rindex(heading) for heading in headings]
    assert places == sorted(places)


def test_states_and_verdicts_are_told_by_words_and_signs(page, results):
    for verdict in results.verdicts:
        assert verdict.state in page.text
    for word in ("■ memorizes", "● generalizes", "✕ fails", "✓ holds", "– not tested"):
        assert word in page.text


def test_a_failing_claim_is_as_plain_as_one_that_holds(page, results):
    verdicts = [claim.verdict for claim in results.claims]
    assert sorted(verdicts) == ["fails", "holds", "not tested at this size"]
    for claim in results.claims:
        assert tied(claim.sentence) in page.text
        assert tied(claim.quantity) in page.text
        assert tied(claim.rule.words(claim.unit)) in page.text
    assert "1 holds, 1 fails, 1 not tested at this size" in page.text
    assert "a close call" in page.text


def test_missing_numbers_are_dashes(page):
    assert not re.search(r"\b(nan|None|inf)\b", page.text)


def test_texts_from_outside_cannot_become_markup(results):
    hostile = "<script>alert(1)</script> & \"quoted\" 'x'"
    other = Results(study=hostile, title=hostile, headline=hostile, question=hostile, paper=hostile)
    other.add_verdict(hostile, "undecided", hostile)
    chart = next(exhibit for exhibit in results.figures if exhibit.kind == "chart")
    values = {name: getattr(chart, name) for name in ("key", "kind", "suffix", "data", "layout")}
    other.figures.append(type(chart)(**values, title=hostile, caption=hostile, section=hostile, alt=hostile))
    other.add_table("t", hostile, hostile, pd.DataFrame({hostile: [hostile]}))
    other.methods[hostile] = hostile
    other.config = {hostile: hostile}
    read = Page(html(other))
    assert not read.all("script")
    assert hostile in read.text
    assert read.all("svg")[0]["aria-label"] == hostile


def test_an_empty_study_has_a_page():
    read = Page(html(Results(study="empty", title="Nothing yet")))
    assert "Nothing yet" in read.text
    assert not read.all("table")


@pytest.mark.slow
def test_the_page_is_the_same_from_disk(results, source, tmp_path):
    results.save(tmp_path)
    path = render(tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == html(results)
    assert write_report(results, tmp_path) == path
    assert path.stat().st_size < 8e6


def test_a_foreign_drawing_cannot_run(results, tmp_path):
    (tmp_path / "evil.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    other = Results(study="s", title="t")
    other.add_file("evil", "Evil", "It is an image.", "One", tmp_path / "evil.svg")
    read = Page(html(other))
    assert not read.all("script")
    assert read.all("img")[0]["src"].startswith("data:image/svg+xml;base64,")


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        render(tmp_path)


def test_the_page_ships_with_its_style(source):
    style = (Path(__file__).parents[2] / "src/scorescope/report/style.css").read_text(encoding="utf-8")
    assert style.strip() in source
    for rule in ("prefers-color-scheme: dark", "@media print", "@page"):
        assert rule in source


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.9, "9.9 s"), (12, "12 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_texts_are_set_with_care():
    assert tied("at N = 100, -0.4 dB") == "at N\u00a0=\u00a0100, −0.4\u00a0dB"
    assert tied("rate 1e-3, pspc-square, 2-3, [-1, 1]") == "rate 1e-3, pspc-square, 2-3, [−1, 1]"
    assert slug("How it was computed") == "how-it-was-computed"
    assert flattened({"a": {"b": [1000, 2]}, "c": None}) == {"a.b": "1000, 2", "c": "–"}


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(None, "", "–"), (float("nan"), ".2f", "–"), (True, "", "yes"), (12345, "", "12,345"), (-0.5, ".2f", "−0.50"),
     (0.123456, "", "0.1235"), ("word", "", "word")],
)  # fmt: skip
def test_cells(value, form, text):
    assert text_of(value, form) == text


def test_columns_share_their_decimals_unless_that_hides_a_number():
    table = Table(pd.DataFrame({"even": [1.0, 0.25], "wide": [1000.0, 1e-5], "whole": [1, 20]}), "t")
    even, wide, whole = columns_of(table)
    assert even.cells == ("1.000", "0.250")
    assert wide.cells == ("1000", "1e-05")
    assert whole.cells == ("1", "20")


@pytest.fixture(scope="module")
def told():
    """A page of two sections as lenses make them: a glance each, figures open and folded, a table, one that failed."""
    results = Results(study="test/lenses", title="A model")
    results.add_verdict("the model", "generalizes", "no copies")
    results.opened += ["Samples", "Shrinkage"]
    line = charts.Series("optimal", [0.1, 1.0, 10.0], [1.0, 2.0, 3.0])
    curve = charts.lines(charts.Panel([line], "error"))
    results.add_chart("shown", "Shown at once", "It rises.", "Samples", curve)
    results.add_sheet("tall", "Tall pictures", "Grey.", "Samples", pictures.grid(np.zeros((6, 2, 1, 4, 4))))
    results.add_chart("later", "Shown on demand", "It rises, too.", "Samples", curve, folded=True)
    results.add_table("rows", "Its rows", "Some.", pd.DataFrame({"N": [1]}), section="Samples")
    results.add_table("others", "Other rows", "Some.", pd.DataFrame({"N": [2]}))
    results.not_measured["Shrinkage"] = "Not measured: it takes a derivative, which there is not here."
    results.add_glance("Samples", "0.75", "is how similar they are.", small_chart([line], "noise level"))
    return results


def test_a_section_shows_a_few_exhibits_and_folds_the_rest(told):
    page = Page(html(told))
    assert [page.text.count(f" {title} ") > 0 for title in ("Shown at once", "Shown on demand", "Its rows")] == [
        True
    ] * 3
    assert len(page.all("details")) == 2  # of the page's two tables one has a section
    assert all("open" not in attributes for attributes in page.all("details"))
    classes = {attributes["id"]: attributes["class"].split() for attributes in page.all("figure") if "id" in attributes}
    assert classes["figure-shown"] == ["chart"]
    assert classes["figure-tall"] == ["pictures", "beside"]
    assert page.text.index("Other rows") > page.text.index("Its rows")
    assert "::details-content" in html(told)  # all of them open in print


def test_every_lens_is_told_at_the_top_in_a_number_and_a_sentence(told):
    page = Page(html(told))
    assert page.text.index("is how similar they are") < page.text.index("Shown at once")
    assert {"href": "#samples"} in page.all("a")


def test_what_could_not_be_measured_is_said_in_its_section(told):
    page = Page(html(told))
    assert page.text.index("Not measured: it takes a derivative") > page.text.index("Tall pictures")
    assert page.text.count("Shrinkage") >= 2  # in the contents and as a heading


def test_sections_glances_and_folds_come_back_from_disk(told, tmp_path):
    told.save(tmp_path)
    assert html(Results.load(tmp_path)) == html(told)
    record = json.loads((tmp_path / "results.json").read_text())
    for key in ("glances", "opened", "not_measured"):
        del record[key]
    for figure in record["figures"]:
        del figure["folded"]
    for table in record["tables"].values():
        del table["section"]
    (tmp_path / "results.json").write_text(json.dumps(record))
    older = Page(render(tmp_path).read_text())
    assert not older.all("details")
    assert "Shown on demand" in older.text


def test_a_foreign_small_drawing_is_left_out(told, tmp_path):
    told.save(tmp_path)
    record = json.loads((tmp_path / "results.json").read_text())
    record["glances"][0]["drawing"] = '<svg class="house-chart"><script>alert(1)</script></svg>'
    (tmp_path / "results.json").write_text(json.dumps(record))
    assert "alert" not in html(Results.load(tmp_path))


def test_many_times_are_summed_by_what_they_are_of():
    few = {"psnr/a": 1.0, "psnr/b": 2.0}
    assert grouped(few) == few
    many = {f"train 0123456789ab/{name} 0123456789ab/0": 0.5 for name in range(30)} | {"psnr": 2.0}
    assert grouped(many) == {"train": 15.0, "psnr": 2.0}
