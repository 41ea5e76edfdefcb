"""Heatmaps in a folder: what is written is read, the nearest level decides, and what does not fit is refused in a line."""

import numpy as np
import pytest

from scorescope.denoisers import FlexPatchDenoiser, StoredHeatmaps
from scorescope.denoisers.heatmaps import store_heatmaps
from scorescope.foundation import UserError


@pytest.fixture
def folder(tmp_path):
    values = np.random.default_rng(0).uniform(size=(3, 8, 8, 8, 8)).astype(np.float32)
    for sigma, maps in zip((2.0, 0.1 + 0.2, 0.01), values, strict=True):
        store_heatmaps(tmp_path / "maps", sigma, maps)
    return tmp_path / "maps", values


def test_what_is_written_is_read_and_the_nearest_level_decides(folder):
    path, values = folder
    found = StoredHeatmaps(path)
    assert found.sigmas == (2.0, 0.1 + 0.2, 0.01)
    assert found.size == (8, 8)
    for sigma, place in [(2.0, 0), (50.0, 0), (0.5, 1), (0.1 + 0.2, 1), (0.002, 2)]:
        assert np.array_equal(found.at(sigma), values[place])
    assert np.array_equal(StoredHeatmaps(path, [2.0, 0.01]).at(0.3), values[0])


def test_masks_are_those_of_the_stored_heatmaps(folder, digits):
    path, values = folder
    images = digits.subset(range(50))
    stored, given = FlexPatchDenoiser(images, StoredHeatmaps(path), 0.5), FlexPatchDenoiser(images, values[1], 0.5)
    assert np.array_equal(stored.masks(0.3), given.masks(0.3))


def test_what_does_not_fit_is_refused(folder, tmp_path, digits):
    path, _ = folder
    with pytest.raises(UserError, match="holds no heatmaps: files sigma=VALUE.npy"):
        StoredHeatmaps(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no heatmaps for σ = 5"):
        StoredHeatmaps(path, [5.0])
    store_heatmaps(path, 0.01, -np.ones((8, 8, 8, 8)))
    with pytest.raises(UserError, match="not negative"):
        StoredHeatmaps(path).at(0.01)
    store_heatmaps(tmp_path / "other", 1.0, np.ones((4, 4, 4, 4)))
    with pytest.raises(UserError, match=r"need heatmaps of that size, .* has \(4, 4\)"):
        FlexPatchDenoiser(digits.subset(range(5)), StoredHeatmaps(tmp_path / "other"))
