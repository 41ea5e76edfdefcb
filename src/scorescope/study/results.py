"""What a study found: a headline, verdicts, figures, tables, arrays, claims, and how all of it was computed.

A run folder holds ``results.json`` (everything that is text or a number), ``tables/*.csv``, ``figures/*.svg|png``,
``arrays.npz`` and ``exploration.*``; `Results.load` reads back what `Results.save` wrote, so that a page can be made again
at any time.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from scorescope.foundation import UserError, new_file
from scorescope.study import charts
from scorescope.study.claims import Claim
from scorescope.study.exploration import EXPLORATION_FILE, Exploration
from scorescope.study.glances import Glance
from scorescope.study.landmarks import HEADING, Landmarks, describe, mark
from scorescope.study.pictures import Layout, Sheet, optimised_png
from scorescope.study.storage import (
    frame_dtypes,
    read_arrays,
    read_frame,
    read_json,
    write_arrays,
    write_frame,
    write_strict_json,
)

SCHEMA = 1
RESULTS_FILE = "results.json"
State = Literal["memorizes", "in transition", "generalizes", "undecided", "no verdict"]
STATES: tuple[State, ...] = ("memorizes", "in transition", "generalizes", "undecided", "no verdict")


@dataclass(frozen=True)
class Verdict:
    """What was decided about one case.

    Attributes:
        label: the case ("N = 100", or the model's name).
        state: one of `STATES`.
        explanation: the numbers behind it, in one sentence.
    """

    label: str
    state: str
    explanation: str = ""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"the state of a verdict is one of {', '.join(STATES)}, not {self.state!r}")


@dataclass(frozen=True)
class Exhibit:
    """A figure: a chart, or pictures.

    Attributes:
        key: its name in the run folder and in links; letters, digits, ``-``, ``_``.
        title: a few words.
        caption: one sentence that says what to see.
        section: heading under which it stands.
        kind: ``chart`` or ``pictures``.
        alt: what it shows, for who cannot see it.
        suffix: ``.svg`` or ``.png``.
        data: the file's bytes.
        layout: where the tiles lie, if it is a sheet.
        folded: whether the page shows its title alone until a reader opens it.
    """

    key: str
    title: str
    caption: str
    section: str
    kind: Literal["chart", "pictures"]
    alt: str
    suffix: str
    data: bytes
    layout: Layout | None = None
    folded: bool = False

    def _repr_html_(self) -> str:
        kind = "image/svg+xml" if self.suffix == ".svg" else "image/png"
        source = f"data:{kind};base64,{base64.b64encode(self.data).decode()}"
        return f'<figure><img style="max-width:100%" alt="{escape(self.alt)}" src="{source}"></figure>'

    def to_json(self) -> dict[str, Any]:
        """Everything but the file."""
        names = ("key", "title", "caption", "section", "kind", "alt", "suffix", "folded")
        record = {name: getattr(self, name) for name in names}
        return record | {"layout": self.layout and self.layout.model_dump(mode="json")}


@dataclass(frozen=True)
class Table:
    """Rows of numbers and words.

    Attributes:
        frame: the columns; the index is not kept.
        title: a few words.
        caption: one sentence.
        formats: column -> format of its numbers (".2f"); others are shown with four significant digits.
        units: column -> unit.
        section: heading under which it stands, folded; empty for the tables at the end of the page.
    """

    frame: pd.DataFrame
    title: str
    caption: str = ""
    formats: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    section: str = ""

    def __post_init__(self) -> None:
        unknown = [name for name in (*self.formats, *self.units) if name not in self.frame.columns]
        if unknown:
            raise ValueError(
                f"the table {self.title!r} has no column {unknown[0]!r}; it has {list(self.frame.columns)}"
            )

    def to_json(self) -> dict[str, Any]:
        """Everything but the rows."""
        return {
            "title": self.title,
            "caption": self.caption,
            "formats": dict(self.formats),
            "units": dict(self.units),
            "section": self.section,
            "columns": frame_dtypes(self.frame),
        }


@dataclass
class Results:
    """What a study found.

    Attributes:
        study: its name in the registry.
        title: its subject, as the page's title.
        question: what it asks, in one sentence; may be empty.
        headline: the verdict, in one or two sentences.
        notes: what a reader must know before believing any of it, each in a sentence without its full stop.
        paper: where the question comes from; may be empty.
        verdicts: what was decided about each case, in order.
        glances: what the sections say, each in a number and a sentence, for the top of the page.
        introductions: section -> one or two sentences that open it.
        opened: sections in the order in which they stand, before those that only figures name.
        not_measured: section -> why it, or a part of it, could not be measured, in a sentence.
        figures: in order; see `add_chart`, `add_sheet`, `add_file`.
        tables: by name; see `add_table`.
        arrays: by name, any numeric dtype.
        claims: in order.
        methods: heading -> text, in order: data, sizes, seeds, defaults, rules.
        config: every setting of the run.
        environment: versions and hardware.
        timings: part of the study -> seconds.
        exploration: what the explorer beside the page shows; None if there is none.
        landmarks: title of a panel -> the two levels of its training set, which axes of σ show; under "" those of all others.
    """

    study: str
    title: str
    headline: str = ""
    notes: list[str] = field(default_factory=list)
    question: str = ""
    paper: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    glances: list[Glance] = field(default_factory=list)
    introductions: dict[str, str] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    not_measured: dict[str, str] = field(default_factory=dict)
    figures: list[Exhibit] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    arrays: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    methods: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    exploration: Exploration | None = None
    landmarks: dict[str, Landmarks] = field(default_factory=dict)

    @property
    def sections(self) -> dict[str, list[Exhibit]]:
        """Section -> its figures: those opened first, the others in order of first appearance."""
        found: dict[str, list[Exhibit]] = {name: [] for name in self.opened}
        for exhibit in self.figures:
            found.setdefault(exhibit.section, []).append(exhibit)
        return found

    def add_notes(self, notes: Iterable[str]) -> None:
        """Append notes, each once."""
        self.notes += [note for note in dict.fromkeys(notes) if note not in self.notes]

    def add_verdict(self, label: str, state: str, explanation: str = "") -> None:
        """Append what was decided about a case. Raises ValueError if `state` is none of `STATES`."""
        self.verdicts.append(Verdict(label, state, explanation))

    def add_glance(self, section: str, number: str, sentence: str, figure: Figure) -> None:
        """Append what a section says, for the top of the page.

        Args:
            section: its heading.
            number: the number that says most, with its unit.
            sentence: what it means, as one sentence.
            figure: made by `glances.small_chart`.
        """
        self.glances.append(Glance(section, number, sentence, charts.svg(figure).decode()))

    def add_chart(
        self,
        key: str,
        title: str,
        caption: str,
        section: str,
        figure: Figure,
        *,
        alt: str = "",
        folded: bool = False,
    ) -> None:
        """Append a Matplotlib figure.

        Args:
            key: its name in the run folder; letters, digits, ``-``, ``_``.
            title: a few words.
            caption: one sentence that says what to see.
            section: heading under which it stands.
            figure: best made by `charts`.
            alt: what it shows, for who cannot see it; title and caption by default.
            folded: whether the page shows its title alone until a reader opens it.

        Raises:
            ValueError: a key that is taken or has other letters.
        """
        if marked := mark(figure, self.landmarks):
            caption = f"{caption} {marked}".strip()
            alt = f"{alt} {marked}" if alt else ""
            self.methods[HEADING] = describe(list(dict.fromkeys(self.landmarks.values())))
        self._add(key, title, caption, section, alt, ".svg", charts.svg(figure), folded=folded)

    def add_sheet(
        self, key: str, title: str, caption: str, section: str, sheet: Sheet, *, alt: str = "", folded: bool = False
    ) -> None:
        """Append a sheet of images, made by `pictures`. Arguments and errors as `add_chart` has them."""
        self._add(key, title, caption, section, alt, ".png", sheet.png(), sheet.layout, folded)

    def add_file(self, key: str, title: str, caption: str, section: str, file: Path, *, alt: str = "") -> None:
        """Append a PNG or an SVG file. Arguments and errors as `add_chart` has them; ValueError for other files."""
        data, suffix = file.read_bytes(), file.suffix.lower()
        if suffix == ".png":
            with Image.open(io.BytesIO(data)) as picture:
                data = optimised_png(picture)
        elif suffix != ".svg" or b"<svg" not in data:
            raise ValueError(f"a figure is a PNG or an SVG file, not {file.name}")
        self._add(key, title, caption, section, alt, suffix, data)

    def _add(
        self,
        key: str,
        title: str,
        caption: str,
        section: str,
        alt: str,
        suffix: str,
        data: bytes,
        layout: Layout | None = None,
        folded: bool = False,
    ) -> None:
        _check_name(key, "figure")
        if any(exhibit.key == key for exhibit in self.figures):
            raise ValueError(f"there is a figure {key!r} already")
        kind: Literal["chart", "pictures"] = "chart" if suffix == ".svg" else "pictures"
        self.figures.append(
            Exhibit(key, title, caption, section, kind, alt or f"{title}. {caption}", suffix, data, layout, folded)
        )

    def add_table(
        self,
        name: str,
        title: str,
        caption: str,
        frame: pd.DataFrame,
        *,
        formats: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        section: str = "",
    ) -> None:
        """Append a table; its index is not kept.

        Args:
            name: of the file; letters, digits, ``-``, ``_``.
            title: a few words.
            caption: one sentence; may be empty.
            frame: the columns.
            formats: column -> format of its numbers (".2f"); others are shown with four significant digits.
            units: column -> unit.
            section: heading under which it stands, folded; empty for the tables at the end of the page.

        Raises:
            ValueError: a name that is taken or has other letters; a format or unit for a column that is not there.
        """
        _check_name(name, "table")
        if name in self.tables:
            raise ValueError(f"there is a table {name!r} already")
        self.tables[name] = Table(frame.reset_index(drop=True), title, caption, formats or {}, units or {}, section)

    def to_json(self) -> dict[str, Any]:
        """Everything but the contents of files, as ``results.json`` has it."""
        return {
            "schema": SCHEMA,
            "study": self.study,
            "title": self.title,
            "question": self.question,
            "paper": self.paper,
            "headline": self.headline,
            "notes": self.notes,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "claims": [claim.to_json() for claim in self.claims],
            "glances": [asdict(glance) for glance in self.glances],
            "introductions": self.introductions,
            "opened": self.opened,
            "not_measured": self.not_measured,
            "figures": [exhibit.to_json() for exhibit in self.figures],
            "tables": {name: table.to_json() for name, table in self.tables.items()},
            "arrays": {name: {"shape": array.shape, "dtype": str(array.dtype)} for name, array in self.arrays.items()},
            "methods": self.methods,
            "config": self.config,
            "environment": self.environment,
            "timings": self.timings,
            "landmarks": {title: asdict(levels) for title, levels in self.landmarks.items()},
        }

    def save(self, folder: Path | str) -> None:
        """Write all files into `folder`, ``results.json`` last. Raises UserError if the disk is full."""
        folder = Path(folder)
        for exhibit in self.figures:
            with new_file(folder / "figures" / (exhibit.key + exhibit.suffix)) as temporary:
                temporary.write_bytes(exhibit.data)
        for name, table in self.tables.items():
            write_frame(folder / "tables" / f"{name}.csv", table.frame)
        if self.arrays:
            write_arrays(folder / "arrays.npz", self.arrays)
        if self.exploration is not None:
            self.exploration.save(folder)
        write_strict_json(folder / RESULTS_FILE, self.to_json())

    @classmethod
    def load(cls, folder: Path | str) -> Results:
        """The results in a run folder. Raises UserError if a file is missing or damaged, or of another schema."""
        folder = Path(folder)
        record = read_json(folder / RESULTS_FILE)
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            found = record.get("schema") if isinstance(record, dict) else None
            raise UserError(
                f"{folder / RESULTS_FILE} has schema {found}, this version reads {SCHEMA}: run the study again"
            )
        try:
            return cls._from_json(record, folder)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{folder / RESULTS_FILE} is damaged ({error!r}): run the study again") from error

    @classmethod
    def _from_json(cls, record: Mapping[str, Any], folder: Path) -> Results:
        plain = (
            "study",
            "title",
            "question",
            "paper",
            "headline",
            "introductions",
            "methods",
            "config",
            "environment",
            "timings",
        )
        tables = {}
        for name, entry in record["tables"].items():
            described = dict(entry)
            frame = read_frame(folder / "tables" / f"{name}.csv", described.pop("columns"))
            tables[name] = Table(frame, **described)
        figures = []
        for entry in record["figures"]:
            layout = entry["layout"] and Layout.model_validate(entry["layout"])
            path = folder / "figures" / (entry["key"] + entry["suffix"])
            if not path.is_file():
                raise UserError(f"{path} is missing: not all of the run folder was copied")
            figures.append(Exhibit(**{**entry, "layout": layout, "data": path.read_bytes()}))
        return cls(
            **{name: record[name] for name in plain},
            **{
                name: record[name] for name in ("notes", "opened", "not_measured") if name in record
            },  # older folders lack them
            glances=[Glance(**entry) for entry in record.get("glances", [])],
            verdicts=[Verdict(**entry) for entry in record["verdicts"]],
            claims=[Claim.from_json(entry) for entry in record["claims"]],
            figures=figures,
            tables=tables,
            arrays=read_arrays(folder / "arrays.npz") if record["arrays"] else {},
            exploration=Exploration.load(folder) if (folder / EXPLORATION_FILE).exists() else None,
            landmarks={title: Landmarks(**levels) for title, levels in record.get("landmarks", {}).items()},
        )


def _check_name(name: str, what: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"the key of a {what} becomes a file's name: letters, digits, - and _, not {name!r}")
