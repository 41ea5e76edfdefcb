"""What the main study measures on one model, or on two networks trained on disjoint sets: numbers and pictures as arrays.

Each function answers one question and returns plain arrays, which the workspace stores and the charts draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pydantic
import torch
from torch import Tensor

from scorescope.data.images import ImageSet
from scorescope.denoisers import Denoiser, NetworkDenoiser, denoisers
from scorescope.foundation import track
from scorescope.noise import edm_sigmas, log_spaced_sigmas
from scorescope.probes.attribution import Deviation, deviation
from scorescope.probes.errors import denoising_psnr, forward_inputs, reverse_inputs
from scorescope.probes.memorization import Evidence, copied_share
from scorescope.probes.similarity import cosine_similarity, nearest
from scorescope.sampling import BlindState, blind_ascent, heun, last
from scorescope.study.workspace import Workspace

Arrays = dict[str, npt.NDArray[np.generic]]
OPTIMAL = "optimal"
LOWEST_SIGMA, HIGHEST_SIGMA = 0.03, 80.0


class MeasurementConfig(pydantic.BaseModel):
    """How much is measured.

    Attributes:
        psnr_levels: noise levels of the PSNR curves.
        psnr_images: training images and held-out images, each, that they are averaged over.
        samples: samples drawn from each network.
        sampler_h: first step of the blind ascent.
        sampler_h_grows: whether its steps grow (see `blind_ascent`); otherwise all are as large as the first.
        sampler_beta: share of a step of the blind ascent that lowers the noise.
        sigma_end: noise level at which the blind ascent stops, in units of [-1, 1].
        flow_steps: sigmas of the flow, for networks that are told sigma.
        deviation_levels: noise levels at which denoisers are compared.
        deviation_inputs: forward inputs, and reverse trajectories, a level.
        example_levels: noise levels of the denoised examples.
        seed: of every noise that is drawn.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    psnr_levels: int = pydantic.Field(9, ge=2)
    psnr_images: int = pydantic.Field(384, ge=1)
    samples: int = pydantic.Field(64, ge=2)
    sampler_h: float = pydantic.Field(0.01, gt=0, le=1)
    sampler_h_grows: bool = True
    sampler_beta: float = pydantic.Field(0.1, gt=0, le=1)
    sigma_end: float = pydantic.Field(0.05, gt=0)
    flow_steps: int = pydantic.Field(18, ge=2)
    deviation_levels: int = pydantic.Field(10, ge=2)
    deviation_inputs: int = pydantic.Field(16, ge=1)
    example_levels: int = pydantic.Field(4, ge=2)
    seed: int = pydantic.Field(0, ge=0)


@dataclass(frozen=True)
class Trained:
    """Networks, and what each was trained on.

    Attributes:
        networks: one network, or two, by the name that charts give them.
        training: the images that each was trained on.
        held_out: images that none was trained on; None if there are none.
    """

    networks: Mapping[str, NetworkDenoiser]
    training: Mapping[str, ImageSet]
    held_out: ImageSet | None

    @property
    def first(self) -> NetworkDenoiser:
        """The network that is compared with the training-free denoisers."""
        return next(iter(self.networks.values()))

    @property
    def first_training(self) -> ImageSet:
        """Its training images."""
        return self.training[next(iter(self.networks))]

    def sigmas(self, count: int) -> list[float]:
        """Levels from high to low, log-spaced over what every network was trained on, within [0.03, 80]."""
        low = max([LOWEST_SIGMA, *(network.sigma_range[0] for network in self.networks.values())])
        high = min([HIGHEST_SIGMA, *(network.sigma_range[1] for network in self.networks.values())])
        return [float(sigma) for sigma in log_spaced_sigmas(count, low, high)]


@dataclass(frozen=True)
class Subject(Trained):
    """What is under the microscope: networks, and what they are compared with.

    Attributes:
        optimal: the optimal denoiser of the first network's training images.
        mechanisms: rival explanations by name, built on the same images.
    """

    optimal: Denoiser
    mechanisms: Mapping[str, Denoiser]


def mechanisms_of(images: ImageSet, names: Sequence[str]) -> dict[str, Denoiser]:
    """The rival explanations on a training set: those named, or all training-free ones that are not costly."""
    standard = [name for name, entry in denoisers.items() if name != OPTIMAL and not entry.costly]
    return {name: denoisers[name].build(images) for name in names or standard}


def chosen(images: ImageSet, count: int, seed: int) -> Tensor:
    """`count` images, (count, C, H, W) float: a random choice without repeats, or all of a smaller set in turn."""
    order = np.random.default_rng(seed).permutation(images.stored)
    return images.tensor(np.resize(order, count))


def mean_intensity(images: ImageSet, seed: int) -> float:
    """The mean of up to 512 images: what networks that were not trained on levels that drown the images start around."""
    return float(chosen(images, 512, seed).mean())


def psnr_of_images(trained: Trained, config: MeasurementConfig) -> Arrays:
    """Output PSNR of every image at every level, for each network on its training images and on held-out ones.

    Returns ``sigma`` (S,) and, for every network NAME, ``train/NAME`` and, with held-out images, ``test/NAME``, each
    (S, `psnr_images`), dB. Image i is the same for both where it is held out, and image i mod N of a set of N.
    """
    sigmas = trained.sigmas(config.psnr_levels)
    found: Arrays = {"sigma": np.array(sigmas)}
    for name, network in trained.networks.items():
        seen = chosen(trained.training[name], config.psnr_images, config.seed)
        found[f"train/{name}"] = denoising_psnr(network, seen, sigmas, config.seed)
        if trained.held_out is not None:
            unseen = chosen(trained.held_out, config.psnr_images, config.seed)
            found[f"test/{name}"] = denoising_psnr(network, unseen, sigmas, config.seed)
    return found


def psnr_curves(trained: Trained, config: MeasurementConfig) -> Arrays:
    """Output PSNR on training and on held-out images, averaged over images and networks.

    Returns ``sigma`` (S,), ``train`` (S,) and, with held-out images, ``test`` (S,), dB.
    """
    found = psnr_of_images(trained, config)
    curves: Arrays = {"sigma": found["sigma"]}
    for kind in ("train", "test"):
        of_networks = [found[f"{kind}/{name}"] for name in trained.networks if f"{kind}/{name}" in found]
        if of_networks:
            curves[kind] = np.mean([values.astype(np.float64).mean(1) for values in of_networks], axis=0)
    return curves


class Drawn(NamedTuple):
    """Samples, and how the search for each ended.

    Attributes:
        images: (n, C, H, W).
        converged: whether the noise fell to the level at which the search stops, bool (n,); all, where the noise is given.
        diverged: whether it grew without end instead, bool (n,); the others ran out of steps.
        steps: evaluations of the network, int64 (n,).
    """

    images: Tensor
    converged: npt.NDArray[np.bool_]
    diverged: npt.NDArray[np.bool_]
    steps: npt.NDArray[np.int64]


def draw_samples(denoiser: Denoiser, count: int, centre: float, config: MeasurementConfig) -> Drawn:
    """Samples of a denoiser from a shared start.

    The noise is the same for every denoiser given one config.

    A blind network climbs by `blind_ascent` from its highest trained level around `centre`; whatever is told sigma
    follows its flow by Heun's method, a network within the levels that it was trained on.
    """
    generator = torch.Generator().manual_seed(config.seed)
    noise = torch.randn((count, *denoiser.image_shape), generator=generator)
    trained = denoiser.sigma_range if isinstance(denoiser, NetworkDenoiser) else (0.0, HIGHEST_SIGMA)
    if isinstance(denoiser, NetworkDenoiser) and denoiser.blind:
        sigma = trained[1]
        states = blind_ascent(
            denoiser,
            centre + sigma * noise,
            generator,
            sigma_start=sigma,
            sigma_end=config.sigma_end,
            h=config.sampler_h,
            beta=config.sampler_beta,
            h_grows=config.sampler_h_grows,
        )
        final: BlindState = last(track(states, "sampling"))
        ended = (values.cpu().numpy() for values in (final.converged, final.diverged, final.steps))
        return Drawn(final.denoised, *ended)
    low, high = max(trained[0], 0.002), min(trained[1], HIGHEST_SIGMA)
    sigmas = edm_sigmas(config.flow_steps, low, high)
    sample: Tensor = last(track(heun(denoiser, high * noise, sigmas), "sampling", config.flow_steps + 1)).noisy
    evaluations = np.full(count, 2 * config.flow_steps - 1)
    return Drawn(sample, np.ones(count, dtype=bool), np.zeros(count, dtype=bool), evaluations)


def sample_and_search(trained: Trained, config: MeasurementConfig) -> dict[str, Any]:
    """Samples from shared noise, their nearest training images, and similarities.

    Returns, for every network NAME, ``samples/NAME`` and ``nearest/NAME`` (n, C, H, W), ``similarity/NAME`` (n,) and
    ``converged/NAME``, ``diverged/NAME`` and ``steps/NAME`` (n,): how the search for each sample ended, see `Drawn`;
    with two networks ``agreement`` (n,); and ``reference`` (m,): how similar images that are not copies are to their
    nearest training image, from held-out images if there are any, else from training images and the others of the set.
    """
    centre = mean_intensity(trained.first_training, config.seed)
    found: dict[str, Any] = {}
    for name, network in trained.networks.items():
        training = trained.training[name]
        drawn = draw_samples(network, config.samples, centre, config)
        neighbours = nearest(drawn.images, training)
        found[f"samples/{name}"] = drawn.images.numpy()
        found |= {f"{what}/{name}": getattr(drawn, what) for what in ("converged", "diverged", "steps")}
        found[f"nearest/{name}"] = training.tensor(neighbours.index[:, 0]).numpy()
        found[f"similarity/{name}"] = neighbours.similarity[:, 0]
    if len(trained.networks) == 2:
        first, second = (torch.from_numpy(found[f"samples/{name}"]) for name in trained.networks)
        found["agreement"] = cosine_similarity(first, second)
    training = trained.first_training
    if trained.held_out is not None:
        reference = nearest(chosen(trained.held_out, 512, config.seed), training)
    else:
        reference = nearest(chosen(training, min(512, training.stored), config.seed), training, exclude_self=True)
    found["reference"] = reference.similarity[:, 0]
    return found


def deviations(subject: Subject, config: MeasurementConfig) -> dict[str, Deviation]:
    """How far the first network is from the optimal denoiser and from every mechanism, on both kinds of inputs.

    Returns ``forward``: noisy training images; and ``reverse``: the states of the network's own flow from noise.
    """
    sigmas = subject.sigmas(config.deviation_levels)
    training = subject.first_training
    clean = chosen(training, config.deviation_inputs, config.seed)
    centre = mean_intensity(training, config.seed)
    states = reverse_inputs(subject.first, training.image_shape, sigmas, len(clean), config.seed, centre)
    inputs = {
        "forward": forward_inputs(clean, sigmas, config.seed),
        "reverse": [state.noisy for state in states],
    }
    return {
        kind: deviation(
            subject.first, subject.optimal, subject.mechanisms, batches, sigmas, f"comparing on {kind} inputs"
        )
        for kind, batches in inputs.items()
    }


def denoised_examples(subject: Subject, config: MeasurementConfig) -> Arrays:
    """One held-out image (a training image where there are none), noised at several levels, as every denoiser sees it.

    Returns ``sigma`` (L,) and ``pictures`` (R, L, C, H, W): clean, noisy, networks, optimal, mechanisms.
    """
    sigmas = subject.sigmas(config.example_levels + 2)[1:-1]
    clean = chosen(subject.held_out or subject.first_training, 1, config.seed + 1)
    denoisers: dict[str, Denoiser] = {**subject.networks, "optimal": subject.optimal, **subject.mechanisms}
    noisy = forward_inputs(clean, sigmas, config.seed)
    rows = [torch.cat(noisy)]
    with torch.no_grad():
        for denoiser in denoisers.values():
            rows.append(torch.cat([denoiser(image, sigma) for image, sigma in zip(noisy, sigmas, strict=True)]))
    pictures = torch.stack([clean.expand_as(rows[0]), *rows])
    return {"sigma": np.array(sigmas), "pictures": pictures.numpy()}


@dataclass(frozen=True)
class Sampled:
    """The samples of one subject.

    Attributes:
        label: what the subject is called ("N = 100").
        networks: names of its networks.
        found: see `sample_and_search`.
    """

    label: str
    networks: tuple[str, ...]
    found: dict[str, Any]

    @property
    def similarity(self) -> npt.NDArray[np.float64]:
        """Of all networks' samples to their nearest training images, (networks · n,)."""
        return np.concatenate([self.found[f"similarity/{name}"] for name in self.networks]).astype(np.float64)

    @property
    def nearest(self) -> float:
        """Mean similarity of a sample to its nearest training image."""
        return float(self.similarity.mean())

    @property
    def agreement(self) -> float | None:
        """Mean similarity of the two networks' samples from the same noise; None with one network."""
        agreement = self.found.get("agreement")
        return None if agreement is None else float(agreement.astype(np.float64).mean())


@dataclass(frozen=True)
class Measured(Sampled):
    """Everything that is measured on one subject.

    Attributes:
        mechanisms: names of the mechanisms.
        curves: see `psnr_curves`.
        deviations: see `deviations`.
        example_sigmas: levels of the examples.
        examples: see `denoised_examples`.
    """

    mechanisms: tuple[str, ...]
    curves: Arrays
    deviations: dict[str, Deviation]
    example_sigmas: Arrays
    examples: npt.NDArray[np.generic]

    @property
    def evidence(self) -> Evidence:
        """What the memorization rule decides on."""
        gap = None
        if "test" in self.curves:
            gap = float(np.mean(self.curves["train"].astype(np.float64) - self.curves["test"].astype(np.float64)))
        noisy = 20 * np.log10(2 / self.curves["sigma"].astype(np.float64))
        return Evidence(
            gain=float(np.mean(self.curves["train"].astype(np.float64) - noisy)),
            psnr_gap=gap,
            copied=copied_share(self.similarity, self.found["reference"].astype(np.float64)),
            nearest=self.nearest,
            agreement=self.agreement,
        )

    @property
    def example_rows(self) -> list[str]:
        """Names of the rows of `examples`."""
        return ["clean", "noisy", *self.networks, "optimal", *self.mechanisms]


def measure(label: str, subject: Subject, config: MeasurementConfig, workspace: Workspace) -> Measured:
    """Everything on one subject, each part a cell of the run, so that an interrupted run goes on after the last."""
    key = label.replace(" ", "")
    curves = workspace.computed(f"{key}/psnr", lambda: psnr_curves(subject, config))
    found = workspace.computed(f"{key}/samples", lambda: sample_and_search(subject, config))
    compared = workspace.computed(f"{key}/deviation", lambda: _flat(deviations(subject, config)))
    shown = workspace.computed(f"{key}/examples", lambda: denoised_examples(subject, config))
    return Measured(
        label=label,
        networks=tuple(subject.networks),
        mechanisms=tuple(subject.mechanisms),
        curves=curves,
        found=found,
        deviations={kind: _unflat(kind, compared, tuple(subject.mechanisms)) for kind in ("forward", "reverse")},
        example_sigmas=shown["sigma"],
        examples=shown["pictures"],
    )


def _flat(found: dict[str, Deviation]) -> Arrays:
    arrays: Arrays = {}
    for kind, one in found.items():
        arrays |= {f"{kind}/sigma": one.sigmas, f"{kind}/optimal": one.to_optimal}
        arrays |= {f"{kind}/to {name}": distance for name, distance in one.to_mechanism.items()}
    return arrays


def _unflat(kind: str, arrays: Arrays, mechanisms: Sequence[str]) -> Deviation:
    kept = {
        key.removeprefix(f"{kind}/"): value.astype(np.float64) for key, value in arrays.items() if key.startswith(kind)
    }
    return Deviation(kept["sigma"], kept["optimal"], {name: kept[f"to {name}"] for name in mechanisms})
