"""Planted copies, copied regions, what models images, and the rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scorescope.data.images import ImageSet, to_float
from scorescope.probes.audit import copies, local_copies, modelling, planting, verdict
from scorescope.probes.audit.search import Directions, blocks_of, search
from scorescope.probes.proportions import Interval


@pytest.fixture(scope="module")
def textures() -> ImageSet:
    """900 smooth random textures of 16×16 pixels: no two alike, all of one kind."""
    noise = torch.randn(900, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = planting.smoothed(noise, 3)
    pixels = ((smooth / smooth.std() * 0.4).clamp(-1, 1) + 1) * 127.5
    return ImageSet(pixels.round().to(torch.uint8).numpy(), name="textures")


def test_planted_copies_are_what_they_say(textures: ImageSet) -> None:
    images, hosts = textures.tensor(np.arange(8)), textures.tensor(np.arange(8, 16))
    made = {kind: planting.planted(kind, images, hosts) for kind in planting.KINDS}
    assert torch.equal(made["exact"], images)
    assert torch.equal(made["mirrored"], images.flip(-1))
    assert torch.equal(made["shifted 2 pixels"][..., 2:], images[..., :-2])
    half = made["half in another"]
    assert torch.equal(half[..., :8], images[..., :8])
    assert torch.equal(half[..., 8:], hosts[..., 8:])
    quarter = made["quarter in another"] != hosts
    assert not quarter[..., :4, :].any()
    assert quarter[..., 4:12, 4:12].float().mean() > 0.9
    assert 0 < (made["JPEG"] - images).abs().max() < 0.5


def test_whole_and_local_copies_are_found_where_they_are(textures: ImageSet) -> None:
    training, control = textures.subset(range(100)), textures.subset(range(100, 200))
    unseen, hosts = textures.tensor(np.arange(200, 650)), textures.tensor(np.arange(650, 690))
    windows = local_copies.windows_of(16, 16)
    assert {window.side for window in windows} == {0.5, 0.25}
    images = training.tensor(np.arange(40))
    rng = (0.5, 1.0), (0.0, 0.5)
    copied = planting.part_in_another(images, hosts, *rng)
    others = textures.tensor(np.arange(690, 730))
    found, null = (
        local_copies.local_margins(torch.cat([copied, others]), training, control, windows),
        local_copies.local_margins(unseen, training, control, windows),
    )
    q = copies.q_values(copies.conformal(found.statistic, null.statistic))
    assert (q[:40] <= 0.05).mean() > 0.9
    assert (q[40:] <= 0.05).mean() < 0.15
    best = found.window[:40]
    assert (found.index[np.arange(40), best] == np.arange(40)).mean() > 0.9
    boxes = [windows[place].box(16, 16) for place in best]
    inside = [top >= 6 and right <= 10 for top, _, _, right in boxes]
    assert np.mean(inside) > 0.8
    level = float(np.quantile(null.statistic, 0.99))
    mask = local_copies.copied_boxes(found.margin[0], level, windows, 16, 16)
    assert mask[8:, :8].float().mean() > 0.5
    assert mask[:8, 8:].float().mean() < 0.2


def test_local_margins_are_the_brute_force(textures: ImageSet) -> None:
    training, control = textures.subset(range(20)), textures.subset(range(20, 50))
    queries = textures.tensor(np.arange(60, 66))
    windows = local_copies.windows_of(16, 16)[:3]
    found = local_copies.local_margins(queries, training, control, windows)
    for place, window in enumerate(windows):
        top, bottom, left, right = window.box(16, 16)

        def cut(images: torch.Tensor, box: tuple[int, int, int, int] = (top, bottom, left, right)) -> torch.Tensor:
            part = images.half().double()[..., box[0] : box[1], box[2] : box[3]].flatten(1)
            return part - part.mean(1, keepdim=True)

        mine, near, far = cut(queries), cut(training.tensor()), cut(control.tensor())
        to_t, to_c = ((mine[:, None] - other[None]).square().mean(2).min(1).values for other in (near, far))
        expected = torch.log(to_c + local_copies.SMALLEST) - torch.log(to_t + local_copies.SMALLEST)
        np.testing.assert_allclose(found.margin[:, place], expected, atol=2e-4)


def test_the_statistic_is_chosen_by_power_unless_smoothness_fools_it() -> None:
    power = {"margin": [0.5, 0.5], "ratio": [0.6, 0.6], "similarity": [0.9, 0.9]}
    assert planting.choose_statistic(power, {"margin": 0.01, "ratio": 0.01, "similarity": 0.4}, 0.01) == "ratio"
    assert planting.choose_statistic(power, {"margin": 0.01, "ratio": 0.01, "similarity": 0.01}, 0.01) == "similarity"
    assert planting.choose_statistic(power, {"margin": 0.1, "ratio": 0.2, "similarity": 0.4}, 0.01) == "margin"


def test_what_models_images_and_what_does_not(textures: ImageSet) -> None:
    space = Directions()
    vectors = space.all_of(textures.subset(range(300)))
    generator = torch.Generator().manual_seed(1)
    good = textures.tensor(np.arange(300, 400))
    nothing = torch.cat([modelling.shuffled(good, generator), modelling.noise_like(good, generator)])

    def near(images: torch.Tensor) -> np.ndarray:
        return search(space.of(images), blocks_of(vectors)).similarity[:, 0]

    assert modelling.nearer_than(near(good), near(nothing)).low > 0.5
    assert modelling.nearer_than(near(modelling.shuffled(good, generator)), near(nothing)).low < 0.5
    errors = np.array([[0.1, 0.2], [0.3, 0.4]])
    assert modelling.share_below(errors, np.array([[0.2, 0.2], [0.1, 0.1]])) == 0.5
    assert not modelling.Modelling(1.0, 0.2, None).holds
    assert not modelling.Modelling(1.0, 1.0, Interval(0.5, 0.4, 0.6)).holds
    assert modelling.Modelling(1.0, 1.0, Interval(0.9, 0.8, 1.0)).holds
    assert "Gaussian" in modelling.Modelling(1.0, 1.0, Interval(0.9, 0.8, 1.0)).words()
    shown = modelling.shuffled(to_float(textures.read(0, 3)), generator)
    assert torch.equal(shown.flatten(1).sort(1).values, to_float(textures.read(0, 3)).flatten(1).sort(1).values)


HALF, NONE, SOME = Interval(0.9, 0.8, 0.95), Interval(0.0, 0.0, 0.05), Interval(0.2, 0.1, 0.3)
WIDE = Interval(0.02, -0.2, 0.2)
SMALL_GAP, LARGE_GAP = Interval(0.0, -0.1, 0.1), Interval(3.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ("copied", "leaked", "gap", "expected"),
    [
        (HALF, HALF, LARGE_GAP, "memorizes"),
        (HALF, None, None, "memorizes"),
        (HALF, SOME, None, "in transition"),
        (NONE, NONE, SMALL_GAP, "generalizes"),
        (NONE, NONE, None, "generalizes"),
        (NONE, NONE, LARGE_GAP, "in transition"),
        (NONE, SOME, SMALL_GAP, "in transition"),
        (NONE, WIDE, SMALL_GAP, "undecided"),
        (NONE, None, SMALL_GAP, "undecided"),
        (NONE, NONE, Interval(0.2, -0.2, 0.6), "undecided"),
    ],
)
def test_the_rule(copied: Interval, leaked: Interval | None, gap: Interval | None, expected: str) -> None:
    evidence = verdict.Evidence(copied, leaked, gap, samples=100, calibration=5000)
    found = verdict.rule(evidence)
    assert found.state == expected
    assert found.because
    assert (found.alarm is None) == (expected == "undecided")


def test_a_wider_bound_is_taken_only_if_allowed_and_is_said() -> None:
    evidence = verdict.Evidence(NONE, WIDE, SMALL_GAP, samples=100, calibration=5000)
    undecided = verdict.rule(evidence)
    assert undecided.samples_needed is not None
    assert undecided.samples_needed > 400
    wide = verdict.rule(evidence, allow_wider=True)
    assert (wide.state, wide.bound) == ("generalizes", 0.2)
    assert "20 %" in wide.because
    few = verdict.rule(verdict.Evidence(NONE, WIDE, samples=100, calibration=100))
    assert "calibration images" in few.because


def test_no_verdict_on_a_model_of_something_else() -> None:
    modelled = modelling.Modelling(0.1, 0.0, Interval(0.5, 0.4, 0.6))
    found = verdict.rule(verdict.Evidence(HALF, HALF, LARGE_GAP, modelling=modelled))
    assert found.state == "no verdict"
    assert "not trained" in found.because
