"""The study of limits: both curves go where they should, and the page shows them."""

import pytest

from scorescope import report
from scorescope.papers.vastola2025.limits import Limits, little_frozen, little_white, noise_at_end
from scorescope.study.base import PRESETS, studies
from scorescope.study.claims import NOT_TESTED

TINY = Limits.configure("tiny")


def test_late_noise_is_nearer_to_a_kernel_density_estimate():
    found = noise_at_end(TINY)
    for key in ("line", "plane"):
        (early, _), (late, chance) = found[key]
        assert late < early
        assert late < 2.5 * chance


@pytest.mark.slow
def test_little_noise_spreads_as_predicted_and_much_does_not():
    for measure in (little_white, little_frozen):
        small, large = (ratio[1] for ratio in measure(TINY)["ratio"])
        assert abs(small - 1) < 0.15
        assert abs(small - 1) < abs(large - 1)


@pytest.mark.slow
def test_the_page_shows_both_limits(tmp_path):
    results = report.run_study(Limits(), TINY, tmp_path / "run")
    assert {exhibit.key for exhibit in results.figures} == {"kde", "densities", "spread-white", "spread-frozen"}
    assert all(claim.verdict == NOT_TESTED for claim in results.claims)
    assert len(results.tables["small"].frame) == 4


@pytest.mark.parametrize("name", ["fig1", "fig2", "fig3", "formulations", "limits"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(name, preset):
    chosen = studies[f"vastola2025/{name}"]
    assert isinstance(chosen.configure(preset), chosen.Config)
