"""Phases of the posterior: a case whose boundary is known, and the tiny run."""

import math

import numpy as np
import pytest

from scorescope.data import ImageSet
from scorescope.denoisers import OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.papers.newer import EntropyPhases
from scorescope.papers.newer.entropy_phases import BOUNDARY, boundary, crossing, exponent_of_side, growth_of_entropy
from scorescope.probes.posterior_entropy import middle, posterior_entropy
from scorescope.report import run_study


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phases")
    return run_study(EntropyPhases(), EntropyPhases.configure("tiny"), folder / "run", cache=folder / "cache")


def test_independent_pixels_have_the_boundary_that_theory_gives():
    """Where noise is large a patch of s² pixels of variance v tells s² v/(2σ²): the side is σ √(2 ln N / v)."""
    sizes, sides, spread = [100, 400, 1600], [2, 4, 6, 8, 10, 12, 14, 16], 24
    values = 128 + spread * np.random.default_rng(0).standard_normal((1600, 1, 16, 16))
    images = ImageSet(values.clip(0, 255).astype(np.uint8))
    sigmas = np.array([0.8, 0.6, 0.45])
    entries = np.arange(40)
    entropy = np.stack(
        [
            [
                [
                    posterior_entropy(OptimalDenoiser(middle(images.subset(range(size)), side)), entries, s, 3)
                    for s in sigmas
                ]
                for side in sides
            ]
            for size in sizes
        ]
    )
    found = boundary(entropy, sides)
    exponent, points = exponent_of_side(found, sizes, sigmas)
    assert points >= 6
    assert exponent == pytest.approx(1, abs=0.15)
    assert np.median(growth_of_entropy(entropy, sizes)) == pytest.approx(1, abs=0.1)
    theory = sigmas * math.sqrt(2 * math.log(1600)) / (spread / 127.5)
    assert found[-1, 1:] == pytest.approx(theory[1:], rel=0.3)


def test_crossings():
    assert crossing([1, 2, 4], [3.0, 2.0, 0.0], 1.0) == 3
    assert math.isnan(crossing([1, 2, 4], [3.0, 2.0, 1.5], 1.0))
    assert math.isnan(crossing([1, 2, 4], [0.5, 0.2, 0.0], 1.0))
    exact = np.array([[[[2 * BOUNDARY], [BOUNDARY]], [[0.0], [0.5 * BOUNDARY]]]])
    assert boundary(exact, [2, 4]) == pytest.approx(np.array([[3.0, math.nan]]), nan_ok=True)


def test_the_exponent_of_a_power_is_found():
    sizes, sigmas = [10, 100, 1000], np.array([0.1, 1.0, 5.0])
    side = 3 * (sigmas[None] * np.sqrt(np.log(sizes))[:, None]) ** 0.6
    side[1, 1] = math.nan
    assert exponent_of_side(side, sizes, sigmas) == (pytest.approx(0.6), 8)
    assert math.isnan(exponent_of_side(np.full((3, 3), math.nan), sizes, sigmas)[0])


@pytest.mark.slow
def test_the_tiny_run_has_everything(tiny):
    assert [figure.key for figure in tiny.figures] == ["phases", "boundary", "levels"]
    assert tiny.arrays["entropy"].shape == (3, 3, 5, 8)
    frame = tiny.tables["levels"].frame
    assert frame["N"].tolist() == [30, 100, 300]
    assert (frame["collapse"] > 0).all()
    assert {claim.verdict for claim in tiny.claims} == {"not tested at this size"}
    assert len(tiny.claims) == 4
    assert "σ" in tiny.headline


def test_entropy_grows_with_noise_and_falls_with_the_side(tiny):
    mean = tiny.arrays["entropy"].mean(3)  # levels from high to low
    assert (mean[:, :, 0] >= mean[:, :, -1]).all()
    assert (mean[:, 0] >= mean[:, -1] - 0.1).all()


def test_sizes_that_the_data_does_not_have(tmp_path):
    config = EntropyPhases.configure("tiny", ["sizes=100,100000"])
    with pytest.raises(UserError, match="name two sizes"):
        run_study(EntropyPhases(), config, tmp_path / "run", cache=tmp_path / "cache")
