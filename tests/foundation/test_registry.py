"""Names are answered, or corrected."""

import pytest

from scorescope.foundation import Registry, UserError


def test_unknown_names_are_answered_with_the_nearest():
    table = Registry[int]("denoiser")
    table.add("optimal", 1)
    table.add("gaussian", 2)
    assert table["gaussian"] == 2
    assert list(table) == ["optimal", "gaussian"]
    with pytest.raises(UserError, match="did you mean 'gaussian'") as caught:
        table["gausian"]
    assert "optimal, gaussian" in str(caught.value)


def test_a_name_is_taken_once():
    table = Registry[int]("denoiser")
    table.add("a", 1)
    with pytest.raises(ValueError, match="already registered"):
        table.add("a", 2)
