"""Results as one HTML page that needs nothing else: styles, charts and pictures are inside it, and no script is.

While a run goes on its page has a few lines of script, which load it again as it grows and stay where the reader is.
"""

from __future__ import annotations

import base64
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from scorescope.foundation.files import write_text
from scorescope.report.explorer import EXPLORER_FILE, variables, write_explorer
from scorescope.report.tables import columns_of, text_of
from scorescope.study.claims import FAILS, HOLDS, NOT_TESTED
from scorescope.study.glances import Glance
from scorescope.study.palette import DARK_PARTNER, themed
from scorescope.study.pictures import rows_of
from scorescope.study.progress import Progress
from scorescope.study.results import Exhibit, Results

REPORT_FILE = "report.html"
NO_BREAK = "\u00a0"
MOST_TIMES = 24
TALL = 5
"""Rows of pictures from which a sheet is so tall that something can stand beside it."""
MARKS = {
    "memorizes": "■",
    "in transition": "◐",
    "generalizes": "●",
    "undecided": "○",
    "no verdict": "∅",
    "holds": "✓",
    "fails": "✕",
    "not tested at this size": "–",
}
"""A sign for every state and verdict, so that none is told by its colour alone."""


def write_report(results: Results, folder: Path | str, progress: Progress | None = None, command: str = "") -> Path:
    """Write the page of `results` into a run folder, at once as a whole, and beside it the explorer, if there is one to make.

    Args:
        results: what the page shows.
        folder: the run folder.
        progress: of a run that is not finished.
        command: what a person types to go on with such a run; empty if that is not known.

    Returns:
        The page's path. Raises UserError if the disk is full.
    """
    folder = Path(folder)
    if results.exploration is not None and progress is None:
        write_explorer(results.exploration, folder / EXPLORER_FILE, results.title, REPORT_FILE)
    write_text(folder / REPORT_FILE, html(results, progress, command))
    return folder / REPORT_FILE


def render(folder: Path | str) -> Path:
    """Make the page of a run folder again, from what is stored in it. Raises UserError if something is missing."""
    return write_report(Results.load(folder), folder)


def html(results: Results, progress: Progress | None = None, command: str = "") -> str:
    """The page as text; arguments as `write_report` has them."""
    loader = jinja2.PackageLoader("scorescope", "report")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(slug=slug, paragraphs=paragraphs, tied=tied, number=text_of)
    pending = dict(progress.pending) if progress is not None else {}
    sections = {name: results.sections.get(name, []) for name in [*results.sections, *pending]}
    return environment.get_template("page.html").render(
        results=results,
        progress=progress,
        pending=pending,
        command=command,
        written=time.time(),
        explorer=EXPLORER_FILE if results.exploration is not None and progress is None else "",
        elapsed=duration(time.time() - progress.started) if progress is not None else "",
        script=Markup(loader.get_source(environment, "growing.js")[0]),
        contents=_contents(results, list(sections)),
        sections=[_section(results, name, exhibits) for name, exhibits in sections.items()],
        glances=[(glance, _small(glance)) for glance in results.glances],
        tally=_tally(results),
        timings=[(name, duration(seconds)) for name, seconds in _with_total(grouped(results.timings)).items()],
        tables=[(table, columns_of(table)) for table in results.tables.values() if table.section not in sections],
        settings=flattened(results.config),
        marks=MARKS,
        style=Markup(loader.get_source(environment, "style.css")[0]),
        light=variables({colour: colour for colour in DARK_PARTNER}),
        dark=variables(DARK_PARTNER),
    )


def slug(text: str) -> str:
    """`text` as the name of an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"


def duration(seconds: float) -> str:
    """Seconds as a reader says them: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text that an empty line parts."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def tied(text: str) -> str:
    """`text` as it is set: "N = 100" and "3 dB" stay on one line, and a minus is one."""
    text = re.sub(r"(?<![\w.\-])-(?=\d)", "−", text)
    text = re.sub(r"(?<=\d) (?=dB\b|s\b|×|%)", NO_BREAK, text)
    return re.sub(r"(?<=\w) ([=<>≤≥]) (?=[−+\d])", rf"{NO_BREAK}\1{NO_BREAK}", text)


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings by dotted name, each as text."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found.update(flattened(value, f"{prefix}{key}."))
        else:
            values = value if isinstance(value, list | tuple) else [value]
            found[prefix + key] = ", ".join(str(one) if isinstance(one, int) else text_of(one) for one in values)
    return found


def _contents(results: Results, sections: list[str]) -> list[str]:
    """The headings of the page below the verdict, in order."""
    others = [table for table in results.tables.values() if table.section not in sections]
    last = {"Claims": results.claims, "Tables": others, "How it was computed": True}
    return [*sections, *(name for name, there in last.items() if there)]


def _tally(results: Results) -> str:
    """How the claims fared: "3 hold, 1 fails, 2 not tested at this size"."""
    counts = Counter(claim.verdict for claim in results.claims)
    words = {
        HOLDS: "holds" if counts[HOLDS] == 1 else "hold",
        FAILS: "fails" if counts[FAILS] == 1 else "fail",
        NOT_TESTED: NOT_TESTED,
    }
    return ", ".join(f"{counts[verdict]} {word}" for verdict, word in words.items() if counts[verdict])


def grouped(timings: Mapping[str, float]) -> dict[str, float]:
    """Times as they are, or, where they are many, summed by the first part of their names, without its key."""
    if len(timings) <= MOST_TIMES:
        return dict(timings)
    sums: dict[str, float] = {}
    for name, seconds in timings.items():
        part = re.sub(r" [0-9a-f]{12}$", "", name.split("/")[0])
        sums[part] = sums.get(part, 0.0) + seconds
    return sums


def _with_total(timings: Mapping[str, float]) -> dict[str, float]:
    return {**timings, "in all": sum(timings.values())} if len(timings) > 1 else dict(timings)


def _section(results: Results, name: str, exhibits: list[Exhibit]) -> dict[str, Any]:
    """What the template needs to show a section: figures that are open, and what is folded under them."""
    return {
        "name": name,
        "open": _group([one for one in exhibits if not one.folded]),
        "folded": [_shown(one) for one in exhibits if one.folded],
        "tables": [(table, columns_of(table)) for table in results.tables.values() if table.section == name],
    }


def _group(exhibits: list[Exhibit]) -> list[dict[str, Any]]:
    """The figures of a section, and how each stands: charts in pairs, one without a partner beside tall pictures or alone."""
    shown = [_shown(exhibit) for exhibit in exhibits]
    run = 0
    for figure, following in zip(shown, [*shown, None][1:], strict=True):
        if figure["exhibit"].kind != "chart":
            if not figure["stands"] and len(figure["rows"]) >= TALL:
                figure["stands"] = "tall"
            continue
        run += 1
        if following is not None and following["exhibit"].kind == "chart":
            continue
        if run % 2 and following is not None and len(following["rows"]) >= TALL:
            following["stands"] = "beside"
        elif run % 2:
            figure["stands"] = "alone"
        run = 0
    return shown


def _shown(exhibit: Exhibit) -> dict[str, Any]:
    """What the template needs to show a figure: an inline drawing, rows of tiles, or one picture."""
    shown: dict[str, Any] = {"exhibit": exhibit, "stands": "", "drawing": None, "rows": [], "source": None}
    layout = exhibit.layout
    if layout is not None:
        labels = layout.row_labels or ("",) * len(layout.tops)
        captions = layout.captions or ((),) * len(layout.tops)
        sources = [_embedded(row, "image/png") for row in rows_of(exhibit.data, layout)]
        shown["width"] = layout.columns * (layout.width + layout.gap) - layout.gap
        shown["rows"] = list(zip(labels, sources, captions, strict=True))
    elif exhibit.suffix == ".svg" and b'class="house-chart"' in exhibit.data[:200]:
        shown["drawing"] = Markup(_inline(exhibit))
    else:
        shown["source"] = _embedded(exhibit.data, "image/svg+xml" if exhibit.suffix == ".svg" else "image/png")
    return shown


def _inline(exhibit: Exhibit) -> str:
    """A chart of this house as part of the page: in its colours, and with its own words for who cannot see it."""
    drawing = _sized(themed(exhibit.data.decode(), exhibit.key))
    return drawing.replace("<svg ", str(Markup('<svg role="img" aria-label="{}" ').format(exhibit.alt)), 1)


def _small(glance: Glance) -> Markup:
    """The drawing of a glance; nothing for one that this house did not draw."""
    drawing = glance.drawing
    ours = drawing.startswith('<svg class="house-chart"') and not re.search(r"<script|\son\w+=|javascript:", drawing)
    return Markup(_sized(themed(drawing, slug(glance.section)))) if ours else Markup("")


def _sized(drawing: str) -> str:
    """An SVG that is as wide as its place on the page."""
    for side in ("width", "height"):
        drawing = re.sub(rf'(<svg [^>]*?) {side}="[^"]*"', r"\1", drawing, count=1)
    return drawing


def _embedded(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
