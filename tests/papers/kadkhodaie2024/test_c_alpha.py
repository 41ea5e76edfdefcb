"""The C^α studies on networks whose answers are known, and on fabricated numbers for every verdict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.data import load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.papers.kadkhodaie2024 import c_alpha, c_alpha_rates
from scorescope.papers.kadkhodaie2024.bases import as_pictures, basis_at
from scorescope.papers.kadkhodaie2024.c_alpha import CAlphaConfig, Case, MeasuredCase
from scorescope.papers.kadkhodaie2024.fig4 import PUBLISHED_SLOPES, Fig4, growth_claim
from scorescope.papers.kadkhodaie2024.fig16_18 import Fig16, Fig17, Fig18, governing_claim, lowering_claim
from scorescope.probes.slopes import Slope
from scorescope.study.claims import FAILS, HOLDS, NOT_TESTED
from scorescope.study.results import Results
from scorescope.study.workspace import open_run

CONFIG = CAlphaConfig(
    contours=(3.0,), size=16, images=20, test_images=60, levels=7, eigen_images=2, shown=(1, 2, 5), wavelets=("haar",)
)


class Scaled(nn.Module):
    """A blind network for which D(y) = factors · y in units of [0, 1], each coordinate by its own factor."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy * (1 - self.factors)


def denoiser(factors: Tensor) -> NetworkDenoiser:
    return NetworkDenoiser(Scaled(factors), "blind-residual", (1, 16, 16), (0.0, 2.0))


def test_a_network_that_does_nothing_has_slope_one_and_all_eigenvalues_one(tmp_path: Path) -> None:
    images = load_images("c-alpha", cache=tmp_path, alpha=3.0, size=16, n=20, test_n=60)
    with open_run(tmp_path / "run", "kadkhodaie2024/fig4", CONFIG) as workspace:
        found = c_alpha._measured(Case(3.0, 3.0), images, denoiser(torch.ones(1, 16, 16)), CONFIG, workspace)
    assert found.slope.value == pytest.approx(1, abs=0.01)
    assert found.network.mean(1) == pytest.approx(CONFIG.input_psnr, abs=0.15)
    assert found.eigenvalues == pytest.approx(1, abs=1e-6)
    assert found.asymmetry == pytest.approx(0, abs=1e-6)
    assert found.pictures.shape == (6, 1, 16, 16)
    assert found.pictures[1] == pytest.approx(found.pictures[2], abs=1e-5), "it returns the noisy image"
    assert (found.oracle > found.network).all(), "an oracle is better than nothing"
    assert found.gain(found.oracle, CONFIG.input_psnr, CONFIG.fit_range) < 0
    assert found.oracle_slope.value < 0.9


def test_a_basis_is_sorted_and_shown_as_images() -> None:
    factors = torch.linspace(-0.1, 1, 256)[torch.randperm(256, generator=torch.Generator().manual_seed(0))]
    basis = basis_at(denoiser(factors.reshape(1, 16, 16)), torch.zeros(1, 16, 16), 0.1)
    assert basis.values.numpy() == pytest.approx(np.linspace(1, -0.1, 256), abs=1e-6)
    assert basis.trace == pytest.approx(float(factors.sum()), rel=1e-5)
    shown = as_pictures(basis.vectors[:, :2], (1, 16, 16))
    assert abs(shown[0, 0].ravel()[int(factors.argmax())]) == pytest.approx(1)
    assert np.abs(shown).max((1, 2, 3)) == pytest.approx([1, 1])
    # an asymmetric one
    matrix = torch.randn(256, 256, generator=torch.Generator().manual_seed(1))

    class Mixing(nn.Module):
        def forward(self, noisy: Tensor) -> Tensor:
            return noisy - (noisy.flatten(1) @ matrix.T).reshape(noisy.shape)

    mixing = NetworkDenoiser(Mixing(), "blind-residual", (1, 16, 16), (0.0, 2.0))
    found = basis_at(mixing, torch.zeros(1, 16, 16), 0.1)
    expected = torch.linalg.norm(matrix - matrix.T) / torch.linalg.norm(matrix)
    assert found.asymmetry == pytest.approx(float(expected), rel=1e-4)
    assert found.trace == pytest.approx(float(matrix.trace()), rel=1e-3)


def test_the_less_regular_part_sets_the_optimum() -> None:
    assert Case(1, 5).optimal == Case(5, 1).optimal == Case(1, 1).optimal == 0.5
    assert Case(3, 3).label == "α = 3"
    assert Case(3, 1).label == "contour 3, sides 1"
    assert [case.background for case in CAlphaConfig(contours=(1, 2)).cases] == [1, 2]


def test_sides_alone_have_the_linear_slope_that_the_page_says() -> None:
    from scorescope.data.generated import _textures

    x = np.linspace(15, 35, 9)
    for alpha in (2.0, 3.0, 5.0):
        sides = _textures(200, 80, alpha, torch.Generator().manual_seed(0)).double()
        power = torch.fft.fft2(sides - sides.mean((1, 2), keepdim=True), norm="ortho").abs().square().mean(0).numpy()
        noise = 4 * 10 ** (-x / 10)
        error = (power[..., None] * noise / (power[..., None] + noise)).mean((0, 1))
        assert np.polyfit(x, 10 * np.log10(4 / error), 1)[0] == pytest.approx((alpha - 1) / alpha, abs=0.03)


def slope(value: float) -> Slope:
    return Slope(value, (value - 0.02, value + 0.02), 10.0, (10.0, 30.0), 9, 200, 0.1)


def fabricated(config: CAlphaConfig, *slopes: float, gain: float = 2.0) -> list[MeasuredCase]:
    """Cases with given slopes; networks `gain` dB above thresholding and 1 dB below the oracle."""
    curve = np.tile(config.input_psnr[:, None], 60)
    return [
        MeasuredCase(
            case=case,
            network=curve,
            wavelet="haar",
            oracle=curve + 1,
            threshold=curve - gain,
            slope=slope(value),
            oracle_slope=slope(0.6),
            threshold_slope=slope(0.5),
            eigenvalues=np.linspace(1, 0, 100)[None],
            asymmetry=np.array([0.1]),
            pictures=np.zeros((3 + len(config.shown), 1, 4, 4)),
        )
        for case, value in zip(config.cases, slopes, strict=True)
    ]


@pytest.mark.slow
def test_every_class_is_judged_by_its_own_optimum() -> None:
    config = CAlphaConfig(contours=(1, 5))
    results = Results("kadkhodaie2024/fig4", "title")
    c_alpha_rates.fill(results, fabricated(config, 0.45, 0.70), config, "figure 4", PUBLISHED_SLOPES)
    assert [claim.verdict for claim in results.claims] == [HOLDS, FAILS, HOLDS]
    assert results.claims[1].value == pytest.approx(0.70 - 5 / 6)
    assert results.claims[1].interval == pytest.approx((0.68 - 5 / 6, 0.72 - 5 / 6))
    assert "0.45 (0.50) at α = 1, 0.70 (0.83) at α = 5; at most 0.13 apart" in results.headline
    table = results.tables["slopes"].frame
    assert table["paper"].tolist() == [0.46, 0.83]
    assert table["gain over threshold"].tolist() == pytest.approx([2, 2])
    assert {exhibit.key for exhibit in results.figures} == {"psnr", "slopes", "eigenvalues", "eigenvectors"}


def test_verdicts_on_growth_on_fixed_bases_and_on_what_governs() -> None:
    config = CAlphaConfig(contours=(5, 1, 2))
    assert growth_claim(fabricated(config, 0.8, 0.5, 0.6), config, "f").value == pytest.approx(0.1)
    assert growth_claim(fabricated(config, 0.6, 0.5, 0.65), config, "f").verdict == FAILS
    results = Results("s", "t")
    c_alpha_rates.gain_claim(results, fabricated(config, 0.8, 0.5, 0.6, gain=-0.5), config, "f")
    assert results.claims[0].verdict == FAILS
    assert results.claims[0].value == pytest.approx(-0.5)
    mixed = CAlphaConfig(contours=(5, 5), backgrounds=(1, 5))
    assert governing_claim(fabricated(mixed, 0.55, 0.8), mixed, "f").verdict == HOLDS
    assert governing_claim(fabricated(mixed, 0.75, 0.8), mixed, "f").verdict == FAILS
    assert governing_claim(fabricated(config, 0.8, 0.5, 0.6), config, "f").verdict == NOT_TESTED
    assert lowering_claim(fabricated(mixed, 0.55, 0.8), mixed, "f").value == pytest.approx(0.25)
    # Nearer to the less regular part's optimum, but only because the network is poor everywhere.
    poor = fabricated(mixed, 0.64, 0.59)
    assert (governing_claim(poor, mixed, "f").verdict, lowering_claim(poor, mixed, "f").verdict) == (HOLDS, FAILS)
    assert lowering_claim(fabricated(config, 0.8, 0.5, 0.6), config, "f").verdict == NOT_TESTED


@pytest.mark.parametrize(
    "settings",
    [
        {"contours": (1.0, 2.0), "backgrounds": (1.0,)},
        {"contours": (1.0, 1.0)},
        {"fit_range": (0.0, 20.0)},
        {"levels": 3},
        {"size": 8, "shown": (65,)},
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Fig4.configure("small", **settings)


@pytest.mark.parametrize("which", [Fig4, Fig16, Fig17, Fig18])
def test_presets_are_settings(which: type[Fig4]) -> None:
    for preset in which.presets:
        config = which.configure(preset)
        assert config.too_small == "" or preset == "tiny"
        labels = [case.label for case in config.cases]
        assert len(set(labels)) == len(labels)
    assert which.configure("paper").size == 80


@pytest.mark.slow
def test_a_tiny_run_says_that_it_decides_nothing_and_shares_its_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "cache"))
    overrides = ["network.training.steps=4", "eigen_images=1", "images=40"]
    trained = []
    for which in (Fig18, Fig17):
        config = which.configure("tiny", overrides)
        with open_run(tmp_path / which.name, which.name, config, cache=tmp_path / "cache") as workspace:
            results = which().run(config, workspace)
        assert {claim.verdict for claim in results.claims} == {NOT_TESTED}
        assert all("4 steps" in claim.note for claim in results.claims)
        trained.append({path.name for path in (tmp_path / "cache" / "networks").iterdir() if path.is_dir()})
    assert len(trained[0]) == 2
    assert len(trained[1]) == 3, "the class with both exponents 4 is shared"
    assert sorted(path.name for path in (tmp_path / Fig17.name / "networks").iterdir()) == [
        "unet-alpha-4",
        "unet-contour-1-sides-4",
    ]


def test_a_wavelet_that_does_not_fit_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    config = Fig4.configure("tiny", ["wavelets=db8"])
    with (
        open_run(tmp_path / "run", Fig4.name, config, cache=tmp_path / "cache") as workspace,
        pytest.raises(UserError, match="db8 needs even sides of at least 30"),
    ):
        Fig4().run(config, workspace)
    assert not (tmp_path / "cache").exists()


def test_an_argument_that_a_network_does_not_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORESCOPE_CACHE", str(tmp_path / "cache"))
    config = Fig4.configure("tiny", ["images=10"], network={"arguments": {"girth": 3}})
    with (
        open_run(tmp_path / "run", Fig4.name, config, cache=tmp_path / "cache") as workspace,
        pytest.raises(UserError, match="girth"),
    ):
        Fig4().run(config, workspace)
