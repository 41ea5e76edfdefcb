"""A lens: one way of looking at a model, found by name: a question, what is measured, and the few exhibits that answer it.

A lens of one's own is a class with two methods in a file that ``--plugin`` names::

    @lens("brightness", question="Are its samples as bright as its training images?")
    class Brightness(Lens):
        def measure(self, subject, settings, workspace): ...   # arrays
        def show(self, results, measured): ...                 # the most telling exhibit first
"""

from __future__ import annotations

import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from scorescope.foundation import Registry, UserError
from scorescope.foundation.files import write_text
from scorescope.foundation.processes import by_first, process_count
from scorescope.lenses.settings import LensSettings
from scorescope.lenses.subject import Subject
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

HELD_OUT, SECOND, DERIVATIVE = "held-out images", "a second network", "a derivative"
NEEDS: dict[str, Callable[[Subject], bool]] = {
    HELD_OUT: lambda subject: subject.held_out is not None,
    SECOND: lambda subject: len(subject.networks) > 1,
    DERIVATIVE: lambda subject: subject.first.differentiable,
}
"""What a lens may need, and whether a subject has it."""


class Lens(ABC):
    """One way of looking at a model.

    A subclass writes `measure` and `show`; the decorator `lens` sets the attributes and makes it known by its name.

    Attributes:
        name: in the registry.
        title: heading of its section.
        question: what it asks, in one sentence.
        needs: which of `NEEDS` a subject must have.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def measure(self, subject: Subject, settings: LensSettings, workspace: Workspace) -> Any:
        """What `show` needs: arrays by name, or a few objects that hold them.

        Long parts go through ``workspace.computed``, so that an interrupted run does not repeat them.
        """

    @abstractmethod
    def show(self, results: Results, measured: Any) -> None:
        """Add what was measured to the section ``self.title``, the most telling exhibits first, the others folded."""


L = TypeVar("L", bound=type[Lens])
PAGE = ("memorization", "samples", "mechanisms", "locality", "shrinkage", "variance", "explorer")
"""The lenses of the house, in the order in which a page shows them."""
lenses: Registry[type[Lens]] = Registry("lens", "lenses")
"""All lenses by name: those of the house first."""


def lens(name: str, *, question: str, title: str = "", needs: Sequence[str] = ()) -> Callable[[L], L]:
    """Class decorator: register a lens under `name`.

    Args:
        name: as ``--lens`` takes it.
        question: what it asks, in one sentence.
        title: heading of its section; the name by default.
        needs: which of `NEEDS` a subject must have.

    Raises:
        ValueError: a need that is none of `NEEDS`.
    """
    unknown = [need for need in needs if need not in NEEDS]
    if unknown:
        raise ValueError(f"a lens may need {', '.join(NEEDS)}, not {unknown[0]!r}")

    def register(cls: L) -> L:
        cls.name, cls.question, cls.needs = name, question, tuple(needs)
        cls.title = title or name[:1].upper() + name[1:]
        lenses.add(name, cls)
        return cls

    return register


def look(one: Lens, results: Results, subject: Subject, settings: LensSettings, workspace: Workspace) -> Any:
    """Open a lens's section of a page, measure and show; what cannot be measured is said there, and the page goes on.

    Args:
        one: the lens.
        results: of the page.
        subject: what is looked at.
        settings: how much is measured.
        workspace: of the run.

    Returns:
        What was measured; None if it could not be.

    Raises:
        Exception: what the lens raises, other than a UserError, where several processes share the work: they would wait for
            each other for ever.
    """
    results.opened.append(one.title)
    missing = [need for need in one.needs if not NEEDS[need](subject)]
    measured = None
    if missing:
        results.not_measured[one.title] = f"Not measured: it takes {' and '.join(missing)}, which there is not here."
    else:
        try:
            measured = one.measure(subject, settings, workspace)
            one.show(results, measured)
        except UserError as error:
            results.not_measured[one.title] = f"Not measured: {error}."
        except (
            Exception
        ) as error:  # a derivative that cannot be had, a fault in somebody's own lens: never the whole page
            if process_count() > 1:
                raise
            path = workspace.folder / f"{one.name}.traceback.txt"
            write_text(path, traceback.format_exc())
            said = str(error).strip().split("\n")[0]
            results.not_measured[one.title] = f"Not measured: {type(error).__name__}: {said} (see {path.name})."
    if one.title in results.not_measured:
        said = f"scorescope: warning: lens {one.name}: {results.not_measured[one.title]}"
        by_first(lambda: print(said, file=sys.stderr))
    results.introductions[one.title] = " ".join(filter(None, [one.question, results.introductions.get(one.title, "")]))
    return measured
