"""Averaging over areas: against a plain count of sub-pixels, and what it must keep."""

import numpy as np
import pytest

from scorescope.data import ImageSet
from scorescope.data.resolution import at_side, averaging_matrix
from scorescope.foundation import UserError


@pytest.mark.parametrize(("side", "new_side"), [(28, 14), (28, 8), (7, 3), (6, 6)])
def test_a_new_pixel_is_the_mean_of_the_area_it_covers(side, new_side):
    # Both sides divide a fine grid: there every new pixel is a plain mean of whole cells.
    image = np.random.default_rng(0).integers(0, 256, (side, side))
    fine = image.repeat(new_side, 0).repeat(new_side, 1)
    expected = fine.reshape(new_side, side, new_side, side).mean((1, 3))
    matrix = averaging_matrix(side, new_side)
    assert matrix.sum(1) == pytest.approx(np.ones(new_side))
    assert matrix @ image @ matrix.T == pytest.approx(expected)
    found = at_side(ImageSet(image[None, None].astype(np.uint8)), new_side).read(0, 1)[0, 0]
    assert np.abs(found - expected).max() <= 0.5 + 1e-4


def test_order_and_labels_are_those_of_the_subset(digits):
    chosen = digits.subset([7, 3, 900])
    small = at_side(chosen, 4)
    assert small.image_shape == (1, 4, 4)
    assert small.own_labels().tolist() == chosen.own_labels().tolist()
    assert small.read(1, 2) == pytest.approx(at_side(digits.subset([3]), 4).read(0, 1))
    assert at_side(chosen, 8) is chosen


@pytest.mark.parametrize("side", [0, 9])
def test_sides_that_cannot_be_are_refused(digits, side):
    with pytest.raises(UserError, match="sides of 1 to 8"):
        at_side(digits, side)


def test_mirror_images_come_afterwards(digits):
    with pytest.raises(UserError, match="average the images first"):
        at_side(digits.with_flips(), 4)
