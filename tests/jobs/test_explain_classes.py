"""`explain` of a network asked for one class: its training images, memorization and gap are those of the class."""

import pytest

from scorescope import report
from scorescope.jobs.explain import Explain
from scorescope.jobs.train import Train

LABEL = 3


@pytest.mark.slow
def test_a_class_is_compared_with_its_own_images(tmp_path):
    few = ["samples=2", "sample_times=1", "observe_images=4", "observe_every=1000", "classes=true"]
    settings = {"data": "digits", "architecture": "ddpm++", "size": 300, "training": {"steps": 20, "batch": 16}}
    report.run_study(Train(), Train.configure("tiny", few, **settings), tmp_path / "net")
    chosen = {"model": str(tmp_path / "net"), "data": "digits", "class_label": LABEL, "lenses": ("memorization",)}
    results = report.run_study(Explain(), Explain.configure("tiny", **chosen), tmp_path / "run")
    said = results.methods["Training images"]
    assert f"class {LABEL} alone" in said
    assert 15 < int(said.split()[0]) < 50  # about a tenth of 300
