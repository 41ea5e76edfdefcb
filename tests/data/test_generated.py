"""Generated images: ranges, regularity, exact coverage, and tangent spaces against finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scorescope.data import generated
from scorescope.foundation import UserError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_c_alpha_images_are_reproducible_and_in_range() -> None:
    images = generated.draw_c_alpha(40, 32, 2.0, seeded())
    assert images.shape == (40, 1, 32, 32)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert torch.equal(images, generated.draw_c_alpha(40, 32, 2.0, seeded()))
    assert not torch.equal(images, generated.draw_c_alpha(40, 32, 2.0, seeded(1)))


def test_c_alpha_images_have_a_bright_and_a_dark_side_with_the_contour_between() -> None:
    images = generated.draw_c_alpha(200, 40, 3.0, seeded())[:, 0]
    top, bottom = images[:, 0], images[:, -1]
    sides = torch.stack([top.amax(1) <= 0, bottom.amin(1) >= 0]).all(0) | torch.stack(
        [top.amin(1) >= 0, bottom.amax(1) <= 0]
    ).all(0)
    assert sides.float().mean() > 0.85, "contours stay inside the image but for those that touch its edge"
    assert 0.3 < (top.mean(1) > bottom.mean(1)).float().mean() < 0.7


def test_larger_alpha_is_more_regular() -> None:
    def roughness(alpha: float, background: float) -> tuple[float, float]:
        """Mean variation of the contour's height along the image, and of the sides within it."""
        images = generated.draw_c_alpha(100, 64, alpha, seeded(), background_alpha=background)[:, 0]
        height = (images > 0).float().sum(1)
        inside = (images[:, :, 1:] - images[:, :, :-1]).abs().flatten(1).median(1).values
        return float((height[:, 1:] - height[:, :-1]).abs().mean()), float(inside.mean())

    rough, smooth, mixed = roughness(1, 1), roughness(4, 4), roughness(4, 1)
    assert smooth[0] < 0.5 * rough[0]
    assert smooth[1] < 0.5 * rough[1]
    assert mixed[0] == pytest.approx(smooth[0], rel=0.3)
    assert mixed[1] > 2 * smooth[1]


def test_the_spectrum_of_a_side_follows_the_exponent() -> None:
    texture = generated._textures(300, 64, 2.0, seeded())
    power = torch.fft.rfft2(texture).abs().square().mean(0)
    slope = torch.log(power[0, 16] / power[0, 4]) / math.log(4)
    assert float(slope) == pytest.approx(-4, abs=0.3)  # amplitude |ω|^-2


def test_the_contour_divides_pixels_by_area(monkeypatch: pytest.MonkeyPatch) -> None:
    height = torch.tensor([[1.25] * 4 + [2.0] * 4 + [0.0, 1.0, 2.0, 3.0] + [4.0] * 4])
    monkeypatch.setattr(generated, "_contours", lambda *_: height)
    monkeypatch.setattr(generated, "_textures", lambda *_: torch.ones(1, 4, 4))
    monkeypatch.setattr(generated, "_ranges", lambda _, base, __: (torch.full((1, 1, 1), base), torch.ones(1, 1, 1)))
    image = generated.draw_c_alpha(1, 4, 1.0, seeded())[0, 0]  # sides are 0 and 1
    below = image if image[3, 0] == 1 else 1 - image
    expected = torch.tensor([[0, 0, 0.25, 0], [0.75, 0, 0.5, 0], [1, 1, 0.75, 0], [1, 1, 1, 0]])
    torch.testing.assert_close(below, expected)


@pytest.mark.parametrize("arguments", [(0, 32, 1.0), (1, 3, 1.0), (1, 32, -1.0), (1, 32, math.nan)])
def test_impossible_c_alpha_images_are_refused(arguments: tuple[int, int, float]) -> None:
    with pytest.raises(UserError, match=r"C\^α"):
        generated.draw_c_alpha(*arguments, seeded())


@settings(deadline=None, max_examples=25)
@given(st.integers(8, 64), st.integers(0, 10_000), st.floats(0, 1.9))
def test_disks_lie_inside_and_differ_from_their_background(size: int, seed: int, contrast: float) -> None:
    x, y, radius, foreground, background = generated.draw_disk_parameters(50, size, seeded(seed), contrast=contrast).T
    for centre in (x, y):
        assert (centre - radius >= 1 - 1e-3).all()
        assert (centre + radius <= size - 2 + 1e-3).all()
    assert ((foreground - background).abs() >= contrast - 1e-5).all()
    assert torch.stack([foreground, background]).abs().max() <= 1 + 1e-6


def test_a_disk_has_its_area_and_intensities() -> None:
    disk = generated.render_disks(torch.tensor([[20.3, 18.7, 9.5, 0.8, -0.4]], dtype=torch.float64), 40)[0, 0]
    assert float(disk[19, 20]) == pytest.approx(0.8)
    assert float(disk[0, 0]) == pytest.approx(-0.4)
    # A Gaussian blur of standard deviation s adds π s² to the area of a disk.
    area = float(((disk + 0.4) / 1.2).sum())
    assert area == pytest.approx(math.pi * (9.5**2 + 0.5**2), rel=2e-3)


def finite_differences(render: object, parameters: torch.Tensor, step: float = 1e-5) -> torch.Tensor:
    """(P, H, W) derivatives of one image by its parameters."""
    rows = []
    for i in range(parameters.shape[1]):
        shift = torch.zeros_like(parameters)
        shift[0, i] = step
        rows.append((render(parameters + shift) - render(parameters - shift))[0, 0] / (2 * step))  # type: ignore[operator]
    return torch.stack(rows)


@pytest.mark.parametrize("which", ["disk", "disk centred on a pixel", "ray", "sinusoid"])
def test_derivatives_by_parameters_are_the_tangent_space(which: str) -> None:
    image = torch.linspace(-1, 1, 256, dtype=torch.float64).view(1, 16, 16)
    disk = torch.tensor([[7.3, 8.1, 4.2, 0.5, -0.7]], dtype=torch.float64)
    render, parameters = {
        "disk": (lambda p: generated.render_disks(p, 16), disk),
        "disk centred on a pixel": (lambda p: generated.render_disks(p, 16), disk.round()),
        "ray": (lambda p: generated.render_ray(p, image), torch.tensor([[0.3]], dtype=torch.float64)),
        "sinusoid": (lambda p: generated.render_sinusoids(p, 16), torch.tensor([[0.6, 2.0]], dtype=torch.float64)),
    }[which]
    jacobian = torch.func.jacrev(render)(parameters)[0, 0, :, :, 0].movedim(-1, 0)  # (P, H, W)
    assert torch.isfinite(jacobian).all()
    torch.testing.assert_close(jacobian, finite_differences(render, parameters), rtol=1e-6, atol=1e-6)
    flat = jacobian.flatten(1)
    assert torch.linalg.matrix_rank(flat) == len(flat), "the manifold has as many dimensions as parameters"


def test_sinusoids_are_a_cone_in_a_plane() -> None:
    images = generated.render_sinusoids(generated.draw_sinusoid_parameters(30, seeded()), 20).double()
    assert images.abs().max() <= 1
    singular = torch.linalg.svdvals(images.flatten(1))
    assert singular[2] < 1e-5 * singular[1]
    parameters = torch.tensor([[0.4, 1.0], [0.8, 1.0]])
    once, twice = generated.render_sinusoids(parameters, 20)
    torch.testing.assert_close(2 * once, twice)


def test_a_ray_is_one_image_and_a_scale() -> None:
    scales = generated.draw_ray_parameters(100, seeded())
    assert scales.shape == (100, 1)
    assert 0 <= scales.min() < 0.1 < 0.9 < scales.max() <= 1
    image = torch.randn(1, 4, 4, generator=seeded())
    torch.testing.assert_close(generated.render_ray(scales, image)[7, 0], scales[7] * image[0])


def test_rays_and_sinusoids_from_black_are_closed_under_scaling_above_black() -> None:
    image = torch.rand(1, 8, 8, generator=seeded()).double() * 2 - 1
    for render, parameters, double in (
        (lambda p: generated.render_ray(p, image, -1.0), [0.4], [0.8]),
        (lambda p: generated.render_sinusoids(p, 8, origin=-1.0), [0.4, 1.1], [0.8, 1.1]),
    ):
        once, twice = (render(torch.tensor([values], dtype=torch.float64)) for values in (parameters, double))
        torch.testing.assert_close(2 * (once + 1), twice + 1)
        assert once.min() >= -1
        assert twice.max() <= 1
    # a cone, not a plane: differences of phase leave the span of two images
    phases = torch.stack([torch.full((3,), 0.5), torch.tensor([0.0, 2.0, 4.0])], dim=1).double()
    singular = torch.linalg.svdvals((generated.render_sinusoids(phases, 8, origin=-1.0) + 1).flatten(1))
    assert singular[2] > 0.1 * singular[0]


def test_parameters_of_another_shape_are_refused() -> None:
    with pytest.raises(UserError, match=r"\(B, 5\): centre x"):
        generated.render_disks(torch.zeros(2, 4), 16)
    with pytest.raises(UserError, match="size ≥ 8"):
        generated.draw_disk_parameters(1, 4, seeded())
