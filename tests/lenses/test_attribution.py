"""An attribution put together on states whose answer is known: a model that is a composite of patches, and one that is not."""

import numpy as np
import pytest
import torch
from tests.posterior import oracles

from scorescope.data.images import ImageSet
from scorescope.denoisers import SquarePatchDenoiser
from scorescope.lenses.attribution import baselines, page
from scorescope.lenses.attribution.findings import PATCHES, Findings, best_at_levels, first
from scorescope.lenses.attribution.leaving import leave_out
from scorescope.lenses.attribution.settings import AttributionSettings, sides_for
from scorescope.lenses.attribution.states import Familiarity, States, looked_at
from scorescope.lenses.attribution.tracing import ANYWHERE, WHOLE, match, trace
from scorescope.study.results import Results

SIGMAS = np.array([2.0, 0.5, 0.2])
SETTINGS = AttributionSettings(sides=(3, 5), top=4, everywhere_images=20, left_out=2)


@pytest.fixture(scope="module")
def training(digits) -> ImageSet:
    return digits.subset(range(100, 160))


@pytest.fixture(scope="module")
def noisy(training) -> torch.Tensor:
    clean = training.tensor([5]).double()
    noise = torch.randn((3, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return clean + torch.tensor(SIGMAS).reshape(-1, 1, 1, 1) * noise


def states_of(noisy, denoised, drawn=True):
    return States(denoised[-1].numpy().astype(np.float32), SIGMAS, noisy.numpy(), denoised.numpy(), drawn)


@pytest.fixture(scope="module")
def found(training, noisy) -> Findings:
    """Of a model that is exactly the composite of windows of 5×5."""
    composite = SquarePatchDenoiser(training, 5)
    denoised = torch.cat([composite(one[None], float(sigma)) for one, sigma in zip(noisy, SIGMAS, strict=True)])
    states = states_of(noisy, denoised)
    pixels = baselines.pixel_cosine(training, states)
    nearest = baselines.most_alike(pixels, SETTINGS.everywhere_images)
    traced = trace(training, states, SETTINGS, nearest)
    left = leave_out(training, states, best_at_levels(traced), SETTINGS.left_out, "")
    return Findings("composite", training, SETTINGS, states, traced, left, [pixels], None)


def test_the_estimate_that_is_the_model_matches_it_and_is_chosen(found):
    assert [one.name for one in found.traced] == [WHOLE, "windows of 3×3", "windows of 5×5", ANYWHERE]
    assert [one.name for one in found.best] == ["windows of 5×5"] * 3
    np.testing.assert_allclose(found.match, 1, atol=1e-6)
    assert found.warnings == []
    assert all(one.match.mean() < 0.99 for one in found.traced if one.name != "windows of 5×5")


def test_shares_are_those_of_the_definition(found, training, noisy):
    clean = oracles.values(training.pixels[training.indices])
    expected = [oracles.posterior_weights(one, clean, sigma) for one, sigma in zip(noisy.numpy(), SIGMAS, strict=True)]
    np.testing.assert_allclose(found.traced[0].share, expected, atol=1e-6)
    np.testing.assert_allclose(found.scores[1].score, np.mean(expected, axis=0), atol=1e-6)
    for one in found.traced:
        np.testing.assert_allclose(one.share.sum(1), 1, atol=1e-4)
    assert np.count_nonzero(found.scores[2].score) <= SETTINGS.everywhere_images
    assert "20 training images" in found.scores[2].note


def test_leaving_the_first_image_out_is_leaving_it_out(found, training, noisy):
    clean = oracles.values(training.pixels[training.indices])
    for level, sigma in enumerate(SIGMAS):
        entry = int(np.argmax(found.best[level].share[level]))
        assert found.left.entries[level, 0] == entry
        rest = oracles.square_patches(noisy[level].numpy(), np.delete(clean, entry, axis=0), sigma, 5)
        np.testing.assert_allclose(found.left.without[level, 0], rest, atol=2e-4)
        moved = np.sqrt(((rest - oracles.square_patches(noisy[level].numpy(), clean, sigma, 5)) ** 2).mean())
        assert found.left.moved[level, 0] == pytest.approx(moved, abs=2e-4)


def test_match_by_its_definition():
    random = np.random.default_rng(0)
    m, d, y = random.standard_normal((3, 4, 1, 5, 5))
    for row, value in enumerate(match(m, d, y)):
        trivial = min(((y[row] - d[row]) ** 2).sum(), ((d[row] - d[row].mean()) ** 2).sum())
        assert value == pytest.approx(1 - ((m[row] - d[row]) ** 2).sum() / trivial)
    np.testing.assert_allclose(match(d, d, y), 1)
    assert (match(np.broadcast_to(d.mean((1, 2, 3), keepdims=True), d.shape), d, y) <= 1e-12).all()


@pytest.mark.slow
def test_a_model_of_something_else_is_warned_of(found, training, noisy):
    other = torch.flip(torch.from_numpy(found.states.denoised), (-1, -2)) * -1
    states = states_of(noisy, other, drawn=False)
    strange = Familiarity(9.0, np.array([0.8, 1.0, 1.3, 1.0, 1.0, 1.0, 1.1, 0.9]))
    traced = trace(training, states, SETTINGS, np.arange(0))
    wrong = Findings("other", training, SETTINGS, states, traced, None, [], strange)
    assert "the match is low" in wrong.warnings[0]
    assert "probably no sample of this model" in wrong.warnings[1]
    assert ANYWHERE not in [one.name for one in wrong.traced]
    results = Results(study="attribute", title="Attribution")
    page.add_attribution(results, wrong)
    assert "Warning: the match is low" in results.headline
    assert page.WITHOUT not in results.sections
    assert not Familiarity(1.5, strange.training).strange


@pytest.mark.slow
def test_the_page_names_images_by_their_number_in_the_data_set(found):
    results = Results(study="attribute", title="Attribution")
    page.add_attribution(results, found)
    first_entry = int(first(found.share, 1)[0])
    assert f"from no. {100 + first_entry}." in results.headline
    assert list(results.sections) == [page.IMAGES, page.MAP, page.WITHOUT, page.TRUST]
    rows = found.rows()
    assert rows["image"].iloc[0] == 100 + first_entry
    assert rows[PATCHES].is_monotonic_decreasing
    assert set(rows["class"]) <= set(range(10))
    record = found.to_json()
    assert record["methods"][PATCHES]["images"][0]["image"] == str(100 + first_entry)


def test_levels_and_sides():
    settings = AttributionSettings(every=2, lowest=0.1)
    assert looked_at([4.0, 2.0, 1.0, 0.5, 0.09, 0.03], settings) == [0, 2, 3]
    assert looked_at([0.05, 0.03], settings) == [0]
    assert sides_for(settings, 28, 28) == [3, 5, 7, 11, 15, 23]
    assert sides_for(AttributionSettings(sides=(9, 3, 28)), 28, 28) == [3, 9]
    assert sides_for(settings, 2, 2) == [1]


def test_a_method_that_says_nothing_names_nobody():
    assert first(np.full(5, np.nan), 3).size == 0
    np.testing.assert_array_equal(first(np.array([0.1, np.nan, 0.5, 0.0]), 3), [2, 0])
