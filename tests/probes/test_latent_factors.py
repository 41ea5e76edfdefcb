"""The nearest member of a family: members are inverted exactly, others as near as a brute-force search comes."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from scorescope.data.generated import render_disks
from scorescope.foundation import UserError
from scorescope.probes.disk_factors import disk_derivatives
from scorescope.probes.latent_factors import FAMILIES, factor_distances


@pytest.mark.parametrize("name", FAMILIES)
def test_members_are_inverted(name):
    family = FAMILIES[name]
    factors = family.draw(6, 12, torch.Generator().manual_seed(3)).double()
    found = family.fitted(family.render(factors, 12))
    assert found.explained == pytest.approx(np.ones(6), abs=1e-9)
    assert found.factors == pytest.approx(factors.numpy(), abs=1e-5)


def test_the_nearest_disk_of_an_image_that_is_none():
    """As near as SciPy's least squares from many starts."""
    generator = torch.Generator().manual_seed(4)
    two = torch.tensor([[3.0, 3.2, 2.0, 0.8, -0.5], [6.5, 6.0, 1.6, 0.6, 0.0]]).double()
    image = render_disks(two, 10).sum(0, keepdim=True) + 0.1 * torch.randn((1, 1, 10, 10), generator=generator)
    found = FAMILIES["disks"].fitted(image)
    target = image.flatten().numpy()

    def left(one):
        return render_disks(torch.from_numpy(one)[None], 10).flatten().numpy() - target

    random = np.random.default_rng(0)
    starts = np.column_stack([random.uniform(1, 9, (12, 2)), random.uniform(1, 4, 12), np.ones(12), np.zeros(12)])
    best = min(2 * least_squares(left, start).cost for start in starts)
    own = (1 - found.explained[0]) * np.square(target - target.mean()).sum()
    assert own <= best * (1 + 1e-6)


def test_derivatives_of_a_disk():
    factors = FAMILIES["disks"].draw(3, 9, torch.Generator().manual_seed(6)).double()
    found = disk_derivatives(factors, 9)
    for column in range(5):
        step = torch.zeros(5, dtype=torch.float64)
        step[column] = 1e-6
        by_difference = (render_disks(factors + step, 9) - render_disks(factors - step, 9)).flatten(1) / 2e-6
        assert found[:, :, column].numpy() == pytest.approx(by_difference.numpy(), abs=1e-7)


def test_the_nearest_sinusoid_is_a_projection():
    family = FAMILIES["sinusoids"]
    generator = torch.Generator().manual_seed(5)
    image = torch.randn((1, 1, 12, 12), generator=generator).double()
    found = family.fitted(image)
    own = (image - family.render(torch.from_numpy(found.factors), 12)).square().sum()
    for amplitude in np.linspace(0, 0.5, 11):
        for phase in np.linspace(0, 2 * np.pi, 24):
            other = family.render(torch.tensor([[amplitude, phase]]).double(), 12)
            assert own <= (image - other).square().sum() + 1e-9


def test_constant_images_and_other_shapes():
    assert FAMILIES["sinusoids"].fitted(torch.zeros(2, 1, 12, 12)).explained.tolist() == [0, 0]
    with pytest.raises(UserError, match="square and grey"):
        FAMILIES["disks"].fitted(torch.zeros(2, 3, 12, 12))


def test_distances_of_factors():
    random = np.random.default_rng(0)
    same, other = random.random((200, 2)), random.random((400, 2))
    other[:, 1] += 2
    found = factor_distances(same, other, ("alike", "apart"))
    assert found["alike"][1] > 0.01
    assert found["apart"] == (pytest.approx(1), pytest.approx(0, abs=1e-9))
