"""One cache of tiny networks for all tests of these studies: each is trained once a test session."""

import pytest


@pytest.fixture(scope="session")
def network_cache(tmp_path_factory):
    """A cache folder that the tiny studies share."""
    return tmp_path_factory.mktemp("niedoba2025-cache")
