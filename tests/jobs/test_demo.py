"""The demo: its networks from the package or trained here, the page that fills in, and a run that is interrupted."""

import json

import pytest

from scorescope.app.runs import demo_preset
from scorescope.data import load_images
from scorescope.data.fashion_mnist import DEBIAN_FOLDER
from scorescope.foundation import UserError
from scorescope.jobs.demo import Demo
from scorescope.networks import NetworkConfig, architectures
from scorescope.report import run_study
from scorescope.study.pairs import choose_pair
from scorescope.study.workspace import Workspace
from scorescope.training.shipped import FOLDER, shipped_network

TINY = ["sizes=4,60,200", "steps=30,40,50", "width=4", "measurement.psnr_images=8", "measurement.samples=4"]
TINY += ["mechanisms=gaussian,closed-form", "measurement.deviation_inputs=2"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache):
    """A finished demo, its results, and what its page was told on the way: sections that were pending, cells that were done."""
    told = []

    class Watched(Demo):
        def run(self, config, workspace):
            page = workspace.watch

            def watch(news):
                told.append((dict(workspace.progress.pending), workspace.progress.finished, workspace.progress.now))
                page(news)

            workspace.watch = watch
            return super().run(config, workspace)

    folder = tmp_path_factory.mktemp("demo") / "run"
    results = run_study(Watched(), Demo.configure("tiny", TINY), folder, cache=cache)
    return folder, results, told


@pytest.mark.slow
def test_the_page_fills_in_from_the_verdicts_to_the_mechanisms(run):
    _, results, told = run
    first, last = told[0], told[-1]
    assert first[1] == 0
    assert list(first[0]) == [
        "Memorization",
        "How far from memorization",
        "Which mechanism explains it",
        *list(first[0])[3:],
    ]
    assert set(first[0]) == set(results.sections)
    assert "N = 4, then N = 60, then N = 200" in first[0]["Memorization"]
    assert "Memorization" not in last[0]
    names = [now for _, _, now in told if now]
    assert names.index("N=200/samples") < names.index("N=200/deviation") < names.index("N=4/deviation")


@pytest.mark.slow
def test_as_many_parts_are_measured_as_were_expected(run):
    _, results, told = run
    assert len(results.timings) == 5 * 3 + 2 + 1
    assert told[-1][1] == 5 * 3 + 2 + 1 - 1


@pytest.mark.slow
def test_the_explorer_shows_the_largest_size(run):
    folder, results, _ = run
    found = results.exploration
    assert found.model == "Network A of N = 200"
    assert found.denoisers[:2] == ["A", "optimal"]
    assert set(found.denoisers[2:]) == {"gaussian", "closed-form"}
    assert found.training_set == "digits"
    assert (folder / "explorer.html").is_file()
    assert "explorer.html" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_size_is_trained_for_its_own_steps(run):
    folder, results, _ = run
    for size, steps in ((4, 30), (60, 40), (200, 50)):
        record = json.loads((folder / "networks" / f"B-{size}" / "network.json").read_text(encoding="utf-8"))[
            "training"
        ]
        assert (record["config"]["steps"], record["images"]) == (steps, size)
    assert "30 (N = 4), 40 (N = 60), 50 (N = 200) steps" in results.methods["Training"]
    assert "come with scorescope" not in results.methods["Networks"]


@pytest.mark.slow
def test_mechanisms_are_compared_at_the_largest_size_and_the_page_says_so(run):
    _, results, _ = run
    assert set(results.tables["explained"].frame["model"]) == {"N = 200"}
    assert "largest N alone" in results.introductions["Which mechanism explains it"]
    sheets = [exhibit for exhibit in results.figures if exhibit.key.startswith("examples-")]
    assert {exhibit.key for exhibit in sheets} == {"examples-n---200", "examples-n---4"}
    assert all("gaussian" in exhibit.layout.row_labels for exhibit in sheets)
    assert [verdict.label for verdict in results.verdicts] == ["N = 4", "N = 60", "N = 200"]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_an_interrupted_demo_ends_like_an_uninterrupted_one(run, cache, tmp_path, monkeypatch):
    _, whole, _ = run
    computed = Workspace.computed

    def interrupted(self, name, function):
        if name == "N=200/samples":
            raise KeyboardInterrupt
        return computed(self, name, function)

    config = Demo.configure("tiny", TINY)
    monkeypatch.setattr(Workspace, "computed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(Demo(), config, tmp_path / "run", cache=cache, command="scorescope demo --out here")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "ended after 10 of 18 parts" in page
    assert "scorescope demo --out here" in page
    assert 'id="figure-samples-n---60"' in page
    monkeypatch.setattr(Workspace, "computed", computed)
    results = run_study(Demo(), config, tmp_path / "run", cache=cache)
    assert results.verdicts == whole.verdicts
    assert results.claims == whole.claims
    assert [exhibit.data for exhibit in results.figures] == [exhibit.data for exhibit in whole.figures]


def test_steps_are_one_number_for_each_size():
    with pytest.raises(UserError, match="steps has 1 numbers for 2 sizes"):
        Demo.configure("tiny", ["steps=10"])


def test_the_command_asks_for_the_networks_of_the_package_only_where_they_fit():
    assert demo_preset("fashion-mnist", False, "small", None) == "pretrained"
    assert demo_preset("fashion-mnist", False, "small", 0) == "pretrained"
    for other in (
        ("digits", False, "small", None),
        ("fashion-mnist", True, "small", None),
        ("fashion-mnist", False, "small", 1),
        ("fashion-mnist", False, "paper", None),
        (None, False, "tiny", None),
    ):
        assert demo_preset(*other) == other[2]
    config = Demo.configure("pretrained", ["seed=0", "training.seed=0"])
    assert config.training_of(1000).steps == 3000
    assert config.training_of(1000).learning_rate == 0.002


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="fashion-mnist is not installed")
@pytest.mark.parametrize("size", [10, 100, 1000, 10000, 30000])
def test_the_networks_of_the_package_are_found_by_their_settings(size):
    config = Demo.configure("pretrained")
    images = load_images("fashion-mnist").train
    pair = choose_pair(images, size, config.seed)
    network = NetworkConfig(
        architecture="unet",
        arguments=architectures["unet"].arguments_for(images.image_shape) | {"width": config.width},
        preconditioning="blind-residual",
        image_shape=images.image_shape,
        sigma_range=config.training.objective.sigma_range,
    )
    suffix = "" if size == 30000 else f"-{size}"
    for seed, (name, subset) in enumerate(pair.training.items()):
        training = config.training_of(size).model_copy(update={"seed": seed})
        assert shipped_network(network, training, subset) == FOLDER / f"unet{suffix}-{name.lower()}"
        assert shipped_network(network, training.model_copy(update={"steps": 999}), subset) is None
        assert shipped_network(network, training.model_copy(update={"seed": seed + 2}), subset) is None
        assert shipped_network(network, training, choose_pair(images, size, 1).training[name]) is None
        assert shipped_network(network.model_copy(update={"arguments": {"width": 8}}), training, subset) is None
