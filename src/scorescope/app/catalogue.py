"""What there is to choose from by name, as rows for a table."""

from __future__ import annotations

from collections.abc import Callable

import scorescope.jobs
import scorescope.papers  # noqa: F401 - registers the studies
from scorescope.data import builtin_datasets
from scorescope.denoisers import denoisers
from scorescope.networks import architectures
from scorescope.study import studies


def _denoisers() -> list[dict[str, str]]:
    rows = [
        {"name": name, "explains a network as": entry.explanation, "source": entry.source, "needs": entry.needs}
        for name, entry in denoisers.items()
    ]
    network = {"name": "network:PATH", "explains a network as": "itself", "source": "yours", "needs": "a checkpoint"}
    return [*rows, network]


def _networks() -> list[dict[str, str]]:
    return [
        {"name": name, "what": entry.description, "denoises by": entry.preconditioning, "source": entry.source}
        for name, entry in architectures.items()
    ]


def _data() -> list[dict[str, str]]:
    return [
        {"name": name, "what": entry.description, "licence": entry.licence} for name, entry in builtin_datasets.items()
    ]


def _studies() -> list[dict[str, str]]:
    return [
        {"name": name, "asks": study.question or study.title, "presets": ", ".join(study.presets)}
        for name, study in sorted(studies.items(), key=lambda item: not item[0].startswith("main/"))
    ]


kinds: dict[str, Callable[[], list[dict[str, str]]]] = {
    "denoisers": _denoisers,
    "networks": _networks,
    "data": _data,
    "studies": _studies,
}


def catalogue(kind: str) -> list[dict[str, str]]:
    """Rows for one of `kinds`. Raises KeyError for another word."""
    return kinds[kind]()
