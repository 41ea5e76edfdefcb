"""The catalogue, which commands read so that they need not import anything, says what the rooms register."""

import json

import pytest

from scorescope.app.catalogue import COLUMNS, catalogue, registered
from scorescope.foundation.catalogue import FILE


def test_the_catalogue_is_what_the_rooms_register():
    expected = registered()
    written = json.loads(FILE.read_text())
    for kind, rows in expected.items():
        for name, row in rows.items():
            assert written[kind].get(name) == row, f"run python -m scorescope.app.catalogue: {kind} {name} has changed"
    assert {kind: list(rows) for kind, rows in written.items()} == {kind: list(rows) for kind, rows in expected.items()}


@pytest.mark.parametrize("kind", COLUMNS)
def test_every_entry_is_described(kind):
    rows = catalogue(kind)
    assert len({row["name"] for row in rows}) == len(rows) >= 5
    assert all(all(row.values()) for row in rows)
