"""A few windows of their own places and sizes, against softmax in float64 written out."""

import numpy as np
import pytest
from scipy.special import log_softmax

from scorescope.data.images import ImageSet
from scorescope.posterior import chosen_windows as module
from scorescope.posterior.chosen_windows import chosen_windows

BOXES = [(0, 0, 6, 7), (2, 3, 5, 6), (5, 6, 6, 7), (0, 2, 3, 3)]


@pytest.fixture(scope="module")
def images():
    return ImageSet(np.random.default_rng(0).integers(0, 256, (50, 3, 6, 7), dtype=np.uint8)).with_flips()


@pytest.mark.parametrize("chunk", [1, 3000, 10**9])
@pytest.mark.parametrize("sigma", [0.3, 40.0, 5000.0])
def test_weights_are_a_softmax_of_squared_differences(images, sigma, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    values = images.read(0, len(images)).astype(np.float64) - 128
    noisy = values[70] + np.random.default_rng(1).normal(0, sigma, (3, 6, 7))
    found = chosen_windows(images, noisy, sigma, BOXES, 5)
    for place, (row, column, last_row, last_column) in enumerate(BOXES):
        apart = np.square(values - noisy)[:, :, row:last_row, column:last_column].sum((1, 2, 3))
        logs = log_softmax(-apart / (2 * sigma**2))
        order = np.argsort(-logs, kind="stable")[:5]
        assert np.array_equal(found.entries[place], order)
        assert found.weights[place] == pytest.approx(np.exp(logs[order]), rel=1e-9, abs=1e-300)
        assert found.effective_number[place] == pytest.approx(np.exp(-(np.exp(logs) * logs).sum()), rel=1e-9)


def test_where_there_are_fewer_images_the_places_stay_empty():
    images = ImageSet(np.arange(2 * 9, dtype=np.uint8).reshape(2, 1, 3, 3))
    noisy = images.read(1, 2)[0].astype(np.float64) - 128
    found = chosen_windows(images, noisy, 1.0, [(0, 0, 3, 3)], 4)
    assert found.entries.tolist() == [[1, 0, -1, -1]]
    assert found.weights[0, 2:].tolist() == [0.0, 0.0]
    assert found.weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("chunk", [1, 10**9])
def test_of_equal_images_the_first_are_named(chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    images = ImageSet(np.full((40, 1, 3, 3), 7, dtype=np.uint8))
    found = chosen_windows(images, np.zeros((1, 3, 3)), 20.0, [(0, 0, 2, 2)], 3)
    assert found.entries.tolist() == [[0, 1, 2]]
    assert found.weights[0] == pytest.approx([1 / 40] * 3)
    assert found.effective_number == pytest.approx([40])
