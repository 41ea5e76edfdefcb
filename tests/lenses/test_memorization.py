"""What memorization and the deviation from the optimal denoiser are measured by, on denoisers whose answers are known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.data.images import ImageSet
from scorescope.denoisers import GaussianDenoiser, NetworkDenoiser, OptimalDenoiser
from scorescope.foundation import UserError
from scorescope.jobs.demo import Demo
from scorescope.lenses.deviations import denoised_examples, deviations, measure
from scorescope.lenses.drawing import full_contrast
from scorescope.lenses.growing import transition_claims
from scorescope.lenses.memorization import measure_memorization, psnr_curves, sample_and_search
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import Subject, chosen
from scorescope.study.results import Results
from scorescope.study.workspace import open_run

CONFIG = MeasurementConfig(
    psnr_levels=3, psnr_images=20, samples=12, sampler_h=0.1, deviation_levels=3, deviation_inputs=4, example_levels=2
)


class Memory(nn.Module):
    """A blind network that has learned images by heart: its noise is the distance to the nearest of them."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__()
        self.images = (images.tensor() + 1) / 2  # as it sees them

    def forward(self, noisy: Tensor) -> Tensor:
        nearest = torch.cdist(noisy.flatten(1), self.images.flatten(1)).argmin(1)
        return noisy - self.images[nearest]


@pytest.fixture(scope="module")
def subject(digits):
    """Two networks that have learned disjoint sets of 30 digits by heart."""
    sets = {"A": digits.subset(range(30)), "B": digits.subset(range(30, 60))}
    networks = {
        name: NetworkDenoiser(Memory(images), "blind-residual", (1, 8, 8), (0.0, 2.0), name=name)
        for name, images in sets.items()
    }
    return Subject(
        networks=networks,
        training=sets,
        held_out=digits.subset(range(1000, 1300)),
        given={"optimal again": OptimalDenoiser(sets["A"]), "gaussian": GaussianDenoiser(sets["A"])},
    )


def test_a_network_that_memorizes_is_found_out(subject, tmp_path):
    with open_run(tmp_path / "run", "main/explain", {}) as workspace:
        measured = measure("by heart", subject, CONFIG, workspace)
    assert measured.copied > 0.9
    assert measured.nearest == pytest.approx(1, abs=1e-3)
    assert measured.psnr_gap is not None
    assert measured.psnr_gap > 5
    assert measured.evidence.gap is not None
    assert measured.evidence.gap.low > 5
    assert measured.ruling.state == "memorizes"


def test_a_mechanism_that_is_the_optimal_denoiser_explains_nothing(subject):
    for found in deviations(subject, CONFIG).values():
        shares = found.explained("optimal again")
        assert shares[np.isfinite(shares)] == pytest.approx(0, abs=1e-6)


def test_at_low_noise_memory_is_the_optimal_denoiser(subject):
    # nearest image and posterior mean agree once σ is far below the distances between images
    assert deviations(subject, CONFIG)["forward"].gap()[-1] < 1e-6


def test_nearest_training_images_are_training_images(subject):
    found = sample_and_search(subject, CONFIG)
    known = {image.tobytes() for image in subject.training["B"].tensor().numpy()}
    assert all(image.tobytes() in known for image in found["nearest/B"])
    assert found["reference"].max() < 1
    assert found["converged/A"].all()
    assert not found["diverged/A"].any()
    assert found["steps/A"].shape == (12,)
    assert (found["steps/A"] > 1).all()
    assert found["agreement"].mean() < found["similarity/A"].mean()


def test_without_held_out_images_their_evidence_is_left_out(subject):
    alone = Subject(subject.networks, subject.training, None, given=subject.mechanisms)
    assert "test" not in psnr_curves(alone, CONFIG)
    found = sample_and_search(alone, CONFIG)
    assert found["reference"].shape == (30,)
    assert found["reference"].max() < 1  # an image is not its own neighbour


def test_noise_levels_stay_where_the_networks_were_trained(subject):
    assert subject.sigmas(5)[0] == pytest.approx(2.0)
    assert subject.sigmas(5)[-1] == pytest.approx(0.03)


def test_examples_show_every_denoiser(subject):
    shown = denoised_examples(subject, CONFIG)
    assert shown["pictures"].shape == (2 + 2 + 1 + 2, 2, 1, 8, 8)
    clean = shown["pictures"][0]
    assert np.array_equal(clean[0], clean[1])


def test_a_choice_of_images_repeats_only_when_it_must(digits):
    few = digits.subset(range(5))
    assert len({image.numpy().tobytes() for image in chosen(few, 5, seed=1)}) == 5
    assert chosen(few, 12, seed=1).shape == (12, 1, 8, 8)


def test_full_contrast_spans_the_range():
    images = np.random.default_rng(0).uniform(-0.2, 0.1, (3, 1, 4, 4))
    stretched = full_contrast(images)
    assert stretched.min((1, 2, 3)) == pytest.approx([-1] * 3)
    assert stretched.max((1, 2, 3)) == pytest.approx([1] * 3)
    assert np.isfinite(full_contrast(np.zeros((1, 1, 4, 4)))).all()


def test_claims_follow_from_the_measurements(subject, tmp_path):
    with open_run(tmp_path / "run", "main/explain", {}) as workspace:
        measured = measure("by heart", subject, CONFIG, workspace)
    results = Results(study="main/transition", title="test")
    transition_claims(results, [measured, measured])
    gap, agreement, nearest = results.claims
    assert gap.verdict == "fails"
    assert gap.value == pytest.approx(measured.psnr_gap)
    assert (agreement.value, agreement.verdict) == (0, "fails")
    assert (nearest.value, nearest.verdict) == (0, "fails")


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="sizes must increase"):
        Demo.configure("tiny", ["sizes=100,10"])


class Filter(nn.Module):
    """A network that is told sigma and knows the mean and covariance of images, and no more of them."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__()
        self.denoiser = GaussianDenoiser(images)

    def forward(self, noisy: Tensor, time: Tensor, class_labels: Tensor | None) -> Tensor:
        sigma = 2 * time.exp()
        return (self.denoiser(noisy, sigma) - noisy) / sigma.view(-1, 1, 1, 1)


@pytest.mark.slow
def test_where_the_first_samples_do_not_decide_more_are_drawn_once(digits, tmp_path):
    """Two networks that know images of neither training set: nothing leaks, and a dozen samples do not show it."""
    sets = {"A": digits.subset(range(300)), "B": digits.subset(range(300, 600))}
    others = Filter(digits.subset(range(600, 1000)))
    networks = {name: NetworkDenoiser(others, "ve", (1, 8, 8), (0.02, 50.0), name=name) for name in sets}
    subject = Subject(networks=networks, training=sets, held_out=digits.subset(range(1000, 1700)))
    config = CONFIG.model_copy(update={"psnr_images": 300})
    with open_run(tmp_path / "run", "main/explain", {}) as workspace:
        first = measure_memorization("few", subject, config, workspace)
        second = measure_memorization("more", subject, config.model_copy(update={"more_samples": 200}), workspace)
    assert (first.ruling.state, first.evidence.samples) == ("undecided", 24)
    assert (second.ruling.state, second.evidence.samples) == ("generalizes", 2 * 212)
    assert second.ruling.alarm == pytest.approx(0.05)  # of two looks
    assert np.array_equal(second.found["samples/A"][:12], first.found["samples/A"])
    assert len({sample.tobytes() for sample in second.found["samples/A"]}) == 212
