"""Setting one value of a group keeps the others of the preset small."""

import pytest

from scorescope.papers.vastola2025.consequences import Consequences
from scorescope.papers.vastola2025.critics1 import Critics1
from scorescope.papers.vastola2025.critics2 import Critics2
from scorescope.papers.vastola2025.critics3 import Critics3
from scorescope.papers.vastola2025.critics4 import Critics4
from scorescope.papers.vastola2025.error import Error


@pytest.mark.parametrize(
    ("study", "setting"),
    [
        (Consequences, "plane.seed=0"),
        (Critics1, "perceptron.seed=0"),
        (Critics1, "convolutional.training.seed=0"),
        (Critics2, "images.training.seed=0"),
        (Critics2, "images.measurement.seed=0"),
        (Critics3, "points.seed=0"),
        (Critics3, "images.training.seed=0"),
        (Critics4, "linear.seed=0"),
        (Error, "linear.seed=0"),
    ],
)
def test_the_defaults_of_a_group_survive_a_setting(study, setting):
    assert study.configure("small", [setting]) == study.configure("small") == study.Config()
