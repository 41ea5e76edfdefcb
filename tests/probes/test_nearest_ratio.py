"""Copies by the ratio of distances, against a loop over all pairs."""

import numpy as np
import pytest
import torch

from scorescope.data import ImageSet
from scorescope.foundation import UserError
from scorescope.probes import nearest_ratio as module
from scorescope.probes.nearest_ratio import copied_share, nearest_ratio


@pytest.fixture
def images():
    return ImageSet(np.random.default_rng(0).integers(0, 256, (11, 1, 3, 3), dtype=np.uint8))


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_it_is_the_ratio_of_the_two_smallest_distances(images, chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    samples = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (5, 1, 3, 3)))
    training = images.tensor(np.arange(11)).double()
    wanted = []
    for sample in samples:
        distances = sorted(float((sample - one).square().sum().sqrt()) for one in training)
        wanted.append(distances[0] / distances[1])
    assert nearest_ratio(samples, images) == pytest.approx(wanted, rel=1e-6)


def test_copies_are_counted_and_twins_are_not(images):
    training = images.tensor(np.arange(11))
    samples = torch.stack([training[0], training[3] + 0.05, (training[0] + training[1]) / 2, training[5]])
    assert copied_share(samples, images) == 0.75
    twins = ImageSet(np.concatenate([images.take(np.arange(11)), images.take(np.array([0]))]))
    assert copied_share(samples, twins) == 0.5


def test_one_image_has_no_second(images):
    with pytest.raises(UserError, match="one image"):
        nearest_ratio(torch.zeros(2, 1, 3, 3), images.subset(np.array([0])))
