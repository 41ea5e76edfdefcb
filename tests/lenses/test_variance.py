"""The lens of variance: numbers against brute force, with one network and with two."""

import numpy as np
import pytest
import torch
from torch import nn

from scorescope.denoisers import NetworkDenoiser
from scorescope.lenses import look
from scorescope.lenses.settings import LensSettings
from scorescope.lenses.subject import Subject
from scorescope.lenses.variance import SECTION, Variance, variance_along
from scorescope.study.results import Results
from scorescope.study.workspace import open_run

CONFIG = LensSettings(deviation_levels=3, deviation_inputs=4)


class Shrink(nn.Module):
    """A blind network that takes a share of every image for noise."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, noisy):
        return self.share * noisy


def subject(digits, *shares):
    networks = {
        name: NetworkDenoiser(Shrink(share), "blind-residual", (1, 8, 8), (0.0, 2.0), name=name)
        for name, share in zip("ABC", shares, strict=False)
    }
    training = digits.subset(range(40))
    return Subject(networks, dict.fromkeys(networks, training), None, given={})


def test_the_share_of_noise_is_its_definition(digits):
    one = subject(digits, 0.3)
    found = variance_along(one, CONFIG)
    assert found["fraction"].shape == (3, 4)
    assert "model" not in found
    # the first level by brute force, from the same start
    sigma = found["sigma"][0]
    generator = torch.Generator().manual_seed(CONFIG.seed)
    order = np.random.default_rng(CONFIG.seed).permutation(40)
    clean = one.first_training.tensor().double().flatten(1)
    centre = float(one.first_training.tensor(np.resize(order, 512)).mean())
    noisy = (centre + sigma * torch.randn(4, 1, 8, 8, generator=generator)).double().flatten(1)
    weights = torch.softmax(-(noisy[:, None] - clean).square().sum(2) / (2 * sigma**2), 1)
    mean = weights @ clean
    spread = (weights * (clean - mean[:, None]).square().sum(2)).sum(1)
    noise, size = spread / sigma**4, (mean - noisy).square().sum(1) / sigma**4
    assert found["fraction"][0] == pytest.approx((noise / (noise + size)).numpy(), rel=1e-4)
    assert found["target"][0] == pytest.approx((spread / 64).numpy(), rel=1e-4)


def test_of_two_networks_the_variance_stands_beside_it(digits, tmp_path):
    both = subject(digits, 0.2, 0.4)
    found = variance_along(both, CONFIG)
    assert found["model"].shape == (3, 4)
    assert (found["model"] > 0).all()
    results = Results(study="main/explain", title="test")
    with open_run(tmp_path / "run", "main/explain", {}) as workspace:
        look(Variance(), results, both, CONFIG, workspace)
    assert [exhibit.key for exhibit in results.sections[SECTION]] == ["proxy-variance", "model-variance"]
    assert "models' variance" in results.tables["variance"].frame.columns


def test_one_network_has_no_variance_of_its_own(digits, tmp_path):
    results = Results(study="main/explain", title="test")
    with open_run(tmp_path / "run", "main/explain", {}) as workspace:
        look(Variance(), results, subject(digits, 0.3), CONFIG, workspace)
    assert [exhibit.key for exhibit in results.sections[SECTION]] == ["proxy-variance"]
    assert list(results.tables["variance"].frame.columns) == ["σ", "share of noise", "target's variance"]
