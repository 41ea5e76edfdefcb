"""Held-out images that are training images: refused where they are many, left out and named where they are few."""

import io

import numpy as np
import pytest
from PIL import Image

from scorescope.data import DataSplit, ImageSet, load_images
from scorescope.data.duplicates import AlikeImages
from scorescope.foundation import UserError
from scorescope.lenses.audit.sets import audit_sets
from scorescope.lenses.audit.unseen import SeenImagesError, apart, unseen_by_all, unseen_images


def saved_again(images, quality=90):
    """Images as they come back from JPEG files."""
    found = []
    for pixels in images.read(0, images.stored):
        file = io.BytesIO()
        Image.fromarray(pixels[0]).save(file, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(file))[None])
    return np.stack(found)


@pytest.fixture(scope="module")
def training(digits):
    return digits.subset(range(20))


def test_images_that_are_all_training_images_are_refused_by_name(training):
    with pytest.raises(SeenImagesError, match=r"20 of 20 .*digits\[0\] = digits\[0\].*has not seen"):
        unseen_images(training, training)
    for quality in (95, 60):
        again = ImageSet(saved_again(training, quality), name="again")
        with pytest.raises(SeenImagesError, match=r"of 20 images of again .*again\[0\] = digits\[0\]"):
            unseen_images(training, again)
    mirrored = ImageSet(np.ascontiguousarray(training.read(0, 20)[..., ::-1]), name="turned")
    with pytest.raises(SeenImagesError, match="turned"):
        unseen_images(training.with_flips(), mirrored)
    assert unseen_images(training, mirrored).images is mirrored


def test_the_few_that_are_training_images_are_left_out_and_named(training, digits):
    mixed = np.concatenate([training.take([3, 7]), digits.take(range(100, 400)), saved_again(training.subset([5]))])
    found = unseen_images(training, ImageSet(mixed, name="mixed"))
    assert np.array_equal(found.images.read(0, 300), mixed[2:302])
    assert not found.alike
    (said,) = found.notes
    assert said.startswith(
        "3 of the 303 images of mixed are training images, 2 of them byte for byte and the others nearly"
    )
    assert said.endswith("left out: mixed[0], mixed[1], mixed[302]")
    twice = ImageSet(np.concatenate([mixed[2:], mixed[10:14]]), name="twice")
    assert any(
        "4 of the 305 images of twice are equal or near to an earlier one" in note
        for note in unseen_images(training, twice).notes
    )


def test_every_network_leaves_out_its_own(digits):
    sets = [digits.subset(range(20)), digits.subset(range(20, 40))]
    given = digits.subset([0, 20, *range(100, 140)])
    found = unseen_by_all(sets, given)
    assert found.images.stored == 40
    assert "2 of the 42 images" in found.notes[0]
    assert found.notes[0].endswith("left out: digits[0], digits[20]")  # parts of the same images are told of once
    elsewhere = ImageSet(sets[1].take(range(20)), name="elsewhere")
    found = unseen_by_all([sets[0], elsewhere], given)
    assert found.images.stored == 40
    assert ["left out: digits[0]" in found.notes[0], "left out: digits[20]" in found.notes[1]] == [True, True]


def test_images_of_a_family_with_few_parameters_are_kept_but_for_equal_ones(tmp_path):
    images = load_images("sinusoids", cache=tmp_path, n=1500, test_n=300, size=8)
    split, notes = apart(
        DataSplit(images.train, ImageSet(np.concatenate([images.test.read(0, 300), images.train.take([4])])))
    )
    assert any("about as many as chance makes" in note for note in notes)
    assert split.test.stored > 250
    known = {image.tobytes() for image in images.train.read(0, 1500)}
    assert not known & {image.tobytes() for image in split.test.read(0, split.test.stored)}
    sets = audit_sets(images.train, images.test, alike=AlikeImages(), calibration=100, seed=0)
    assert sets.near == 0
    with pytest.raises(UserError, match="are training images"):
        apart(DataSplit(images.train, images.train.subset(range(200))))
