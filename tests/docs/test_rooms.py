"""The picture of the rooms: made from the code, whole, and with all imports going down."""

import importlib.util
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def rooms():
    spec = importlib.util.spec_from_file_location("rooms", DOCS / "rooms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_package_is_a_room_and_imports_go_down(rooms):
    order = [room for layer in rooms.layers() for room in layer]
    assert set(order) == {path.parent.name for path in rooms.SOURCE.glob("*/__init__.py")}
    found = rooms.imports()
    assert found["lenses", "probes"] > 5
    assert all(order.index(room) < order.index(other) for room, other in found if {room, other} <= set(order))
    assert not [room for room, other in found if other == "papers" and room not in ("cli", "app")]


@pytest.mark.slow
def test_the_picture_has_all_rooms(rooms):
    tree = ElementTree.fromstring(rooms.picture())
    words = {"".join(node.itertext()) for node in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {room for layer in rooms.layers() for room in layer} <= words
    assert (DOCS / "rooms.svg").read_text().startswith("<svg")


def test_files_that_the_architecture_names_are_there():
    text = (DOCS / "architecture.md").read_text()
    source = DOCS.parent / "src" / "scorescope"
    named = set(re.findall(r"`([a-z_0-9/]+/[a-z_0-9]+\.py)`", text))
    missing = [name for name in named if not (source / name).exists() and not (DOCS.parent / name).exists()]
    assert len(named) > 15
    assert not missing
