"""Explorer: everything that a reader may look up by hand in one noisy image, gathered while a run has it at hand.

The same noise is added to a few images at every level, and kept with what the network, the optimal denoiser and every
mechanism make of it; for some output pixels where the network looks, and which patches of which training images they come from;
samples with the training images most like them; eigenvectors of the network's derivative. `report.explorer` makes a page of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scorescope.data import ImageSet
from scorescope.data.images import to_uint8
from scorescope.foundation import UserError
from scorescope.foundation.progress import track
from scorescope.lenses.base import Lens, lens
from scorescope.lenses.comparison import Compared
from scorescope.lenses.drawing import full_contrast
from scorescope.lenses.inputs import EXPLORED, HELD_OUT, Inputs, outputs
from scorescope.lenses.mechanisms import rivals
from scorescope.lenses.memorization import stored_samples
from scorescope.lenses.origins import origins, pixel_grid, window_sides
from scorescope.lenses.rivals import Mechanisms
from scorescope.lenses.settings import LensSettings
from scorescope.lenses.shrinkage import Shrinkage
from scorescope.lenses.subject import OPTIMAL, Subject, chosen
from scorescope.probes.distances import squared_difference
from scorescope.probes.sensitivity import sensitivity
from scorescope.probes.similarity import nearest
from scorescope.study.exploration import Bytes, Exploration, Integers, Singles
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace
from scorescope.training.randomness import mixed

MOST_BYTES, MOST_TRAINING_BYTES, MOST_SPECTRUM_BYTES = 6_500_000, 2_500_000, 1_000_000
"""Of denoised images and maps, of training images, and of eigenvectors: a page of 15 MB holds them even where nothing packs."""
SAMPLES, NEIGHBOURS = 64, 4
ABSENT, NOT_KEPT = -1, -2
LOCAL_NOISE = 0x1E45


class SameNoise(Inputs):
    """``x + σ n`` with one n an image, the same at every level, so that a reader sees nothing change but the level."""

    def __init__(self, key: str, sigmas: Sequence[float], clean: Tensor, seed: int) -> None:
        super().__init__(EXPLORED, key, sigmas, None)
        self.clean = clean
        self.noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(mixed(seed, LOCAL_NOISE)))

    def at(self, level: int) -> Tensor:
        """See `Inputs.at`."""
        return self.clean + self.sigmas[level] * self.noise


@lens(
    "explorer",
    question="What becomes of one noisy image at every noise level, and where does each pixel of it come from?",
)
class Explorer(Lens):
    """What the explorer beside the page shows.

    Args:
        label: what the lens of memorization calls the subject, whose samples are taken.
    """

    def __init__(self, label: str = "the model") -> None:
        self.label = label

    def measure(self, subject: Subject, settings: LensSettings, workspace: Workspace) -> Exploration:
        """See `Lens.measure`."""
        comparison, builder = rivals(subject, settings, workspace)
        (one,) = comparison.networks
        mechanisms = builder.of(one)
        sigmas = [comparison.sigmas[place] for place in one.within(comparison.sigmas)]
        if not sigmas:
            raise UserError(f"{one.name} was trained on none of the noise levels that are looked at")
        channels, height, width = one.denoiser.image_shape
        pixels = pixel_grid(height, width, settings.explorer_pixels)
        shown = len(mechanisms.denoisers) + 3
        count = _fitting(settings, len(sigmas) * (shown * channels + len(pixels)) * height * width)
        clean, kinds = _images(subject, count, settings.seed)
        inputs = SameNoise("explorer", sigmas, clean, settings.seed)
        denoised, distances = self._denoised(one, mechanisms, inputs, workspace)
        names = list(denoised)
        maps, peaks, missing = _maps(one, inputs, pixels, workspace)
        sides = window_sides(height, width, settings.explorer_sides)
        behind = _origins(one, inputs, denoised[one.name], pixels, sides, settings.explorer_patches, workspace)
        samples, similarity, neighbours = _samples(self.label, subject, settings, workspace)
        entries = _kept(one.training, behind["entries"], behind["weights"], neighbours)
        spectrum = _spectrum(subject, settings, workspace)
        if not len(samples):
            missing["samples"] = "no search for one ended at finite values."
        if "why" in spectrum:
            missing["eigenvectors"] = spectrum.pop("why")
        return Exploration(
            model=one.name,
            training_set=one.training.name,
            held_out_set="" if subject.held_out is None else subject.held_out.name,
            denoisers=names,
            sigmas=sigmas,
            kinds=kinds,
            sides=sides,
            clean=_bytes(clean.numpy()),
            noisy=np.stack([_bytes(inputs.at(level).numpy()) for level in range(len(sigmas))]),
            denoised=np.stack([_bytes(denoised[name]) for name in names], axis=2),
            distances=np.stack([distances[name] for name in names], axis=-1).astype(np.float32),
            pixels=np.array(pixels, dtype=np.int32),
            sensitivity=maps,
            peaks=peaks,
            side_errors=behind["errors"].astype(np.float32),
            best=behind["best"].astype(np.int32),
            behind=_places(behind["entries"], entries),
            behind_entries=behind["entries"].astype(np.int32),
            weights=behind["weights"].astype(np.float32),
            effective=behind["effective"].astype(np.float32),
            training=one.training.take(entries),
            entries=entries.astype(np.int32),
            samples=_bytes(full_contrast(samples)) if len(samples) else _bytes(samples),
            neighbours=_places(neighbours, entries),
            similarity=similarity,
            missing=missing,
            **spectrum,
        )

    def show(self, results: Results, measured: Exploration) -> None:
        """See `Lens.show`: the page links to the explorer, which `report` writes beside it."""
        results.exploration = measured
        missing = " ".join(f"Without {part}: {why}" for part, why in measured.missing.items())
        held_out = measured.kinds.count(HELD_OUT)
        results.introductions[self.title] = (
            f"For {held_out} held-out and {len(measured.kinds) - held_out} training images at {len(measured.sigmas)} noise"
            f" levels, pixel by pixel; and for {len(measured.samples)} samples. {missing}".rstrip()
        )

    def _denoised(
        self, one: Compared, mechanisms: Mechanisms, inputs: Inputs, workspace: Workspace
    ) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float64]]]:
        """What everything makes of the inputs, (S, I, C, H, W), and its squared differences to the network, (S, I)."""
        built = mechanisms.denoisers
        made = {one.name: outputs(one.name, one.denoiser, inputs, workspace)}
        made[OPTIMAL] = outputs(OPTIMAL, one.optimal, inputs, workspace)
        made |= {name: outputs(mechanisms.keys[name], denoiser, inputs, workspace) for name, denoiser in built.items()}
        apart = {name: squared_difference(made[one.name], values) for name, values in made.items()}
        nearest_first = sorted(built, key=lambda name: float(np.nan_to_num(apart[name], nan=math.inf).mean()))
        order = [one.name, OPTIMAL, *nearest_first]
        return {name: made[name] for name in order}, {name: apart[name] for name in order}


def explored_in_one_cell(label: str, subject: Subject, settings: LensSettings, workspace: Workspace) -> Exploration:
    """The same as a single cell of a run that counts its cells; samples that the run has are not drawn again."""
    inside = _Inside(workspace)
    measure = functools.partial(Explorer(label).measure, subject, settings, inside)
    return Exploration(**workspace.computed(f"{label.replace(' ', '')}/explorer", lambda: dict(vars(measure()))))


class _Inside(Workspace):
    """A cell's own workspace: what the run has is taken from there, everything else computed and kept nowhere."""

    def __init__(self, outer: Workspace) -> None:
        super().__init__(outer.folder, outer.device, outer.cache, outer.study, outer.config)
        self.outer = outer

    def computed(self, name: str, function: Callable[[], Any]) -> Any:
        """See `Workspace.computed`."""
        return self.outer.computed(name, function) if self.outer.done(name) else function()


def _fitting(settings: LensSettings, size: int) -> int:
    """How many images of each kind are kept: as many as asked for, or as many of so many bytes as the page has room for."""
    return max(1, min(settings.explorer_images, MOST_BYTES // (2 * size)))


def _images(subject: Subject, count: int, seed: int) -> tuple[Tensor, list[str]]:
    """The clean images, and of which kind each is: held-out ones first, where there are any."""
    sets = {HELD_OUT: subject.held_out, "training": subject.first_training}
    found = {kind: chosen(one, min(count, one.stored), seed) for kind, one in sets.items() if one is not None}
    return torch.cat(list(found.values())), [kind for kind, images in found.items() for _ in images]


def _maps(
    one: Compared, inputs: SameNoise, pixels: Sequence[tuple[int, int]], workspace: Workspace
) -> tuple[Bytes, Singles, dict[str, str]]:
    """Where the network looks, as 255ths of the root of the largest, (S, I, P, H, W), and the largest, (S, I, P)."""
    images, (_, height, width) = len(inputs.clean), one.denoiser.image_shape
    nothing = (
        np.zeros((0, images, len(pixels), height, width), np.uint8),
        np.zeros((0, images, len(pixels)), np.float32),
    )
    if not one.denoiser.differentiable:
        return *nothing, {"sensitivity": f"{one.name} has no derivative."}

    def at(level: int) -> dict[str, npt.NDArray[Any]]:
        noisy = inputs.at(level).to(workspace.device)
        maps = (
            torch.stack([sensitivity(one.denoiser, y[None], inputs.sigmas[level], pixels) for y in noisy]).cpu().numpy()
        )
        peaks = maps.max((2, 3))
        shares = np.sqrt(maps / np.where(peaks > 0, peaks, 1)[:, :, None, None])
        return {"maps": np.rint(255 * shares).astype(np.uint8), "peaks": peaks.astype(np.float32)}

    try:
        found = [
            workspace.computed(f"explorer/sensitivity/{level}", functools.partial(at, level))
            for level in track(range(len(inputs.sigmas)), "where single pixels look")
        ]
    except RuntimeError as error:  # a layer without a derivative; everything else can still be shown
        return *nothing, {"sensitivity": str(error).strip().split("\n")[0] + "."}
    return np.stack([each["maps"] for each in found]), np.stack([each["peaks"] for each in found]), {}


def _origins(
    one: Compared,
    inputs: SameNoise,
    made: npt.NDArray[np.float32],
    pixels: Sequence[tuple[int, int]],
    sides: Sequence[int],
    top: int,
    workspace: Workspace,
) -> dict[str, npt.NDArray[Any]]:
    """What `origins` finds, at all levels."""

    def at(level: int) -> Any:
        noisy, reference = inputs.at(level).to(workspace.device), torch.from_numpy(made[level])
        return origins(one.training, one.optimal, noisy, inputs.sigmas[level], reference, pixels, sides, top)

    found = [
        workspace.computed(f"explorer/origins/{level}", functools.partial(at, level))
        for level in track(range(len(inputs.sigmas)), "where single pixels come from")
    ]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def _samples(
    label: str, subject: Subject, settings: LensSettings, workspace: Workspace
) -> tuple[npt.NDArray[np.float32], Singles, npt.NDArray[np.int64]]:
    """Samples, the nearest to a training image first; cosines of their neighbours, and which entries these are."""
    name = next(iter(subject.networks))
    samples = stored_samples(label, subject, settings, workspace)[f"samples/{name}"][:SAMPLES]
    samples = samples[np.isfinite(samples).all((1, 2, 3))]
    if not len(samples):
        return samples, np.zeros((0, NEIGHBOURS), np.float32), np.zeros((0, NEIGHBOURS), np.int64)
    found = nearest(torch.from_numpy(samples), subject.first_training, k=NEIGHBOURS)
    order = np.argsort(-found.similarity[:, 0], kind="stable")
    return samples[order], found.similarity[order].astype(np.float32), found.index[order]


def _kept(
    training: ImageSet, behind: npt.NDArray[Any], weights: npt.NDArray[Any], neighbours: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """Entries whose images are kept: all neighbours of samples, then those with the most weight, as far as there is room."""
    room = MOST_TRAINING_BYTES // math.prod(training.image_shape)
    always = np.unique(neighbours)
    entries, places = np.unique(behind, return_inverse=True)
    total = np.zeros(len(entries))
    np.add.at(total, places.reshape(-1), weights.reshape(-1))
    total[entries == ABSENT] = -1
    ranked = entries[np.argsort(-total, kind="stable")]
    ranked = ranked[(ranked != ABSENT) & ~np.isin(ranked, always)]
    return np.sort(np.concatenate([always, ranked[: max(0, room - len(always))]]))


def _places(entries: npt.NDArray[Any], kept: npt.NDArray[np.int64]) -> Integers:
    """Where entries stand among those kept; −1 stays −1, and what is not kept becomes −2."""
    places = np.searchsorted(kept, entries).clip(0, len(kept) - 1)
    found = np.where(kept[places] == entries, places, NOT_KEPT)
    return np.where(entries == ABSENT, ABSENT, found).astype(np.int32)


def _spectrum(subject: Subject, settings: LensSettings, workspace: Workspace) -> dict[str, Any]:
    """Eigenvectors as the lens `shrinkage` finds them; ``why`` not, where it cannot."""
    channels, height, width = subject.first.image_shape
    nothing = {
        "spectrum_sigmas": [],
        "spectrum_images": np.zeros((0, 0, 3, channels, height, width), np.uint8),
        "eigenvectors": np.zeros((0, 0, 0, channels, height, width), np.uint8),
        "eigenvalues": np.zeros((0, 0, 0), np.float32),
    }
    if not subject.first.differentiable:
        return nothing | {"why": f"{subject.first.name} has no derivative."}
    try:
        found = Shrinkage().measure(subject, settings, workspace).found
    except (UserError, RuntimeError) as error:
        return nothing | {"why": str(error).strip().split("\n")[0] + "."}
    room = MOST_SPECTRUM_BYTES // (len(found) * channels * height * width)
    count = max(1, min(min(one.kept for row in found for one in row), room - 3))
    found = [row[: max(1, room // (3 + count))] for row in found]
    pictures = np.stack([[one.pictures[: 3 + count] for one in row] for row in found])
    return {
        "spectrum_sigmas": [row[0].sigma for row in found],
        "spectrum_images": _bytes(pictures[:, :, :3]),
        "eigenvectors": _bytes(pictures[:, :, 3:]),
        "eigenvalues": np.stack([[one.eigenvalues[:count] for one in row] for row in found]).astype(np.float32),
    }


def _bytes(images: npt.NDArray[Any]) -> Bytes:
    """Floats in [-1, 1] as they are shown: rounded to bytes, what is outside cut off, what is not finite mid-grey."""
    known = np.nan_to_num(images.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    return to_uint8(torch.from_numpy(known))
