"""The protocol against DDIM as its paper writes it, and the tiny run of the study."""

import math

import numpy as np
import pytest
import torch

from scorescope.denoisers import GaussianDenoiser
from scorescope.foundation import UserError
from scorescope.lenses.against import Against
from scorescope.lenses.comparison import ENOUGH_INPUTS
from scorescope.lenses.inputs import HELD_OUT
from scorescope.lenses.subject import OPTIMAL
from scorescope.papers.protocols import SamplesFromSharedNoise
from scorescope.papers.protocols import samples_from_shared_noise as protocol
from scorescope.papers.protocols.contenders import ROWS
from scorescope.papers.protocols.shared_noise import TIMES, SamplingConfig, sample, sigmas_of, starts
from scorescope.probes.sample_agreement import agreement
from scorescope.report import run_study
from scorescope.study import open_run
from scorescope.study.results import Results

CHEAP = "contenders.names=gaussian,pspc-square,pca-locality,pca-locality-batched,gaussian-mixture"


def signals(times):
    """ᾱ_t by multiplication."""
    found, signal = {}, 1.0
    for step in range(1000):
        signal *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        found[step] = signal
    return [found[t] for t in times]


@pytest.fixture(scope="module")
def gaussian(digits):
    return GaussianDenoiser(digits.subset(range(300)))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    config = SamplesFromSharedNoise.configure("tiny", [CHEAP])
    folder = tmp_path_factory.mktemp("protocol")
    return run_study(SamplesFromSharedNoise(), config, folder / "run", cache=folder / "cache")


def test_noise_levels_are_those_of_the_table():
    expected = [math.sqrt((1 - signal) / signal) for signal in signals(TIMES)]
    assert sigmas_of(TIMES) == pytest.approx(expected, rel=1e-9)
    assert len(TIMES) == 10
    for times in ((0, 100), (900, 900), (1000, 0), (5, -1)):
        with pytest.raises(UserError, match="decrease"):
            sigmas_of(times)


def test_samples_are_ddim_with_clipped_images(gaussian, tmp_path):
    """Song et al. 2021, equation 12, with η = 0, in the scaled images that it is written in."""
    times = (900, 600, 300, 0)
    with open_run(tmp_path / "run", "test", {}) as workspace:
        config = SamplingConfig(times=times, count=5, at_once=2)
        found = sample({"g": gaussian}, {"g": "gaussian"}, sigmas_of(times), config, 7, workspace)
    alphas = signals(times)
    unit = starts(range(5), (1, 8, 8), sigmas_of(times)[0], 7).double() * math.sqrt(alphas[0])
    assert float(unit.std()) == pytest.approx(1, abs=0.1)
    x = unit
    for alpha, following in zip(alphas, [*alphas[1:], 1.0], strict=True):
        clean = gaussian(x / math.sqrt(alpha), math.sqrt((1 - alpha) / alpha)).clamp(-1, 1)
        noise = (x - math.sqrt(alpha) * clean) / math.sqrt(1 - alpha)
        x = math.sqrt(following) * clean + math.sqrt(1 - following) * noise
    np.testing.assert_allclose(found.images["g"], x.numpy(), atol=1e-4)
    assert found.seconds["g"] > 0


def test_a_start_does_not_depend_on_its_company():
    assert torch.equal(starts(range(3, 5), (1, 4, 4), 2.0, 1), starts(range(6), (1, 4, 4), 2.0, 1)[3:5])
    assert not torch.equal(starts(range(2), (1, 4, 4), 2.0, 1), starts(range(2), (1, 4, 4), 2.0, 2))


@pytest.mark.exhaustive
def test_the_tiny_run_has_everything(tiny):
    (name,) = {str(value) for value in tiny.tables["explained"].frame["network"]}
    assert name == "ddpm-unet-no-attention"
    frame = tiny.tables[f"agreement-{name}"].frame
    rows = CHEAP.partition("=")[2].split(",")
    assert set(frame["denoiser"]) == {"optimal", *rows}
    values = frame["coefficient of determination"].to_numpy()
    assert (values[:-1] >= values[1:]).all()
    assert (frame["coefficient of determination, low"] <= values).all()
    assert (frame["squared Pearson correlation"] >= values - 1e-9).all()
    assert (frame["seconds a step"] > 0).all()
    assert {claim.verdict for claim in tiny.claims} == {"not tested at this size"}
    inputs = set(tiny.tables["explained"].frame["inputs"])
    assert inputs == {"noisy held-out images", "states of the network's own sampling"}
    sheet = next(figure for figure in tiny.figures if figure.key.startswith("samples-"))
    assert sheet.layout.row_labels[0] == name
    assert len(sheet.layout.row_labels) == len(rows) + 2
    assert "t = 900, 500, 200, 0" in tiny.methods["Sampling"]


def test_claims_are_decided_by_the_lower_end_of_paired_differences():
    random = np.random.default_rng(0)
    network = np.clip(random.standard_normal((200, 1, 4, 4)) / 3, -1, 1)
    spoilt = {
        name: network + scale * random.standard_normal(network.shape)
        for name, scale in (("near", 0.1), ("far", 0.3), ("as far", 0.3))
    }
    found = {name: agreement(made, network) for name, made in spoilt.items()}
    config = SamplesFromSharedNoise.configure("small")

    def verdict(names, rivals):
        return protocol._ahead("s", "x", found, names, rivals, config)

    assert verdict(("near",), ("far", "as far")).verdict == "holds"
    assert verdict(("far",), ("near",)).verdict == "fails"
    assert verdict(("far",), ("as far",)).verdict == verdict(("as far",), ("far",)).verdict == "fails"
    assert verdict(("far",), ("missing",)).verdict == "not tested at this size"
    difference = found["near"].determination - found["far"].determination
    known = difference[np.isfinite(difference)]
    draws = np.random.default_rng(0).integers(0, len(known), (1000, len(known)))
    low = np.quantile(known[draws].mean(1), 0.025)
    assert verdict(("near",), ("far",)).value == pytest.approx(low, rel=1e-6)


def test_unknown_rows_and_settings_are_answered():
    assert SamplesFromSharedNoise.configure("small").contenders.names == ROWS
    with pytest.raises(UserError, match="threshold"):
        SamplesFromSharedNoise.configure("small", ["contenders.threshold=2"])


@pytest.mark.exhaustive
def test_a_row_that_is_none(tmp_path):
    config = SamplesFromSharedNoise.configure("tiny", ["contenders.names=gausian"])
    with pytest.raises(UserError, match="gaussian"):
        run_study(SamplesFromSharedNoise(), config, tmp_path / "run", cache=tmp_path / "cache")


def test_another_network_is_no_training_free_denoiser():
    """It explains most here, and yet the mixture is compared with the Gaussian alone."""
    images = np.arange(1.0, ENOUGH_INPUTS + 1)[None]
    shares = {OPTIMAL: 1.0, "another": 0.05, "committee": 0.2, "gaussian": 0.5}
    distance = {name: share * images for name, share in shares.items()}
    against = Against("mine", HELD_OUT, np.ones(1), distance, {}, None, [0], {})
    results = Results(study="protocol", title="")
    config = SamplesFromSharedNoise.configure("small", [f"inputs={ENOUGH_INPUTS}"])
    protocol._deviation_claims(results, [against], config)
    (claim,) = results.claims
    assert claim.value == pytest.approx(0.3)
    assert claim.note == "committee 0.800, gaussian 0.500."
