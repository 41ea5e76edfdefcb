"""Theories that decide late, averaged: what is averaged, and whether it is nearer to whoever drew from the same images."""

import numpy as np
import pytest
import torch

from scorescope.data.images import ImageSet
from scorescope.denoisers import CommitteeDenoiser, GaussianDenoiser, OptimalDenoiser, denoisers
from scorescope.denoisers.committee import committee_of
from scorescope.foundation import UserError


def noise(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def training(digits):
    return digits.subset(range(900))


@pytest.fixture(scope="module")
def committee(training):
    return committee_of(training, components=6, window=(15, 7, 4))


def test_every_theory_has_one_vote(committee, training):
    whole, patches, windows = committee.members
    assert windows.whole is whole
    assert windows.temperature == whole.temperature == 2.0
    assert patches.name == "pspc-square"
    sigmas = torch.tensor([0.05, 0.7, 30.0])
    noisy = training.tensor(range(3)) + sigmas[:, None, None, None] * noise((3, 1, 8, 8))
    expected = (whole(noisy, sigmas) + patches(noisy, sigmas) + windows(noisy, sigmas)) / 3
    torch.testing.assert_close(committee(noisy, sigmas), expected, rtol=0, atol=1e-6)


def test_a_mean_is_never_worse_than_its_members_are_on_average(committee, digits):
    """Krogh & Vedelsby 1995: the error of a mean is the mean error less how much the members differ."""
    clean = digits.tensor(range(1200, 1300)).double()
    noisy = clean + 0.8 * noise(clean.shape)
    found = torch.stack([member(noisy, 0.8) for member in committee.members])
    errors = (found - clean).square().mean((1, 2, 3, 4))
    differ = (found - found.mean(0)).square().mean()
    together = (committee(noisy, 0.8) - clean).square().mean()
    assert float(together) == pytest.approx(float(errors.mean() - differ), rel=1e-5)
    assert float(differ) > 0.01 * float(errors.mean())


def test_gradients_flow_where_they_flow_through_all(training, committee):
    assert not committee.differentiable  # patches are counted, not differentiated
    images = training.subset(range(50))
    both = CommitteeDenoiser([GaussianDenoiser(images), OptimalDenoiser(images)])
    assert both.differentiable == (GaussianDenoiser.differentiable and OptimalDenoiser.differentiable)


def test_what_cannot_be_is_refused(training):
    with pytest.raises(UserError, match="at least one"):
        CommitteeDenoiser([])
    with pytest.raises(UserError, match="temperature"):
        committee_of(training, temperature=0.0)
    other = GaussianDenoiser(ImageSet(np.zeros((2, 1, 4, 4), np.uint8)))
    with pytest.raises(UserError, match="one shape"):
        CommitteeDenoiser([GaussianDenoiser(training), other])


def test_registered_for_those_who_ask_for_it():
    entry = denoisers["committee"]
    assert entry.costly
    assert entry.build is committee_of
