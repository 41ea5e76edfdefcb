"""What there is to choose from by name, as rows for a table; and the file in which it stands, so that no command imports it.

``python -m scorescope.app.catalogue`` writes ``catalogue.json`` anew from what the rooms register. It is to be run when an
entry is added, renamed or described otherwise.
"""

from __future__ import annotations

import importlib
import pkgutil
import re

from scorescope.foundation.catalogue import FILE, Rows, forget, listed
from scorescope.foundation.files import write_json

ROOMS = ("data", "networks", "denoisers", "lenses", "jobs", "papers")
# Kind -> heading -> what the catalogue calls it.
COLUMNS: dict[str, dict[str, str]] = {
    "denoisers": {"explains a network as": "explanation", "source": "source", "needs": "needs"},
    "networks": {"what": "description", "denoises by": "preconditioning", "source": "source"},
    "formats": {"of": "source"},
    "preconditionings": {"what": "description", "the network is told": "told"},
    "data": {"what": "description", "licence": "licence"},
    "lenses": {"asks": "asks", "needs": "needs"},
    "studies": {"asks": "asks", "presets": "presets"},
}
NETWORK = {"name": "network:PATH", "explains a network as": "itself", "source": "yours", "needs": "a checkpoint"}


def catalogue(kind: str) -> list[dict[str, str]]:
    """Rows for one of `COLUMNS`. Raises KeyError for another word."""
    rows = [
        {"name": name, **{heading: str(entry[key]) for heading, key in COLUMNS[kind].items()}}
        for name, entry in listed(kind).items()
    ]
    return [*rows, NETWORK] if kind == "denoisers" else rows


def registered() -> dict[str, Rows]:
    """What the catalogue ought to say: every module of the rooms is imported, and every registry asked."""
    import scorescope

    for room in ROOMS:
        package = importlib.import_module(f"{scorescope.__name__}.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return {
        "denoisers": _denoisers(),
        "networks": _networks(),
        "formats": _formats(),
        "preconditionings": _preconditionings(),
        "data": _data(),
        "lenses": _lenses(),
        "studies": _studies(),
    }


def _denoisers() -> Rows:
    from scorescope.denoisers import denoisers

    return {
        name: {
            "module": entry.build.__module__,
            "explanation": entry.explanation,
            "source": entry.source,
            "needs": entry.needs,
        }
        for name, entry in denoisers.items()
    }


def _networks() -> Rows:
    from scorescope.networks import architectures, registry

    return {
        name: {
            "module": registry.__name__,
            "description": entry.description,
            "preconditioning": entry.preconditioning,
            "source": entry.source,
        }
        for name, entry in architectures.items()
    }


def _formats() -> Rows:
    from scorescope.networks.readers import format_table

    return {entry.name: {"module": format_table.__name__, "source": entry.source} for entry in format_table.FORMATS}


def _preconditionings() -> Rows:
    from scorescope.networks import preconditionings

    return {
        name: {
            "module": entry.__module__,
            "description": entry.description,
            "told": "nothing: it is blind" if entry.blind else "the noise level",
        }
        for name, entry in preconditionings.items()
    }


def _data() -> Rows:
    from scorescope.data import builtin, builtin_datasets

    return {
        name: {"module": builtin.__name__, "description": entry.description, "licence": entry.licence}
        for name, entry in builtin_datasets.items()
    }


def _lenses() -> Rows:
    from scorescope.lenses import lenses
    from scorescope.lenses.base import PAGE

    found = {
        name: {
            "module": entry.__module__,
            "asks": entry.question,
            "needs": ", ".join(["a model and its training images", *entry.needs]),
        }
        for name, entry in lenses.items()
    }
    return {name: found[name] for name in sorted(found, key=PAGE.index)}


def _studies() -> Rows:
    from scorescope.study import studies
    from scorescope.study.base import setting_names

    found = {
        name: {
            "module": study.__module__,
            "asks": study.question or study.title,
            "presets": ", ".join(study.presets),
            "settings": " ".join(setting_names(study.Config)),
        }
        for name, study in studies.items()
    }
    return dict(sorted(found.items(), key=lambda item: _reading_order(item[0])))


def _reading_order(name: str) -> tuple[bool, list[tuple[str, int]]]:
    """The jobs first, then paper by paper, figure 2 before figure 10."""
    parts = [(word, int(number or 0)) for word, number in re.findall(r"(\D+)(\d*)", name)]
    return not name.startswith("main/"), parts


if __name__ == "__main__":
    forget()
    write_json(FILE, registered())
    print(f"written: {FILE}")
