"""Lenses by name: what they need, what happens when one fails, and one of a user's own."""

import pytest

from scorescope.denoisers import GaussianDenoiser, WaveletDenoiser
from scorescope.foundation import UserError
from scorescope.lenses import DERIVATIVE, HELD_OUT, SECOND, Lens, LensSettings, Subject, lens, lenses, look
from scorescope.study import Results, open_run

HOUSE = ["memorization", "samples", "mechanisms", "locality", "shrinkage", "variance", "explorer"]


@pytest.fixture
def own():
    """Lenses that a test registers are forgotten after it."""
    before = dict(lenses._entries)
    yield lens
    lenses._entries.clear()
    lenses._entries.update(before)


def looked(one, subject, folder):
    results = Results(study="test", title="test")
    with open_run(folder / "run", "test", {}) as workspace:
        found = look(one(), results, subject, LensSettings(), workspace)
        workspace.store(results)
    return found, Results.load(folder / "run")


@pytest.fixture
def subject(digits):
    images = digits.subset(range(10))
    return Subject({"network": GaussianDenoiser(images)}, {"network": images}, None)


def test_the_house_has_its_lenses_in_the_order_of_the_page():
    assert list(lenses)[: len(HOUSE)] == HOUSE
    assert all(entry.question.endswith("?") for _, entry in lenses.items())


def test_a_lens_measures_and_shows(own, subject, tmp_path):
    @own("count", question="How many images has it seen?")
    class Count(Lens):
        def measure(self, subject, settings, workspace):
            return {"images": subject.first_training.stored}

        def show(self, results, measured):
            results.methods["Count"] = f"{measured['images']} images"

    found, results = looked(Count, subject, tmp_path)
    assert found == {"images": 10}
    assert results.methods["Count"] == "10 images"
    assert results.opened == ["Count"]
    assert results.introductions["Count"] == "How many images has it seen?"
    assert lenses["count"] is Count
    with pytest.raises(UserError, match="no lens is called 'cont'; did you mean 'count'"):
        lenses["cont"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("the images are too large"), "Not measured: the images are too large."),
        (RuntimeError("derivative of f\nis not there"), "Not measured: RuntimeError: derivative of f (see "),
        (ZeroDivisionError("division by zero"), "Not measured: ZeroDivisionError: division by zero"),
    ],
)
def test_a_lens_that_fails_says_so_in_its_section(own, subject, tmp_path, capsys, error, said):
    @own("broken", question="Does it fail?")
    class Broken(Lens):
        def measure(self, subject, settings, workspace):
            raise error

        def show(self, results, measured):
            raise AssertionError("there is nothing to show")

    found, results = looked(Broken, subject, tmp_path)
    assert found is None
    assert results.not_measured["Broken"].startswith(said)
    assert "\n" not in results.not_measured["Broken"]
    assert results.sections == {"Broken": []}
    assert said in capsys.readouterr().err
    assert (tmp_path / "run" / "broken.traceback.txt").exists() == (not isinstance(error, UserError))


def test_an_interruption_is_none_of_its_failures(own, subject, tmp_path):
    @own("stopped", question="Can it be stopped?")
    class Stopped(Lens):
        def measure(self, subject, settings, workspace):
            raise KeyboardInterrupt

        def show(self, results, measured): ...

    with pytest.raises(KeyboardInterrupt):
        looked(Stopped, subject, tmp_path)


def test_what_a_lens_needs_is_asked_for_before_it_measures(own, subject, digits, tmp_path):
    @own("needy", question="What does it need?", needs=(HELD_OUT, SECOND, DERIVATIVE))
    class Needy(Lens):
        def measure(self, subject, settings, workspace):
            return "measured"

        def show(self, results, measured): ...

    _, results = looked(Needy, subject, tmp_path / "nothing")
    assert results.not_measured["Needy"] == (
        "Not measured: it takes held-out images and a second network, which there is not here."
    )
    images = digits.subset(range(10))
    networks = {"A": WaveletDenoiser(images), "B": WaveletDenoiser(images)}
    _, results = looked(Needy, Subject(networks, dict.fromkeys(networks, images), images), tmp_path / "flat")
    assert "takes a derivative" in results.not_measured["Needy"]
    networks = {"A": GaussianDenoiser(images), "B": GaussianDenoiser(images)}
    found, results = looked(Needy, Subject(networks, dict.fromkeys(networks, images), images), tmp_path / "all")
    assert found == "measured"
    assert not results.not_measured


def test_needs_that_nobody_can_check_are_refused():
    with pytest.raises(ValueError, match="not 'luck'"):
        lens("lucky", question="Is it lucky?", needs=("luck",))
