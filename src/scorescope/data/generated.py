"""Image classes whose geometry is known: the test beds of Kadkhodaie et al. 2024 for what a denoiser's basis should be.

- *C^α images*: two textures of regularity α on the two sides of a contour of regularity α. The optimal denoiser's PSNR
  grows with slope α / (α + 1), which a geometry-adaptive basis attains and a fixed one does not.
- *Disks*: a five-parameter manifold; its tangent space is spanned by the image's derivatives by the parameters.
- *Ray*: one image times a scalar. *Sinusoids*: one frequency, any phase and amplitude: two parameters. Either starts at a
  constant intensity, mid-grey or another: with black, they are a ray and a cone of images in [0, 1].

The last three are functions of a parameter tensor, ``render(parameters (B, P)) -> (B, 1, H, W)`` in [-1, 1], so that
`torch.func.jacrev` of a renderer is the manifold's tangent space; smooth edges make the derivatives exist everywhere.
Random numbers come from the `torch.Generator` that the caller passes; everything is computed on its device, in float32.

Source: Kadkhodaie, Guth, Simoncelli, Mallat, ICLR 2024, https://arxiv.org/abs/2310.02557, section 3 and appendices.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scorescope.foundation import UserError

DISK_PARAMETERS = ("centre x", "centre y", "radius", "foreground", "background")
SINUSOID_PARAMETERS = ("amplitude", "phase")
SUBCOLUMNS = 4
"""Samples a pixel of a C^α image's contour."""


def draw_c_alpha(
    count: int,
    size: int,
    alpha: float,
    generator: torch.Generator,
    *,
    background_alpha: float | None = None,
) -> Tensor:
    """Random C^α images.

    A contour runs from left to right: uniform noise filtered by |ω|^-α, rescaled to a random span of the height, at
    four samples a pixel so that every pixel gets the share of its area that lies below the contour. The two sides are
    uniform noise filtered by (ω₁² + ω₂²)^(-α/2), rescaled to random ranges, one within [-1, 0], the other within
    [0, 1]; which is above is random. Zero frequencies are left out; images are periodic from left to right.

    Args:
        count: how many.
        size: side in pixels, at least 4.
        alpha: exponent of the contour, ≥ 0.
        generator: source of randomness.
        background_alpha: exponent of the two sides, ≥ 0; `alpha` by default.

    Returns:
        float32 (count, 1, size, size) in [-1, 1].

    Raises:
        UserError: a count below 1, a size below 4, a negative exponent.
    """
    return render_c_alpha(*draw_c_alpha_parts(count, size, alpha, generator, background_alpha=background_alpha))


def draw_c_alpha_parts(
    count: int,
    size: int,
    alpha: float,
    generator: torch.Generator,
    *,
    background_alpha: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `draw_c_alpha` makes its images of; arguments and errors as there.

    Returns:
        The contour, and what lies above it and below it, as `render_c_alpha` takes them.
    """
    textures_alpha = alpha if background_alpha is None else background_alpha
    if count < 1 or size < 4 or not (alpha >= 0 and textures_alpha >= 0):
        raise UserError(
            f"C^α images need count ≥ 1, size ≥ 4 and exponents ≥ 0, found {count}, {size}, {alpha} and {textures_alpha}"
        )
    height = _contours(count, size, alpha, generator)
    dark = _into_range(_textures(count, size, textures_alpha, generator), *_ranges(count, -1.0, generator))
    bright = _into_range(_textures(count, size, textures_alpha, generator), *_ranges(count, 0.0, generator))
    swap = torch.rand(count, 1, 1, generator=generator, device=generator.device) < 0.5
    return height, torch.where(swap, bright, dark), torch.where(swap, dark, bright)


def render_c_alpha(height: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """Two textures on the two sides of a contour, differentiable by all three.

    Args:
        height: of the contour in pixels from the top, (B, 4 size): at four samples a pixel, from left to right.
        above: the texture above it, (B, size, size).
        below: the texture below it, (B, size, size).

    Returns:
        (B, 1, size, size).
    """
    return torch.lerp(above, below, share_below(height)).unsqueeze(1)


def share_below(height: Tensor) -> Tensor:
    """Share of every pixel's area that lies below a contour, (B, 4 size) -> (B, size, size)."""
    size = height.shape[1] // SUBCOLUMNS
    rows = torch.arange(size, device=height.device, dtype=height.dtype)
    below = (rows[None, :, None] + 1 - height[:, None, :]).clamp(0, 1)  # (B, H, subcolumns): share of each pixel
    return below.view(-1, size, size, SUBCOLUMNS).mean(3)


def draw_disk_parameters(count: int, size: int, generator: torch.Generator, *, contrast: float = 0.2) -> Tensor:
    """Parameters of random disks that lie wholly inside the image.

    The radius is uniform in [size / 10, 3 size / 10], the centre uniform where the disk fits with a pixel to spare,
    the intensities uniform in [-1, 1]² where they differ by at least `contrast`, without which the disk is no disk.

    Returns:
        float32 (count, 5): `DISK_PARAMETERS`, the first three in pixels.

    Raises:
        UserError: a size below 8, or a contrast outside [0, 2).
    """
    if size < 8 or not 0 <= contrast < 2:
        raise UserError(f"disks need size ≥ 8 and a contrast in [0, 2), found {size} and {contrast}")
    uniform = torch.rand(count, 6, generator=generator, device=generator.device)
    radius = size * (0.1 + 0.2 * uniform[:, 0])
    room = size - 1 - 2 * (radius + 1)
    x, y = (radius + 1 + room * uniform[:, i] for i in (1, 2))
    # |foreground − background| = d has density ∝ 2 − d on [contrast, 2]; given d, the lower one is uniform.
    difference = 2 - (2 - contrast) * torch.sqrt(uniform[:, 3])
    lower = -1 + (2 - difference) * uniform[:, 4]
    upper = lower + difference
    bright = uniform[:, 5] < 0.5
    intensities = [torch.where(bright, upper, lower), torch.where(bright, lower, upper)]
    return torch.stack([x, y, radius, *intensities], dim=1)


def render_disks(parameters: Tensor, size: int, *, softness: float = 0.5) -> Tensor:
    """Disks as a differentiable function of their parameters.

    A pixel at distance d from the centre is covered by ``Φ((radius − d) / softness)``, Φ the normal distribution
    function: the edge of a disk seen through a Gaussian blur, with derivatives of every order.

    Args:
        parameters: (B, 5), `DISK_PARAMETERS`; the centre of the top left pixel is (0, 0).
        size: side in pixels.
        softness: standard deviation of the blur in pixels, > 0.

    Returns:
        (B, 1, size, size), between the two intensities.
    """
    x, y, radius, foreground, background = (value[:, None, None] for value in _columns(parameters, DISK_PARAMETERS))
    place = torch.arange(size, device=parameters.device, dtype=parameters.dtype)
    # The tiny term keeps the derivative of the root finite at a pixel that is the centre.
    distance = torch.sqrt((place[None, None, :] - x) ** 2 + (place[None, :, None] - y) ** 2 + 1e-12)
    covered: Tensor = torch.special.ndtr((radius - distance) / softness)
    return (background + covered * (foreground - background)).unsqueeze(1)


def draw_ray_parameters(count: int, generator: torch.Generator) -> Tensor:
    """Scale factors uniform in [0, 1], float32 (count, 1)."""
    return torch.rand(count, 1, generator=generator, device=generator.device)


def render_ray(parameters: Tensor, image: Tensor, origin: float = 0.0) -> Tensor:
    """A ray of images, ``origin + scale · (image − origin)``.

    Args:
        parameters: (B, 1), the factors; in [0, 1] the result stays in [-1, 1].
        image: (1, H, W) in [-1, 1].
        origin: the intensity at which the ray starts; −1, black, makes it a ray of images in [0, 1].

    Returns:
        (B, 1, H, W).
    """
    (scale,) = _columns(parameters, ("scale",))
    return origin + scale[:, None, None, None] * (image - origin)


def draw_sinusoid_parameters(count: int, generator: torch.Generator) -> Tensor:
    """Amplitudes uniform in [0, 1] and phases uniform in [0, 2π), float32 (count, 2)."""
    uniform = torch.rand(count, 2, generator=generator, device=generator.device)
    return uniform * torch.tensor([1.0, 2 * math.pi], device=generator.device)


def render_sinusoids(
    parameters: Tensor, size: int, frequency: tuple[float, float] = (2.0, 3.0), origin: float = 0.0
) -> Tensor:
    """``origin + amplitude · (cos(2π (f_x x + f_y y) / size + phase) − origin)``.

    Around an origin of 0 they fill a disk of a plane; from −1, black, on they are a cone of images in [0, 1].

    Args:
        parameters: (B, 2), `SINUSOID_PARAMETERS`; phase in radians.
        size: side in pixels.
        frequency: (f_x, f_y), periods per image.
        origin: the intensity of amplitude 0.

    Returns:
        (B, 1, size, size), within [-1, 1] for amplitudes and an origin within.
    """
    amplitude, phase = (value[:, None, None] for value in _columns(parameters, SINUSOID_PARAMETERS))
    place = torch.arange(size, device=parameters.device, dtype=parameters.dtype) * (2 * math.pi / size)
    angle = frequency[0] * place[None, None, :] + frequency[1] * place[None, :, None]
    return (origin + amplitude * (torch.cos(angle + phase) - origin)).unsqueeze(1)


def _columns(parameters: Tensor, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    if parameters.ndim != 2 or parameters.shape[1] != len(names):
        raise UserError(f"parameters must be (B, {len(names)}): {', '.join(names)}; found {tuple(parameters.shape)}")
    return parameters.unbind(1)


def _contours(count: int, size: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Heights of contours in pixels from the top, (count, 4 size): span of 0.2 to 0.8 of the image, inside it."""
    n = size * SUBCOLUMNS
    noise = torch.rand(count, n, generator=generator, device=generator.device)
    frequency = torch.fft.rfftfreq(n, device=generator.device)
    curve = torch.fft.irfft(torch.fft.rfft(noise) * _power_law(frequency.square(), alpha), n=n)
    uniform = torch.rand(count, 2, generator=generator, device=generator.device)
    span = size * (0.2 + 0.6 * uniform[:, :1])
    top = (size - span) * uniform[:, 1:]
    return top + span * _normalized(curve, (1,))


def _textures(count: int, size: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Filtered noise rescaled to [0, 1] in every image, (count, H, W)."""
    noise = torch.rand(count, size, size, generator=generator, device=generator.device)
    rows = torch.fft.fftfreq(size, device=generator.device)
    columns = torch.fft.rfftfreq(size, device=generator.device)
    squared = rows[:, None].square() + columns[None, :].square()
    filtered = torch.fft.irfft2(torch.fft.rfft2(noise) * _power_law(squared, alpha), s=(size, size))
    return _normalized(filtered, (1, 2))


def _power_law(squared_frequency: Tensor, alpha: float) -> Tensor:
    """|ω|^-α from |ω|², without the zero frequency; scaled so that the lowest frequency keeps its amplitude."""
    lowest = squared_frequency[squared_frequency > 0].min()
    gain = (squared_frequency / lowest).clamp_min(1e-30).pow(-alpha / 2)
    return torch.where(squared_frequency > 0, gain, torch.zeros_like(gain))


def _normalized(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    low, high = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
    return (values - low) / (high - low)


def _ranges(count: int, base: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random intervals (low, width) within [base, base + 1], 0.2 to 0.9 wide, each (count, 1, 1)."""
    uniform = torch.rand(count, 2, 1, 1, generator=generator, device=generator.device)
    width = 0.2 + 0.7 * uniform[:, 0]
    return base + (1 - width) * uniform[:, 1], width


def _into_range(values: Tensor, low: Tensor, width: Tensor) -> Tensor:
    return low + width * values
