"""What one denoiser does: draw samples, take noise away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scorescope.app.drawn import Drawn
from scorescope.app.opening import Asked, Images, chosen
from scorescope.app.opening import images as opened_images
from scorescope.app.output import batch_size, batches, shown_columns, shown_tiles
from scorescope.denoisers import Denoiser
from scorescope.foundation import UserError, track
from scorescope.lenses.drawing import draw_samples, start_words
from scorescope.lenses.settings import MeasurementConfig
from scorescope.lenses.subject import mean_intensity
from scorescope.noise import add_noise, check_sigmas
from scorescope.probes.errors import psnr, squared_error
from scorescope.study.pictures import Sheet, grid, strip
from scorescope.training.randomness import mixed

SHOWN_SAMPLES, SHOWN_COLUMNS = 256, 64


@dataclass(frozen=True)
class Samples(Drawn):
    """Samples of a denoiser.

    Attributes:
        images: those that were kept, float32 (n, C, H, W) on the processor, in [-1, 1] but for what the sampler overshoots.
        count: how many were drawn.
        converged: share of them that reached the end of the sampler.
        word: the denoiser's name.
        origin: a sentence that says what it is.
        remark: what there is to be said of where its flow starts; mostly nothing.
    """

    images: Tensor
    count: int
    converged: float
    word: str
    origin: str
    remark: str = ""

    def sheet(self) -> Sheet:
        """The first samples."""
        return strip(self.images[: shown_tiles(self._shape, self.count, SHOWN_SAMPLES)].numpy())

    def numbers(self) -> dict[str, Any]:
        """See `Drawn.numbers`."""
        return {"denoiser": self.word, "samples": self.count, "converged": self.converged}

    def words(self, where: str = "") -> str:
        """See `Drawn.words`."""
        shown = min(len(self.images), shown_tiles(self._shape, self.count, SHOWN_SAMPLES))
        said = f"{self.count} samples of {self.word}, {self.converged:.0%} converged{first_shown(shown, self.count)}"
        return f"{self.origin}\n{said}{where}" + (f"\n{self.word}: {self.remark}" if self.remark else "")

    @property
    def _shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width


@dataclass(frozen=True)
class Denoised(Drawn):
    """Images, with noise, and denoised.

    Attributes:
        rows: the images that were kept: clean, noisy, denoised, float32 (3, n, C, H, W) on the processor.
        sigma: of the noise.
        psnr: over all images, in dB.
        count: how many images there were.
        word: the denoiser's name.
        origin: a sentence that says what it is.
        remarks: what else is to be known, in sentences.
        again: how images were taken, if there were not enough.
    """

    rows: Tensor
    sigma: float
    psnr: float
    count: int
    word: str
    origin: str
    remarks: tuple[str, ...] = ()
    again: str = ""

    def sheet(self) -> Sheet:
        """The first images."""
        return grid(self._shown().numpy(), row_labels=["clean", f"noisy, σ = {self.sigma:g}", self.word])

    def numbers(self) -> dict[str, Any]:
        """See `Drawn.numbers`."""
        return {"denoiser": self.word, "sigma": self.sigma, "images": self.count, "psnr": self.psnr}

    def words(self, where: str = "") -> str:
        """See `Drawn.words`."""
        said = f"{self.word} at σ = {self.sigma:g}: PSNR {self.psnr:.2f} dB over {self.count} images{self.again}"
        lines = [self.origin, f"{said}{first_shown(self._shown().shape[1], self.count)}{where}", *self.remarks]
        return "\n".join(lines)

    def _shown(self) -> Tensor:
        _, _, channels, height, width = self.rows.shape
        return self.rows[:, : shown_columns((channels, height, width), 3, self.count, SHOWN_COLUMNS)]


def sample(
    denoiser: Asked,
    count: int = 16,
    *,
    images: Images | None = None,
    seed: int = 0,
    steps: int | None = None,
    h: float | None = None,
    beta: float | None = None,
    constant_step: bool = False,
    device: str = "cpu",
    keep: int | None = None,
) -> Samples:
    """Draw samples of a network, or of a denoiser of a data set, in batches of bounded size.

    Args:
        denoiser: opened, or a name, or a checkpoint.
        count: how many.
        images: training images of a named denoiser; of a blind network only their mean intensity.
        seed: of the noise.
        steps: noise levels of the flow, for denoisers that are told sigma; 18 by default.
        h: first step size of the ascent of a blind network; 0.01 by default.
        beta: share of its steps that lowers the noise; 0.1 by default.
        constant_step: whether its step size stays as it is.
        device: where a network runs that is opened here.
        keep: how many images are kept at most, and no more than a picture holds; all by default.

    Raises:
        UserError: as `scorescope.app.opening.chosen`, and for settings that are not of this kind of denoiser.
    """
    data = None if images is None else opened_images(images).train
    asked = chosen(denoiser, data, device)
    ascent = {"sampler_h": h, "sampler_beta": beta, "sampler_h_grows": False if constant_step else None}
    flow, ascent = _said({"flow_steps": steps}), _said(ascent)
    blind = asked.network is not None and asked.network.blind
    if blind and flow:
        raise UserError(f"{asked.word} is blind and climbs until its noise is gone: leave out --steps")
    if ascent and not blind:
        raise UserError(
            f"{asked.word} is told the noise level and needs no ascent: leave out --h, --beta and --constant-step"
        )
    centre = mean_intensity(data, seed) if data is not None else 0.0
    most = count if keep is None else shown_tiles(asked.denoiser.image_shape, count, keep)
    kept: list[Tensor] = []
    converged = 0
    for number, piece in _tracked(count, asked.denoiser.image_shape, "sampling in batches"):
        config = MeasurementConfig(seed=seed if number == 0 else mixed(seed, number), **flow, **ascent)
        drawn = draw_samples(asked.denoiser, len(piece), centre, config, data)
        converged += int(drawn.converged.sum())
        kept += drawn.images[: max(0, most - piece.start)].cpu()
    remark = start_words(asked.denoiser, data)
    return Samples(torch.stack(kept), count, converged / count, asked.word, asked.origin, remark)


def denoise(
    denoiser: Asked,
    images: Images,
    sigma: float,
    *,
    count: int = 8,
    seed: int = 0,
    device: str = "cpu",
    keep: int | None = None,
) -> Denoised:
    """Add noise to images and take it away again, in batches of bounded size; test images where there are any.

    Args:
        denoiser: opened, or a name, or a checkpoint.
        images: training images of a named denoiser, and the images that are denoised where there are no test images.
        sigma: standard deviation of the noise, for images in [-1, 1].
        count: how many images; they come again if there are fewer.
        seed: of the choice and of the noise.
        device: where a network runs that is opened here.
        keep: how many images are kept at most, and no more than a picture holds; all by default.

    Raises:
        UserError: as `scorescope.app.opening.chosen`, and for a sigma that is not positive and finite.
    """
    check_sigmas([sigma])
    split = opened_images(images)
    asked, of = chosen(denoiser, split.train, device), split.test or split.train
    order = np.random.default_rng(seed).permutation(of.stored)
    most = count if keep is None else shown_columns(of.image_shape, 3, count, keep)
    kept: list[Tensor] = []
    squares = 0.0
    for number, piece in _tracked(count, of.image_shape, "denoising"):
        clean = of.tensor(order[np.arange(piece.start, piece.stop) % of.stored])
        noisy = add_noise(clean, sigma, torch.Generator().manual_seed(seed if number == 0 else mixed(seed, number)))
        with torch.no_grad():
            denoised = asked.denoiser(noisy, sigma).cpu()
        squares += float(squared_error(denoised, clean).sum())
        if piece.start < most:
            kept.append(torch.stack([clean, noisy, denoised])[:, : most - piece.start])
    again = f", each of the {of.stored} of {of.name} several times" if count > of.stored else ""
    error = float(psnr(torch.tensor(squares / count)))
    remarks = tuple(_out_of_range(asked.denoiser, asked.word, sigma))
    return Denoised(torch.cat(kept, 1), sigma, error, count, asked.word, asked.origin, remarks, again)


def first_shown(shown: int, count: int) -> str:
    """What is said where a sheet holds fewer than all."""
    return "" if shown == count else f", the first {shown} of them shown"


def _said(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _out_of_range(denoiser: Denoiser, word: str, sigma: float) -> Iterator[str]:
    """A line of its own for a noise level that a network never saw."""
    low, high = getattr(denoiser, "sigma_range", (0.0, float("inf")))
    if not low * (1 - 1e-6) <= sigma <= high * (1 + 1e-6):
        yield f"{word} was trained from σ = {low:.3g} to {high:.3g}: what it makes of σ = {sigma:g} says nothing of it"


def _tracked(count: int, image_shape: tuple[int, int, int], description: str) -> Iterator[tuple[int, range]]:
    """Numbered batches, with a progress bar if there are several."""
    pieces = enumerate(batches(count, image_shape))
    total = -(-count // batch_size(image_shape))
    return track(pieces, description, total) if total > 1 else pieces
