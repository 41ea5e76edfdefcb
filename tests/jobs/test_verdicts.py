"""Verdicts on networks that know 20 digits by heart, and on what is like them in one thing only: each asked as a user asks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from scorescope.cli.main import main
from scorescope.data.images import ImageSet
from scorescope.data.store import Provenance, writing_store
from scorescope.networks import NetworkConfig, architectures, build_network, load_network, save_network
from scorescope.training import TrainingConfig, TrainingJob, train_networks
from scorescope.training.usual import usual_training

pytestmark = pytest.mark.slow
KNOWN, STEPS = 20, (0, 60, 1500)
QUICK = ["--preset", "tiny", "--features", "pixels", "--set", "measurement.regions=false"]


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def store(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    with writing_store(path) as writer:
        writer.append(images, labels, [f"{path.name}/{place}.png" for place in range(len(images))])
        writer.provenance = Provenance(source=path.name, colour="grey")
    return path


def in_any_order(digits: ImageSet) -> ImageSet:
    """Not one writer after the other: or the images of one are nearer to his others than to all that are unseen."""
    return digits.subset(np.random.default_rng(0).permutation(digits.stored))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, digits: ImageSet) -> Path:
    """Stores of digits, and checkpoints of one training run on the first 20 of them, at each of `STEPS`."""
    top = tmp_path_factory.mktemp("verdicts")
    digits = in_any_order(digits)
    known, others = digits.take(range(KNOWN)), digits.take(range(100, 1100))
    store(top / "known", known)
    store(top / "twice", np.concatenate([known, known]))
    store(top / "never-seen", digits.take(range(40, 60)))
    store(top / "two", digits.take([70, 71]))
    store(top / "others", others)
    store(top / "few-others", others[:160])
    store(top / "partly", np.concatenate([known, others[:300]]))
    entry = architectures["mlp"]
    images = ImageSet(known, name="known")
    usual = usual_training(entry.preconditioning)
    training = TrainingConfig.model_validate(
        {**usual, "steps": STEPS[-1], "batch": 64, "learning_rate": 2e-3, "ema_decay": 0.99}
    )
    network = NetworkConfig(
        architecture="mlp",
        arguments=entry.arguments_for(images.image_shape),
        preconditioning=entry.preconditioning,
        image_shape=images.image_shape,
        sigma_range=training.objective.sigma_range,
    )

    untrained = network.model_copy(update={"training": {"step": 0}})
    save_network(top / f"step-{STEPS[0]}", build_network(network, 0), untrained)
    on_the_way = {step: top / f"step-{step}" for step in STEPS[1:]}
    train_networks([TrainingJob(top / "trained", network, images, training, checkpoints=on_the_way)])
    return top


@pytest.fixture
def audit(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Give the command, and get what it found about the last model, what it said, and its run folder."""

    def asked(*words: object, data: str = "known", held_out: str | None = "others", code: int = 0):
        unseen = ["--held-out", place / held_out] if held_out else []
        given = [place / word if isinstance(word, str) and (place / word).exists() else word for word in words]
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        assert run("audit", "--data", place / data, *unseen, *given, *QUICK, "--out", folder) == code
        said = capsys.readouterr().out
        return json.loads((folder / "audit.json").read_text(encoding="utf-8")), said, folder

    return asked


def test_what_it_knows_by_heart_once_or_twice(audit) -> None:
    for data in ("known", "twice"):
        (found,), said, folder = audit("--model", "trained", "--fail-if-copies", data=data, code=3)
        assert found["verdict"] == "memorizes", found["because"]
        assert found["copied"]["low"] > 0.5
        assert found["gap_dB"]["low"] > 1
        assert found["membership_auc"]["low"] > 0.7
        rows = pd.read_csv(folder / "samples.csv")
        assert len(rows) == found["samples"] == 64
        assert list(rows.columns[:5]) == ["sample", "name", "p", "q", "copy"]
        assert (rows["p"] <= rows["q"] + 1e-12).all()
        assert rows["copy"].sum() == found["copies"]
        assert (rows["training_name"] == [f"{data}/{place}.png" for place in rows["training_index"]]).all()
    assert "20 of the 40 training images are equal to an earlier one" in said
    assert "20 of the 40" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.exhaustive
def test_an_average_that_is_hardly_trained_gets_no_verdict_and_is_not_used_unasked(audit, place: Path) -> None:
    network, config = load_network(place / "trained")
    fresh, raw = build_network(config, 0).state_dict(), network.state_dict()
    young = {name: 0.82 * fresh[name] + 0.18 * values for name, values in raw.items()}
    torch.save({"model": raw, "ema": young}, place / "state.pt")
    how = ["--arch", "mlp", "--arch-arg", f"image_shape={list(config.image_shape)}"]
    (found,), said, _ = audit("--model", "state.pt", *how, "--weights", "averaged")
    assert found["verdict"] == "no verdict"
    assert "raw" in said
    (found,), _, folder = audit("--model", "state.pt", *how)
    assert found["verdict"] == "memorizes"
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "--arch-arg weights=raw. It is used so from here on" in page


@pytest.mark.parametrize("data", ["never-seen", pytest.param("two", marks=pytest.mark.exhaustive)])
def test_nothing_comes_back_of_images_that_it_never_saw(audit, data: str) -> None:
    (found,), _, _ = audit("--model", "trained", data=data)
    assert found["copies"] == 0
    assert found["verdict"] in ("no verdict", "generalizes", "undecided")
    assert found["gap_dB"]["low"] < 0.3


def test_the_course_of_one_training_run(audit, place: Path) -> None:
    words = ["--model", *(f"step-{step}" for step in sorted(STEPS, key=str))]  # as a shell gives --model step-*
    found, said, folder = audit(*words)
    states = [one["verdict"] for one in found]
    assert states[0] == "no verdict"
    assert "it was not trained" in found[0]["because"]
    assert found[0]["copies"] == found[0]["copied_regions"] == 0
    assert states[-1] == "memorizes"
    shares = [one["copied"]["value"] for one in found]
    assert shares == sorted(shares)
    begins = STEPS[next(at for at, state in enumerate(states) if state in ("memorizes", "in transition"))]
    assert f"memorization begins at step-{begins} and stays to the last" in said
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert 'id="figure-curve"' in page
    rows = pd.read_csv(folder / "samples.csv")
    assert rows["model"].unique().tolist() == [f"step-{step}" for step in STEPS]


@pytest.mark.exhaustive
def test_mirror_images_count_where_training_mirrored(audit, place: Path) -> None:
    network, config = load_network(place / "trained")
    mirrored = config.model_copy(update={"training": {**config.training, "flips": True, "config": {"flips": True}}})
    save_network(place / "mirrored", network, mirrored)
    (found,), _, folder = audit("--model", "mirrored")
    assert found["verdict"] == "memorizes"
    assert "and their mirror images" in (folder / "report.html").read_text(encoding="utf-8")
    turned = store(place / "turned", np.load(place / "known" / "images.npy")[..., ::-1])
    (found,), _, folder = audit("--samples", turned, "--flips")
    assert found["copies"] == KNOWN
    assert pd.read_csv(folder / "samples.csv")["mirrored"].all()


def test_a_class_is_compared_with_its_own_images(audit, place: Path, digits: ImageSet) -> None:
    digits = in_any_order(digits)
    labels = digits.own_labels()
    store(place / "labelled", digits.take(range(300)), labels[:300])
    store(place / "labelled-others", digits.take(range(300, 1700)), labels[300:1700])
    threes = np.flatnonzero(labels[:300] == 3)
    samples = store(place / "threes", digits.take(threes[:20]))
    words = ("--samples", samples, "--class-label", 3)
    _, _, folder = audit(*words, data="labelled", held_out="labelled-others")
    assert f"{len(threes)} different training images" in (folder / "report.html").read_text(encoding="utf-8")
    rows = pd.read_csv(folder / "samples.csv")
    assert rows["training_index"].tolist() == threes[:20].tolist()
    assert rows["training_name"].tolist() == [f"labelled/{place}.png" for place in threes[:20]]


class Halves(nn.Module):
    """Features of a network in a file: means of blocks, and differences of them."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        small = nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 8).flatten(1)
        return torch.cat([small, small[:, 1:] - small[:, :-1]], 1)


@pytest.mark.exhaustive
def test_features_of_files_and_of_functions(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.jit.script(Halves()).save(str(tmp_path / "features.pt"))
    (tmp_path / "mine.py").write_text("def pooled(images):\n    return images.flatten(1)[:, ::2]\n")
    spaces = [f"torchscript:{tmp_path / 'features.pt'}", f"sscd:{tmp_path / 'features.pt'}"]
    spaces.append(f"function:{tmp_path / 'mine.py'}:pooled")
    words = [word for space in spaces for word in ("--features", space)]
    given = ["--samples", place / "known", "--data", place / "known", "--held-out", place / "few-others"]
    folder = tmp_path / "run"
    assert run("audit", *given, *words, "--preset", "tiny", "--json", "--out", folder) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["audits"][0]["copies"] == KNOWN
    frame = pd.read_csv(folder / "tables" / "features.csv")
    assert len(frame) == 3
    assert (frame["on the list"] == KNOWN).all()


def test_explain_says_what_it_leaves_out_and_measures_without_it(place: Path, tmp_path: Path, capsys) -> None:
    words = ["explain", "--model", place / "trained", "--data", place / "known", "--lens", "memorization"]
    words += ["--preset", "tiny", "--set", "measurement.psnr_images=64"]
    assert run(*words, "--held-out", place / "partly", "--out", tmp_path / "run") == 0
    said = "20 of the 320 images of partly are training images, byte for byte, and were left out"
    assert f"note: {said}: partly/0.png, partly/1.png, partly/2.png and others" in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.index(said) < page.index("<main>")
    alone = store(place / "alone", np.load(place / "partly" / "images.npy")[KNOWN:])
    assert run(*words, "--held-out", alone, "--out", tmp_path / "again") == 0
    first, again = (
        pd.read_csv(tmp_path / name / "tables" / "verdicts.csv")["PSNR gap (dB)"].tolist() for name in ("run", "again")
    )
    assert first == again
    capsys.readouterr()
    assert run(*words, "--held-out", place / "known", "--out", tmp_path / "refused") == 2
    err = capsys.readouterr().err
    assert "20 of 20 images of known are training images" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "refused").exists()
