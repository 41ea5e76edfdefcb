"""The audit's measuring: which images are compared, what is found of known copies, and what has no network in it."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from scorescope.data.duplicates import AlikeImages
from scorescope.data.images import ImageSet
from scorescope.foundation import UserError
from scorescope.lenses.audit import page
from scorescope.lenses.audit.counting import CopyCounter
from scorescope.lenses.audit.course import course, turns
from scorescope.lenses.audit.findings import Findings, conclude
from scorescope.lenses.audit.nearness import nearness, searched
from scorescope.lenses.audit.page import headline
from scorescope.lenses.audit.regions import regions, regions_possible, searched_regions
from scorescope.lenses.audit.sets import AuditSets, audit_sets
from scorescope.lenses.audit.settings import AuditSettings
from scorescope.probes.audit.search import Directions

SETTINGS = AuditSettings(features=("pixels",), planted=20, region_images=500, levels=3, denoised=20)


@pytest.fixture(scope="module")
def textures() -> ImageSet:
    """1,500 random textures of 16×16 pixels, all of one kind."""
    random = np.random.default_rng(0)
    coarse = random.normal(128, 45, (1500, 1, 8, 8)).repeat(2, 2).repeat(2, 3)
    pixels = (coarse + np.roll(coarse, 1, 2) + np.roll(coarse, 1, 3)) / 3 + random.normal(0, 2, (1500, 1, 16, 16))
    return ImageSet(pixels.clip(0, 255).round().astype(np.uint8), name="textures")


def sets_of(training: ImageSet, unseen: ImageSet | None, flips: bool = False, calibration: int = 400) -> AuditSets:
    return audit_sets(training, unseen, alike=AlikeImages(0.995, mirrored=flips), calibration=calibration, seed=0)


def audited(samples: np.ndarray, sets: AuditSets, settings: AuditSettings = SETTINGS, local: bool = False) -> Findings:
    images = ImageSet(samples, name="samples")
    directions = Directions()
    found = nearness(
        searched(images, sets, directions, settings, ""),
        "pixels",
        sets.control is not None,
        sets.training.flips,
        settings,
    )
    parts = None
    if local:
        assert regions_possible(sets)
        parts = regions(searched_regions(images, sets, settings), sets, settings)
    return conclude("samples", settings, sets, images, [found], parts, from_files=True)


def jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels[0]).save(file, "JPEG", quality=95)
    return np.asarray(Image.open(file))[None]


@pytest.fixture(scope="module")
def split(textures: ImageSet) -> AuditSets:
    return sets_of(textures.subset(range(100)), textures.subset(range(100, 900)))


def test_sets_are_apart_and_of_the_sizes_asked_for(textures: ImageSet, split: AuditSets) -> None:
    assert split.control is not None
    assert (split.training.stored, split.control.stored, split.calibration.stored) == (100, 400, 400)
    used = [set(map(bytes, one.read(0, one.stored))) for one in (split.training, split.control, split.calibration)]
    assert not used[0] & used[1]
    assert not used[1] & used[2]


def test_a_memorizer_a_mixture_and_unseen_images(textures: ImageSet, split: AuditSets) -> None:
    random = np.random.default_rng(1)
    copies = textures.take(random.integers(0, 100, 200))
    everything = audited(copies, split)
    assert everything.ruling.state == "memorizes"
    assert everything.same_bytes.all()
    assert "byte for byte" in " ".join(everything.warnings)
    mixed = textures.take(np.arange(900, 1100))
    mixed[:60] = copies[:60]
    partly = audited(mixed, split)
    assert partly.ruling.state == "in transition"
    assert partly.evidence.copied is not None
    assert partly.evidence.copied.low <= 0.3 <= partly.evidence.copied.high
    assert partly.copies[:60].all()
    assert partly.copies[60:].sum() <= 6
    rows = partly.rows()
    assert len(rows) == 200
    assert (rows.training_index[:60].to_numpy() == np.random.default_rng(1).integers(0, 100, 200)[:60]).all()
    nothing = audited(textures.take(np.arange(900, 1400)), split)
    assert nothing.ruling.state in ("generalizes", "undecided")
    assert not nothing.copies.any()
    assert all(
        found.value > 0.9 for kind, found in nothing.chosen.power.items() if kind in ("exact", "JPEG", "brighter")
    )
    assert nothing.to_json()["copies"] == 0


def test_a_copied_quarter_in_few_of_many(textures: ImageSet, split: AuditSets) -> None:
    samples = textures.take(np.arange(900, 1000))
    training = textures.take(np.arange(100))
    for place in range(6):
        samples[place, :, 8:, 8:] = training[place, :, 8:, 8:]
    found = audited(samples, split, local=True)
    assert set(range(6)) <= set(found.region_copies.tolist())
    assert found.ruling.state == "in transition"
    assert found.regions is not None
    assert found.regions.index[:6].tolist() == list(range(6))


def test_mirrored_copies_are_found_where_mirror_images_count(textures: ImageSet) -> None:
    samples = textures.take(np.arange(60))[..., ::-1]
    training, unseen = textures.subset(range(60)), textures.subset(range(100, 700))
    assert not audited(samples, sets_of(training, unseen)).copies.any()
    found = audited(samples, sets_of(training, unseen, flips=True))
    assert found.ruling.state == "memorizes"
    assert found.rows().mirrored.all()


def test_every_training_image_twice_and_a_near_twin(textures: ImageSet) -> None:
    random = np.random.default_rng(2)
    twice = np.concatenate([textures.take(np.arange(20))] * 2)
    samples = textures.take(random.integers(0, 20, 64))
    with_unseen = sets_of(ImageSet(twice, name="twice"), textures.subset(range(100, 500)))
    assert with_unseen.equal == 20
    assert audited(samples, with_unseen).ruling.state == "memorizes"
    alone = sets_of(ImageSet(twice, name="twice"), None)
    assert alone.leave_one_out
    assert audited(samples, alone).ruling.state == "memorizes"
    near = textures.take(np.arange(20))
    near[5] = jpeg(near[4])
    twin = sets_of(ImageSet(near, name="near"), None)
    assert twin.near == 1
    assert audited(samples, twin).ruling.state == "memorizes"
    assert "weaker" in " ".join(twin.notes)


def test_held_out_images_that_are_training_images(textures: ImageSet) -> None:
    training = textures.subset(range(100))
    with pytest.raises(UserError, match=r"100 of 100 .*textures\[0\] = textures\[0\]"):
        sets_of(training, training)
    saved = ImageSet(np.stack([jpeg(pixels) for pixels in training.read(0, 100)]), name="saved")
    with pytest.raises(UserError, match="equal or nearly"):
        sets_of(training, saved)
    some = sets_of(training, textures.subset([*range(10), *range(200, 400)]))
    assert "10 of the 210 images" in " ".join(some.notes)
    assert some.control is not None
    assert some.control.stored + some.calibration.stored == 200


def test_one_image_and_constant_images(textures: ImageSet) -> None:
    unseen = textures.subset(range(100, 700))
    one = textures.take(np.zeros(40, int))
    assert audited(one, sets_of(ImageSet(one[:1], name="one"), unseen)).ruling.state == "memorizes"
    assert audited(one, sets_of(ImageSet(one[:1], name="one"), None)).ruling.state == "undecided"
    grey = np.full((40, 1, 16, 16), 90, np.uint8)
    flat = audited(grey, sets_of(ImageSet(grey, name="flat"), unseen))
    assert flat.ruling.state in ("memorizes", "no verdict")


def test_samples_of_something_else_get_no_verdict_and_noise_none(textures: ImageSet, split: AuditSets) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (200, 1, 16, 16), dtype=np.uint8)
    assert audited(noise, split).ruling.state == "no verdict"


def test_too_few_calibration_images_are_told_and_one_sample_works(textures: ImageSet) -> None:
    few = sets_of(textures.subset(range(30)), textures.subset(range(100, 124)))
    found = audited(textures.take(np.arange(5)), few)
    assert "too few for a false discovery rate" in " ".join(found.warnings)
    assert not found.copies.any()
    enough = sets_of(textures.subset(range(30)), textures.subset(range(100, 400)))
    single = audited(textures.take([3]), enough)
    assert single.copies.all()
    assert single.ruling.state != "generalizes"


def test_a_course_says_where_generalization_is_there_and_where_memorization_begins(
    textures: ImageSet, split: AuditSets
) -> None:
    random, settings = np.random.default_rng(4), SETTINGS.model_copy(update={"bound": 0.25})
    unseen, copies = textures.take(np.arange(900, 1300)), textures.take(random.integers(0, 100, 400))
    noise = random.integers(0, 256, unseen.shape, dtype=np.uint8)
    steps = [noise, unseen, np.concatenate([copies[:80], unseen[80:]]), copies]
    found = [
        dataclasses.replace(audited(samples, split, settings), label=f"step {step}")
        for step, samples in enumerate(steps)
    ]
    assert [one.ruling.state for one in found] == ["no verdict", "generalizes", "in transition", "memorizes"]
    assert not found[0].copies.any()
    assert course(found) == (
        "Generalization is there at step 1; memorization begins at step 2 and stays to the last. At step 3: memorizes."
    )
    assert course(found[:2]).startswith(
        "Generalization is there at step 1; and none at the end surely gives images back"
    )
    assert course(found[3:]).startswith("No checkpoint is surely one that generalizes; memorization begins at step 3")
    assert turns(found) == (1, 2)
    assert turns(found[:1]) == (None, None)
    assert headline(found[2:], is_run=False) == "“step 2”: in transition; “step 3”: memorizes."


def test_a_training_image_is_named_by_its_place_in_the_store(textures: ImageSet) -> None:
    sets = sets_of(textures.subset(range(50, 90)), textures.subset(range(100, 700)))
    rows = audited(textures.take(np.arange(60, 80)), sets).rows()
    assert rows.training_index.tolist() == list(range(60, 80))
    assert rows.training_name.tolist() == [f"textures[{place}]" for place in range(60, 80)]


def test_pairs_are_shown_from_the_smallest_p_on_each_training_image_twice_and_at_its_own_contrast(
    textures: ImageSet,
) -> None:
    p, t, index = np.array([0.1, 0.1, 0.5, 0.1, 0.01, 0.2]), np.arange(6.0), np.array([3, 3, 3, 3, 7, 8])
    assert page._different(np.lexsort((-t, p)), index).tolist() == [4, 3, 1, 5]
    near = textures.tensor([0, 1])
    assert torch.allclose(page._fitted(0.3 * near + 0.2, near), near, atol=1e-5)


def test_copies_of_one_set_are_counted_and_named(textures):
    training, unseen, fresh = (textures.subset(range(*ends)) for ends in ((0, 150), (150, 1400), (1400, 1500)))
    copied = torch.arange(0, 60)
    samples = torch.cat([training.tensor(copied.numpy()) * 0.99, fresh.tensor(np.arange(60))])
    found = CopyCounter(training, unseen).count(samples)
    assert found.share.low <= 0.5 <= found.share.high
    assert found.above[:60].all()
    assert found.above[60:].mean() < 0.1
    assert np.array_equal(found.nearest[:60], copied.numpy())
    every = (samples[:, None] - training.tensor()[None]).square().mean((2, 3, 4)).sqrt()
    assert found.distance == pytest.approx(every.min(1).values.numpy(), rel=1e-3, abs=1e-4)
