"""The manifold studies on networks that are projections, whose directions and errors are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scorescope.data import generated
from scorescope.data.images import to_uint8
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import UserError
from scorescope.papers.kadkhodaie2024 import manifold_directions, manifolds
from scorescope.papers.kadkhodaie2024.bases import Basis
from scorescope.papers.kadkhodaie2024.fig5 import Fig5
from scorescope.papers.kadkhodaie2024.fig19 import Fig19
from scorescope.papers.kadkhodaie2024.fig20 import Fig20
from scorescope.papers.kadkhodaie2024.manifolds import Manifold, ManifoldConfig, MeasuredManifold, measure_manifold
from scorescope.study.claims import FAILS, HOLDS, NOT_TESTED
from scorescope.study.results import Results
from scorescope.study.workspace import open_run

SIZE = 20
FREQUENCIES = ((0, 5), (5, 0), (0, 9), (9, 0), (0, 13), (13, 0), (0, 17), (17, 0))
CONFIG = ManifoldConfig(
    size=SIZE,
    images=10,
    test_images=40,
    levels=6,
    psnr_range=(15, 40),
    fit_range=(15, 40),
    tangent_images=2,
    most=12,
    followers=6,
    shown=(1, 2, 3),
)


class Projecting(nn.Module):
    """D(y) = P y in units of [0, 1], P the projection on the span of some images, told as their noise."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.basis = torch.linalg.qr((images.double().flatten(1).T + 1) / 2)[0].float()

    def forward(self, noisy: Tensor) -> Tensor:
        flat = noisy.flatten(1)
        return (flat - flat @ self.basis @ self.basis.T).reshape(noisy.shape)


def measured(manifold: Manifold, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredManifold:
    network = NetworkDenoiser(Projecting(images), "blind-residual", (1, SIZE, SIZE), (0.0, 2.0))
    monkeypatch.setattr(manifolds, "trained_on", lambda *_: {manifold.name: network})
    with open_run(tmp_path / "run", "kadkhodaie2024/fig5", CONFIG) as workspace:
        return measure_manifold(manifold, CONFIG, workspace)


@pytest.mark.slow
def test_the_optimal_denoiser_of_a_ray_reaches_the_optimum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifold = manifolds.ray(SIZE)
    found = measured(manifold, manifold.render(torch.ones(1, 1)), tmp_path, monkeypatch)
    assert (found.dimension, found.pixels, found.bound) == (1, SIZE * SIZE, "σ²")
    assert found.match() == pytest.approx(1, abs=1e-5)
    assert found.angles.max() < 3e-3
    assert found.captured[..., 0] == pytest.approx(1, abs=1e-5)
    assert found.captured_elsewhere[..., 0] == pytest.approx(1, abs=1e-5), "a ray has one direction everywhere"
    assert found.eigenvalues[..., 0] == pytest.approx(1, abs=1e-5)
    assert np.abs(found.eigenvalues[..., 1:]).max() < 1e-5
    coordinates = found.error_dimension(CONFIG.input_psnr)
    assert coordinates.mean() == pytest.approx(1, abs=0.3), "one coordinate of noise is left, chi-squared"
    assert found.slope.value == pytest.approx(1, abs=0.1)
    results = Results("s", "t")
    config = CONFIG.model_copy(update={"network": CONFIG.network})
    manifold_directions.fill(results, manifold, found, config, "figure 19", "The first eigenvector")
    assert results.claims[0].verdict == HOLDS
    assert results.claims[0].value == pytest.approx(1, abs=1e-5)
    assert results.claims[4].value == pytest.approx(coordinates[-1].mean(), rel=1e-6)


def test_a_plane_around_a_cone_keeps_one_direction_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifold = manifolds.sinusoids(SIZE)
    around = manifold.render(torch.tensor([[0.5, 0.0], [0.5, 2.0], [0.5, 4.0]]))
    found = measured(manifold, around, tmp_path, monkeypatch)
    assert found.captured[..., 2] == pytest.approx(1, abs=1e-5), "three directions hold the tangent space"
    assert found.eigenvalues.sum(-1) == pytest.approx(3, abs=1e-3)
    assert found.error_dimension(CONFIG.input_psnr).mean() == pytest.approx(3, abs=0.6)
    # any two of a degenerate three: on average two thirds of the tangent space
    assert 0.3 < found.match().mean() <= 1
    assert found.match() == pytest.approx(found.captured[..., 1], abs=1e-8)


def test_waves_are_told_from_their_rotations() -> None:
    place = torch.arange(SIZE, dtype=torch.float64)
    waves = [torch.cos(np.pi * (a * (place[:, None] + 0.5) + b * (place[None] + 0.5)) / SIZE) for a, b in FREQUENCIES]
    basis = torch.linalg.qr(torch.stack(waves).flatten(1).T, mode="complete")[0]
    tangent = basis[:, :2]
    found = manifolds._compared(Basis(torch.ones(SIZE**2), basis, 0.0, torch.zeros(1)), tangent, tangent, CONFIG)
    assert found["captured"][:3] == pytest.approx([0.5, 1, 1])
    assert found["concentration"] > 1.5 * found["rotated"]
    expected = [np.hypot(a, b) / (2 * SIZE) for a, b in FREQUENCIES]
    assert found["frequencies"] == pytest.approx(expected, rel=0.2)


def fabricated(frequencies: np.ndarray, match: float, wave: float) -> MeasuredManifold:
    rng = np.random.default_rng(0)
    psnr = 0.9 * CONFIG.input_psnr[:, None] + rng.normal(size=(6, 40))
    angle = np.arccos(np.sqrt(match))
    return MeasuredManifold(
        psnr=psnr,
        slope=manifolds.fit_slope(CONFIG.input_psnr, psnr, 15, 40, torch.Generator().manual_seed(0)),
        eigenvalues=np.tile(np.linspace(1, 0, SIZE * SIZE), (3, 2, 1)),
        angles=np.full((3, 2, 2), angle),
        captured=np.full((3, 2, 12), match),
        captured_elsewhere=np.full((3, 2, 12), 0.1),
        frequencies=np.tile(frequencies, (3, 2, 1)),
        concentration=np.full((3, 2), wave),
        rotated=np.full((3, 2), 0.2),
        asymmetry=np.zeros((3, 2)),
        tangents=np.zeros((3, 1, 4, 4)),
        eigenvectors=np.zeros((3, 5, 1, 4, 4)),
    )


@pytest.mark.slow
def test_verdicts_follow_from_the_numbers() -> None:
    rising = np.array([9.0, 8, 1, 2, 3, 4, 5, 6])  # only what follows the first two counts
    falling = np.array([1.0, 2, 9, 8, 7, 6, 5, 4])
    for found, expected in (
        (fabricated(rising, 0.9, 0.3), [HOLDS, HOLDS, HOLDS, HOLDS, HOLDS]),
        (fabricated(falling, 0.5, 0.22), [FAILS, FAILS, FAILS, HOLDS, HOLDS]),
    ):
        results = Results("s", "t")
        manifold_directions.fill(
            results, manifolds.sinusoids(SIZE), found, CONFIG, "figure 20", "The first two eigenvectors"
        )
        assert [claim.verdict for claim in results.claims] == expected
    assert found.oscillation() == pytest.approx(-1)
    assert found.harmonic() == pytest.approx(1.1)
    assert fabricated(rising, 0.9, 0.3).oscillation() == pytest.approx(1)
    table = results.tables["tangents"].frame
    assert table["largest angle"].tolist() == pytest.approx([45] * 3)
    assert table["σ"].iloc[1] == pytest.approx(0.2)


@pytest.mark.parametrize("make", [manifolds.disks, manifolds.ray, manifolds.sinusoids])
def test_training_images_are_the_generators_and_test_images_are_others(make: object) -> None:
    manifold: Manifold = make(SIZE)  # type: ignore[operator]
    images = manifold.training_images(700, seed=3)
    parameters = manifold.draw(700, torch.Generator().manual_seed(6))
    assert np.array_equal(images.read(0, 700), to_uint8(manifold.render(parameters)))
    points = manifold.test_points(50, seed=3)
    assert points.shape == (50, manifold.dimension)
    assert not any(torch.equal(point, seen) for point in points for seen in parameters)
    contrast = manifold.render(points).flatten(1)
    assert (contrast.amax(1) - contrast.amin(1)).min() > 0.2


def test_disks_of_the_studies_are_those_of_the_data_set() -> None:
    parameters = generated.draw_disk_parameters(3, SIZE, torch.Generator().manual_seed(0))
    assert torch.equal(manifolds.disks(SIZE).render(parameters), generated.render_disks(parameters, SIZE))


@pytest.mark.parametrize(
    "settings",
    [
        {"fit_range": (0.0, 20.0)},
        {"levels": 4},
        {"tangent_psnr": (20.0, 10.0)},
        {"size": 8, "most": 65},
        {"size": 8, "shown": (70,)},
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Fig5.configure("small", **settings)


@pytest.mark.slow
def test_a_tiny_run_says_that_it_decides_nothing(tmp_path: Path) -> None:
    config = Fig20.configure("tiny", ["network.training.steps=4", "images=20", "tangent_images=1", "fx=1"])
    with open_run(tmp_path / "run", Fig20.name, config, cache=tmp_path / "cache") as workspace:
        results = Fig20().run(config, workspace)
    assert {claim.verdict for claim in results.claims} == {NOT_TESTED}
    assert all("4 steps" in claim.note for claim in results.claims)
    assert {exhibit.key for exhibit in results.figures} == {
        "psnr",
        "coordinates",
        "eigenvalues",
        "captured",
        "tangents",
        "eigenvectors",
        "frequencies",
    }


@pytest.mark.parametrize("which", [Fig5, Fig19, Fig20])
def test_presets_are_settings(which: type[Fig5]) -> None:
    assert which.configure("small").too_small == ""
    assert which.configure("paper").size == 80
    assert which.configure("tiny").too_small
