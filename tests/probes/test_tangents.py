"""Tangent spaces against finite differences and the stored images; angles between planes at known angles."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from scorescope.data import generated, load_images
from scorescope.data.builtin import ray_image
from scorescope.denoisers.base import Denoiser
from scorescope.foundation import UserError
from scorescope.probes.jacobian import Jacobian
from scorescope.probes.tangents import captured_share, manifold_error, principal_angles, tangent_space

SIZE = 16


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dataset_generator(part: int) -> torch.Generator:
    """What a built-in data set of seed 0 draws from."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([0, part]).generate_state(1, np.uint64)[0] >> 1))


CASES = {
    "disks": (
        lambda n, g: generated.draw_disk_parameters(n, SIZE, g),
        lambda p: generated.render_disks(p, SIZE),
    ),
    "ray": (generated.draw_ray_parameters, lambda p: generated.render_ray(p, ray_image(SIZE).to(p.dtype))),
    "sinusoids": (generated.draw_sinusoid_parameters, lambda p: generated.render_sinusoids(p, SIZE)),
}


@pytest.mark.parametrize("name", CASES)
def test_tangent_spaces_span_the_finite_differences(name: str) -> None:
    draw, render = CASES[name]
    for parameters in draw(6, seeded()).double():
        tangent = tangent_space(render, parameters)
        assert tangent.shape == (SIZE * SIZE, len(parameters))
        torch.testing.assert_close(tangent.T @ tangent, torch.eye(len(parameters), dtype=torch.float64))
        for i in range(len(parameters)):
            step = 1e-5 * torch.nn.functional.one_hot(torch.tensor(i), len(parameters)).double()
            change = (render((parameters + step)[None]) - render((parameters - step)[None])).flatten() / 2e-5
            outside = change - tangent @ (tangent.T @ change)
            assert outside.norm() < 1e-6 * change.norm()


@pytest.mark.parametrize("name", CASES)
def test_the_generators_make_the_images_of_the_data_sets(name: str, tmp_path: Path) -> None:
    draw, render = CASES[name]
    images = load_images(name, cache=tmp_path, n=20, test_n=20, size=SIZE)
    for part, stored in enumerate(images):
        assert stored is not None
        drawn = render(draw(500, dataset_generator(part)).double())[:20]
        assert (stored.tensor() - drawn).abs().max() <= 1 / 255 + 1e-5, "equal up to the rounding to 8 bits"


def test_the_image_itself_is_a_tangent_of_disks_rays_and_cones() -> None:
    # which is why a bias-free network, for which D(y) = J y, can follow them
    for draw, render in CASES.values():
        parameters = draw(1, seeded(3))[0].double()
        image = render(parameters[None]).flatten()
        tangent = tangent_space(render, parameters)
        assert (tangent @ (tangent.T @ image) - image).norm() < 1e-9 * image.norm()


def test_a_point_without_a_tangent_space_is_refused() -> None:
    _, render = CASES["sinusoids"]
    with pytest.raises(UserError, match=r"not independent at \[0\.0, 1\.0\]"):
        tangent_space(render, torch.tensor([0.0, 1.0]))
    with pytest.raises(UserError, match=r"\(P,\)"):
        tangent_space(render, torch.zeros(2, 2))


def test_planes_at_known_angles() -> None:
    angles = torch.tensor([1e-9, 1e-3, 0.4, 1.2, math.pi / 2], dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(30, 30, generator=seeded(), dtype=torch.float64))[0]
    first = rotation[:, :5]
    second = first * angles.cos() + rotation[:, 5:10] * angles.sin()
    mixed = second @ torch.linalg.qr(torch.randn(5, 5, generator=seeded(1), dtype=torch.float64))[0]
    torch.testing.assert_close(principal_angles(first, mixed), angles, rtol=1e-6, atol=1e-14)
    torch.testing.assert_close(principal_angles(mixed, first), angles, rtol=1e-6, atol=1e-14)
    assert captured_share(first, mixed) == pytest.approx(float(angles.cos().square().mean()), abs=1e-12)
    # a larger space that holds three of the five directions
    larger = torch.cat([second[:, :3], rotation[:, 12:16]], dim=1)
    torch.testing.assert_close(principal_angles(larger, mixed)[:3], torch.zeros(3).double(), rtol=0, atol=1e-12)
    assert len(principal_angles(larger, mixed)) == 5


def test_angles_agree_with_scipy() -> None:
    from scipy.linalg import subspace_angles

    a, b = (torch.linalg.qr(torch.randn(40, k, generator=seeded(k), dtype=torch.float64))[0] for k in (7, 3))
    expected = np.sort(subspace_angles(a.numpy(), b.numpy()))
    assert principal_angles(a, b).numpy() == pytest.approx(expected, abs=1e-10)


def test_random_directions_capture_their_share() -> None:
    tangent = torch.linalg.qr(torch.randn(50, 4, generator=seeded()))[0]
    shares = [captured_share(torch.linalg.qr(torch.randn(50, 10, generator=seeded(i)))[0], tangent) for i in range(300)]
    assert np.mean(shares) == pytest.approx(10 / 50, abs=0.01)


def test_bases_that_are_none_are_refused() -> None:
    units = torch.eye(6)
    with pytest.raises(UserError, match="not orthonormal"):
        principal_angles(units[:, :2], 2 * units[:, 2:4])
    with pytest.raises(UserError, match=r"found \(6, 2\) and \(5, 2\)"):
        principal_angles(units[:, :2], units[:5, :2])


class Projection(Denoiser):
    """The optimal denoiser of a linear manifold as σ → 0."""

    def __init__(self, basis: torch.Tensor) -> None:
        super().__init__((1, SIZE, SIZE))
        self.basis = basis

    def denoise(self, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return (noisy.flatten(1) @ self.basis @ self.basis.T).reshape(noisy.shape)


def test_the_optimal_denoiser_of_a_cone_has_its_tangents_as_leading_eigenvectors_and_the_least_error() -> None:
    draw, render = CASES["sinusoids"]
    parameters = draw(1, seeded(2)).double()
    tangent, clean = tangent_space(render, parameters[0]), render(parameters)
    denoiser, sigma = Projection(tangent), 0.3
    noisy = clean + sigma * torch.randn(4000, *clean.shape[1:], generator=seeded(), dtype=torch.float64)
    error = (denoiser(noisy, sigma) - clean).square().mean()
    assert float(error) == pytest.approx(manifold_error(2, SIZE * SIZE, sigma), rel=0.05)
    matrix = Jacobian(denoiser, noisy[0], sigma).matrix()
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    assert values[-2:].tolist() == pytest.approx([1, 1])
    assert principal_angles(vectors[:, -2:], tangent).max() < 1e-6
