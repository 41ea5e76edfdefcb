"""The clause about what explains a deviation: the best first, and nothing where memorization itself is nearest."""

import numpy as np

from scorescope.lenses.deviations import best_mechanism
from scorescope.probes.attribution import Deviation

LEVELS = np.array([1.0, 0.1])


def clause(gap, **distances):
    return best_mechanism(
        Deviation(LEVELS, np.full((2, 3), gap), {name: np.full((2, 3), d) for name, d in distances.items()})
    )


def test_mechanisms_that_explain_something_are_named_from_the_best_down():
    assert clause(1.0, gaussian=0.75, patches=0.25, wavelet=9.0) == (
        "patches explains 75% of its deviation from memorization (gaussian 25%)"
    )


def test_no_share_is_told_where_memorization_is_nearest():
    said = clause(0.01, wavelet=79.0, patches=0.0101)
    assert "no mechanism is nearer" in said
    assert "%" not in said


def test_nothing_is_told_where_there_is_no_deviation():
    assert "too little" in clause(0.0, patches=1.0)
