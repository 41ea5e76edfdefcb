"""Smooth C^α images by their lowest frequencies: what they explain of real ones, and fits that a search cannot beat."""

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from scorescope.data.generated import draw_c_alpha
from scorescope.probes.c_alpha_factors import (
    ALPHA,
    C_ALPHA_FACTORS,
    c_alpha_derivatives,
    draw_c_alpha_factors,
    render_c_alpha_factors,
)
from scorescope.probes.latent_factors import FAMILIES


def explained(images, others):
    spread = (images - images.mean((1, 2, 3), keepdim=True)).square().sum((1, 2, 3))
    return (1 - (images - others).square().sum((1, 2, 3)) / spread).numpy()


def test_what_is_left_of_real_images_and_what_their_nearest_members_explain():
    """The factors that are drawn are those of the images of the same seed; the shares are those that the module names."""
    real = draw_c_alpha(2000, 16, ALPHA, torch.Generator().manual_seed(0)).double()
    factors = draw_c_alpha_factors(2000, 16, torch.Generator().manual_seed(0)).double()
    cut_off = explained(real, render_c_alpha_factors(factors, 16))
    assert cut_off.mean() == pytest.approx(0.988, abs=0.001)
    assert np.quantile(cut_off, 0.05) > 0.96
    nearest = FAMILIES["c-alpha"].fitted(real[:4]).explained
    assert (nearest >= cut_off[:4] - 1e-9).all()


@pytest.mark.slow
def test_the_nearest_member_of_an_image_that_is_none():
    """As near as SciPy's least squares from many starts."""
    generator = torch.Generator().manual_seed(0)
    image = render_c_alpha_factors(draw_c_alpha_factors(1, 10, generator).double(), 10)
    image = image + 0.1 * torch.randn((1, 1, 10, 10), generator=generator)
    found = FAMILIES["c-alpha"].fitted(image)
    target = image.flatten().numpy()

    def left(one):
        return render_c_alpha_factors(torch.from_numpy(one)[None], 10).flatten().numpy() - target

    random = np.random.default_rng(0)
    scale = np.array([0, 2.5, 2.5, 0.5, 0.5, *[0.5] * 10])
    starts = scale * random.uniform(-1, 1, (8, 15)) + np.eye(15)[0] * random.uniform(2, 8, (8, 1))
    best = min(2 * least_squares(left, start).cost for start in starts)
    own = (1 - found.explained[0]) * np.square(target - target.mean()).sum()
    assert own <= best * (1 + 1e-6)


def test_a_straight_contour_between_even_textures():
    factors = torch.zeros(1, len(C_ALPHA_FACTORS), dtype=torch.float64)
    factors[0, [0, 5, 10]] = torch.tensor([2.25, 0.5, -0.5]).double()
    image = render_c_alpha_factors(factors, 6)[0, 0]
    assert image[:, 3].tolist() == pytest.approx([0.5, 0.5, -0.25, -0.5, -0.5, -0.5])
    assert image.std(1).max() < 1e-12


def test_derivatives():
    factors = draw_c_alpha_factors(3, 9, torch.Generator().manual_seed(6)).double()
    found = c_alpha_derivatives(factors, 9)
    for column in range(len(C_ALPHA_FACTORS)):
        step = torch.zeros(len(C_ALPHA_FACTORS), dtype=torch.float64)
        step[column] = 1e-6
        up, down = (render_c_alpha_factors(factors + sign * step, 9).flatten(1) for sign in (1, -1))
        assert found[:, :, column].numpy() == pytest.approx(((up - down) / 2e-6).numpy(), abs=1e-7)
