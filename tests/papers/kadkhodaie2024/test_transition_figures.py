"""Figures 1 and 2: the same networks for both, gaps and similarities by definition, and what is refused."""

import functools
import json

import numpy as np
import pytest
import torch

from scorescope import report
from scorescope.data import ImageSet, load_images
from scorescope.data.store import Provenance, writing_store
from scorescope.foundation import UserError
from scorescope.lenses.memorization import Sampled
from scorescope.papers.kadkhodaie2024 import trained as trained_module
from scorescope.papers.kadkhodaie2024.fig1 import Fig1
from scorescope.papers.kadkhodaie2024.fig2 import Fig2, similarities
from scorescope.papers.kadkhodaie2024.psnr_gaps import psnr_gaps
from scorescope.papers.kadkhodaie2024.trained import (
    Material,
    TrainedConfig,
    open_material,
    subset_pair,
    without_near_duplicates,
)
from scorescope.study.workspace import open_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Figure 1 and then figure 2 at preset tiny, with one cache."""
    folder = tmp_path_factory.mktemp("transition")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORESCOPE_CACHE", str(folder / "cache"))
        first = report.run_study(Fig1(), Fig1.configure("tiny"), folder / "fig1")
        networks = {path: path.stat().st_mtime_ns for path in (folder / "cache" / "networks").rglob("*.safetensors")}
        second = report.run_study(Fig2(), Fig2.configure("tiny"), folder / "fig2")
        after = {path: path.stat().st_mtime_ns for path in (folder / "cache" / "networks").rglob("*.safetensors")}
    return folder, first, second, networks, after


@pytest.mark.slow
def test_both_figures_use_the_same_networks(runs):
    folder, *_, networks, after = runs
    assert len(networks) == 6
    assert after == networks
    assert len(list((folder / "cache" / "near-duplicates").iterdir())) == 1
    weights = [
        (folder / figure / "networks" / "B-40" / "network.safetensors").read_bytes() for figure in ("fig1", "fig2")
    ]
    assert weights[0] == weights[1]
    records = [json.loads((folder / "fig1" / "networks" / f"{name}-40" / "network.json").read_text()) for name in "AB"]
    assert records[0]["training"]["data_sha256"] != records[1]["training"]["data_sha256"]


@pytest.mark.slow
def test_the_pages_have_their_parts(runs):
    folder, first, second, *_ = runs
    assert [exhibit.key for exhibit in first.figures] == ["psnr", "gap", "gap-by-level"]
    assert [exhibit.key for exhibit in second.figures] == [
        "samples-n---4", "samples-n---40", "samples-n---400", "similarity", "over-sizes",
    ]  # fmt: skip
    assert {claim.verdict for claim in first.claims + second.claims} == {"not tested at this size"}
    ended = second.tables["ended"].frame
    assert (ended["converged"] + ended["diverged"] + ended["out of steps"] == 8).all()
    assert "N*" in (folder / "fig2" / "report.html").read_text(encoding="utf-8")
    gaps = first.tables["gaps"].frame
    assert (gaps["gap from"] <= gaps["gap"]).all()
    assert (gaps["gap"] <= gaps["gap to"]).all()
    assert gaps["gap"].iloc[0] > gaps["gap"].iloc[-1]  # four digits are learned by heart sooner than four hundred


def synthetic(size, seen, unseen, images=60):
    """PSNRs that scatter by 1 dB around means, two levels, with the scatter shared by all noises of one training image."""
    random = np.random.default_rng(size)
    shared = random.normal(size=min(size, images))[np.arange(images) % size]
    found = {"sigma": np.array([1.0, 0.1])}
    for name in "AB":
        found[f"train/{name}"] = seen + np.tile(shared, (2, 1))
        found[f"test/{name}"] = unseen + np.tile(np.random.default_rng(0).normal(size=images), (2, 1))
    return found


def test_gaps_and_their_transition_are_those_of_the_definition():
    sizes, gaps = (1, 10, 100), (5.0, 3.0, -1.0)
    found = [synthetic(size, 20 + gap, 20.0) for size, gap in zip(sizes, gaps, strict=True)]
    measured = psnr_gaps(sizes, found, threshold=1.0)
    for place, one in enumerate(found):
        expected = np.mean([one[f"train/{name}"].mean() - one[f"test/{name}"].mean() for name in "AB"])
        assert measured.gap[place] == pytest.approx(expected)
        assert measured.level_gap[place] == pytest.approx([expected] * 2)
    share = (measured.gap[1] - 1) / (measured.gap[1] - measured.gap[2])
    assert measured.transition.value == pytest.approx(10 ** (1 + share))
    assert measured.transition.low < measured.transition.value < measured.transition.high
    # 60 held-out images and 60 of two networks that scatter by 1 dB: 1/√60 and 1/√120 dB
    width = (measured.high[2] - measured.low[2]) / (2 * 1.96)
    assert width == pytest.approx(np.sqrt(1 / 60 + 1 / 120), rel=0.25)


def test_noises_of_one_image_do_not_pass_for_images():
    # All 60 PSNRs of N = 1 are of one image: what they scatter by says nothing of other images.
    found = synthetic(1, 30.0, 20.0)
    found["train/A"][0] += np.linspace(-3, 3, 60)
    measured = psnr_gaps((1, 2), [found, synthetic(2, 25.0, 20.0)], threshold=1.0)
    of_held_out = np.std(measured.drawn[:, 0])
    assert of_held_out == pytest.approx(1 / np.sqrt(60), rel=0.2)


def test_similarities_and_their_transition_are_those_of_the_definition():
    random = np.random.default_rng(0)
    measured = []
    for between, nearest in ((0.2, 0.9), (0.4, 0.8), (0.9, 0.7)):
        found = {"agreement": between + 0.02 * random.normal(size=50), "reference": np.full(30, 0.7)}
        found |= {f"similarity/{name}": nearest + 0.02 * random.normal(size=50) for name in "AB"}
        measured.append(Sampled("N", ("A", "B"), found))
    found = similarities((10, 100, 1000), measured)
    excess = [one.nearest - one.agreement for one in measured]
    assert found.transition.value == pytest.approx(100 * 10 ** (excess[1] / (excess[1] - excess[2])))
    assert found.nearest.value == pytest.approx([one.nearest for one in measured])
    assert found.transition.high - found.transition.low < 50


def test_near_duplicates_are_removed_once(tmp_path, digits, monkeypatch):
    kept = without_near_duplicates(digits, 0.9, tmp_path)
    flat = kept.tensor().double().flatten(1)
    flat = torch.nn.functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)
    cosine = flat @ flat.T - 2 * torch.eye(len(flat))
    assert cosine.max() <= 0.9 + 1e-5
    assert kept.stored < digits.stored
    monkeypatch.setattr(trained_module, "find_near_duplicates", None)  # would fail if it was called again
    assert without_near_duplicates(digits, 0.9, tmp_path).fingerprint() == kept.fingerprint()


def material(images: ImageSet) -> Material:
    return Material(images, images, images, {})


def test_subsets_that_would_overlap_are_refused(digits):
    pixels = digits.read(0, 40).copy()
    pixels[20:] = pixels[:20]
    config = TrainedConfig(sizes=(20,), seed=1)
    with pytest.raises(UserError, match=r"overlap: image \d+ of the first is image \d+ of the second; set near_dup"):
        subset_pair(material(ImageSet(pixels)), 20, config)
    first, second = subset_pair(material(digits), 20, config).training.values()
    assert not set(first.indices.tolist()) & set(second.indices.tolist())


def refused(config, tmp_path, message):
    with (
        open_run(tmp_path / str(config.sizes[-1]), "test", config, cache=tmp_path) as workspace,
        pytest.raises(UserError, match=message),
    ):
        open_material(config, workspace)


def test_sizes_larger_than_the_data_allow_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path))
    tiny = functools.partial(Fig1.configure, "tiny")
    refused(tiny(["sizes=10,751"]), tmp_path, "have 750 each; set sizes to smaller")
    refused(tiny(["sizes=10,700"]), tmp_path, "near-duplicates above 0.95 are removed, 5.. for each network")
    with pytest.raises(UserError, match="sizes must increase"):
        tiny(["sizes=10,10"])
    with pytest.raises(UserError, match="no denoiser is called 'gausian'"):
        report.run_study(Fig1(), tiny(["compared=gausian"]), tmp_path / "wrong")


def test_a_store_without_test_images_gives_up_some_of_its_own(tmp_path, digits, monkeypatch):
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "cache"))
    with writing_store(tmp_path / "store") as writer:
        writer.append(digits.read(0, 300))
        writer.provenance = Provenance(source="a test", colour="grey")
    config = TrainedConfig(data=str(tmp_path / "store"), sizes=(5,), near_duplicates=None)
    with open_run(tmp_path / "run", "test", config, cache=tmp_path) as workspace:
        found = open_material(config, workspace)
    assert (found.held_out.stored, found.images.stored) == (30, 270)
    everything = {image.tobytes() for image in load_images(tmp_path / "store").train.read(0, 300)}
    seen, unseen = ({i.tobytes() for i in images.read(0, 300)} for images in (found.images, found.held_out))
    assert seen | unseen == everything
    assert not seen & unseen
    assert "no test part" in found.methods["Data"]
