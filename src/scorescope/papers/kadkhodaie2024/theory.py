"""Theory: errors known without clean images, the dimension that a denoiser keeps, and how far two networks can differ.

Three identities of section 2 of the paper (see `probes.sure`) are checked on real networks, and what they are about is measured
over noise levels for growing N: how many directions each denoiser keeps, and how much of the bound on the KL divergence each
level adds, between a network and perfect memorization, and between two networks that share no training image.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import torch

from scorescope.denoisers import Denoiser, GaussianDenoiser, OptimalDenoiser
from scorescope.lenses.memorization import Arrays
from scorescope.lenses.subject import Trained, chosen
from scorescope.papers.kadkhodaie2024.trained import (
    PAPER,
    PUBLISHED,
    TINY,
    Material,
    TrainedConfig,
    open_material,
    trained_pair,
    training_methods,
)
from scorescope.probes.errors import forward_inputs, squared_error
from scorescope.probes.intervals import mean_over_images
from scorescope.probes.sure import divergence, kl_bound, kl_integrand, sure
from scorescope.study import charts, palette
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.landmarks import landmarks_of
from scorescope.study.pairs import NETWORKS
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

ERRORS, DIMENSION, DIVERGENCE = (
    "Errors without clean images",
    "Effective dimension",
    "How far apart distributions can be",
)
OPTIMAL, GAUSSIAN = "optimal", "gaussian"
KINDS = {"train": "noisy training images", "test": "noisy held-out images"}
STANDARD_ERRORS = 4.0  # that an average over images may be off: one in 16,000, and there are some tens of averages
ENOUGH_IMAGES = 64
Floats = npt.NDArray[np.float64]


class TheoryConfig(TrainedConfig):
    """Settings of the theory page.

    Attributes:
        levels: noise levels.
        images: training and held-out images, each.
        draws: random products an image and level, for the traces.
    """

    levels: int = pydantic.Field(9, ge=3)
    images: int = pydantic.Field(96, ge=4)
    draws: int = pydantic.Field(4, ge=1)


@study
class Theory(Study[TheoryConfig]):
    """Stein's estimate, effective dimension and the KL bound, measured."""

    name = "kadkhodaie2024/theory"
    paper = PAPER
    title = "What theory says of denoisers, measured"
    question = "Do the identities behind the paper hold for trained networks, and what do they say about growing N?"
    Config = TheoryConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": TINY | {"levels": 4, "images": 16, "draws": 2},
        "small": {"sizes": (10, 100, 1000, 10000)},
        "paper": PUBLISHED | {"levels": 20, "images": 1000},
    }

    def run(self, config: TheoryConfig, workspace: Workspace) -> Results:
        """See `Study.run`. Raises UserError for sizes that the data do not allow."""
        material = open_material(config, workspace)
        found, landmarks = [], {}
        for size in config.sizes:
            trained = trained_pair(material, size, config, workspace)
            found.append(workspace.computed(f"N={size}/theory", functools.partial(measure_theory, trained, config)))
            of = f"N = {size:,}"
            landmarks[""] = landmarks_of(trained.first_training, workspace, f"N={size}/landmarks", of)
        results = Results(
            study=self.name, title=self.title, question=self.question, paper=self.paper, landmarks=landmarks
        )
        self._fill(results, config, material, found)
        return results

    def _fill(self, results: Results, config: TheoryConfig, material: Material, found: list[Arrays]) -> None:
        dimension = int(np.prod(material.images.image_shape))
        _errors(results, config, found)
        _dimensions(results, config, found, dimension)
        between = _divergences(results, config, found, dimension)
        results.claims += _claims(config, found, between)
        keeps = [_mean(one, "test/A/trace") for one in found]
        sigma = found[-1]["sigma"]
        results.headline = (
            f"A network trained on {config.sizes[-1]:,} images keeps {keeps[-1][-1]:.0f} of the {dimension} directions of a"
            f" held-out image at σ = {sigma[-1]:.2g}, and {keeps[-1][0]:.1f} at σ = {sigma[0]:.2g}. The bound on how far the"
            f" distributions of two networks are apart is {between[0]:,.0f} nats at N = {config.sizes[0]:,} and"
            f" {between[-1]:,.0f} at N = {config.sizes[-1]:,}, over these noise levels."
        )
        results.methods |= material.methods | training_methods(config)
        results.methods |= {
            "Measurement": f"{config.images} training images of network A and as many held-out images, y = x + σ n, at"
            f" {config.levels} levels from {found[0]['sigma'][0]:.3g} to {found[0]['sigma'][-1]:.3g}, the same noise for every"
            " denoiser. Optimal and Gaussian denoisers are those of network A's training images.",
            "Traces": f"Hutchinson's estimator, {config.draws} random sign vectors an image and level; the optimal denoiser's"
            " exactly, from its posterior covariance.",
            "Bound": "∫ d · MSE σ⁻³ dσ by trapezia in ln σ, over the levels measured: noise outside of them adds more.",
            "Intervals": "95 %, percentile bootstrap over images.",
            "Seed": f"{config.measurement.seed} for all noise and choices.",
        }


def measure_theory(trained: Trained, config: TheoryConfig) -> Arrays:
    """Errors, traces and Stein's estimates of networks, optimal and Gaussian denoiser at every level.

    Returns ``sigma`` (S,) and ``dimension`` (), d; for KIND in ``train``, ``test`` and each denoiser NAME ``KIND/NAME/mse``,
    ``KIND/NAME/sure`` and ``KIND/NAME/trace``; for network A ``KIND/A/to optimal``, and for both ``KIND/between``: errors and
    differences as mean squares a value, all (S, n).
    """
    sigmas = trained.sigmas(config.levels)
    seed = config.measurement.seed
    first = trained.first_training
    denoisers: dict[str, Denoiser] = {
        **trained.networks, OPTIMAL: OptimalDenoiser(first), GAUSSIAN: GaussianDenoiser(first)
    }  # fmt: skip
    sources = {"train": first} | ({} if trained.held_out is None else {"test": trained.held_out})
    found: dict[str, list[Floats]] = {}
    signs = torch.Generator().manual_seed(seed)
    for kind, images in sources.items():
        clean = chosen(images, config.images, seed)
        for noisy, sigma in zip(forward_inputs(clean, sigmas, seed), sigmas, strict=True):
            outputs = {}
            for name, denoiser in denoisers.items():
                with torch.no_grad():
                    outputs[name] = denoiser(noisy, sigma)
                traces = divergence(denoiser, noisy, sigma, signs, draws=config.draws)
                for what, values in (
                    ("mse", squared_error(outputs[name], clean)),
                    ("sure", sure(noisy, outputs[name], traces, sigma)),
                    ("trace", traces),
                ):
                    found.setdefault(f"{kind}/{name}/{what}", []).append(values.cpu().numpy())
            to_optimal = squared_error(outputs[NETWORKS[0]], outputs[OPTIMAL]).cpu().numpy()
            found.setdefault(f"{kind}/{NETWORKS[0]}/to optimal", []).append(to_optimal)
            between = squared_error(*(outputs[name] for name in NETWORKS)).cpu().numpy()
            found.setdefault(f"{kind}/between", []).append(between)
    arrays: Arrays = {"sigma": np.array(sigmas), "dimension": np.array(clean[0].numel())}
    return arrays | {key: np.stack(rows) for key, rows in found.items()}


def standard_errors_off(found: Arrays, first: str, second: str, scale: npt.ArrayLike = 1.0) -> Floats:
    """By how many standard errors two means over images differ at each level, (S,); rounding counts as an error as well.

    Args:
        found: as `measure_theory` gives it.
        first: key of (S, n).
        second: of the same images.
        scale: factor of the second, (S,).
    """
    one = found[first].astype(np.float64)
    two = np.asarray(scale, dtype=np.float64).reshape(-1, 1) * found[second].astype(np.float64)
    difference = one - two
    error = difference.std(1, ddof=1) / np.sqrt(difference.shape[1])
    # At low noise a tiny set is recognized without a doubt, and what is left is the rounding of float32.
    rounding = 1e-12 + 1e-6 * np.maximum(np.abs(one).mean(1), np.abs(two).mean(1))
    return np.asarray(np.abs(difference.mean(1)) / np.maximum(error, rounding))


def _errors(results: Results, config: TheoryConfig, found: Sequence[Arrays]) -> None:
    one, last = found[-1], f"N = {config.sizes[-1]:,}"
    sigma = one["sigma"].astype(np.float64)
    names = {NETWORKS[0]: "network A", OPTIMAL: OPTIMAL, GAUSSIAN: GAUSSIAN}
    stein = [charts.Series(said, sigma, _mean(one, f"test/{name}/mse")) for name, said in names.items()]
    stein += [
        charts.Series(
            "by Stein, without clean images", sigma, _mean(one, f"test/{name}/sure"), colour=palette.GREY, dashed=True
        )
        for name in names
    ]
    dimension = _dimension(one)
    optimal = [
        charts.Series("squared error", sigma, _mean(one, "train/optimal/mse"), colour=palette.INK),
        charts.Series(
            "σ² tr ∇D*",
            sigma,
            sigma**2 * _mean(one, "train/optimal/trace") / dimension,
            colour=palette.GREY,
            dashed=True,
        ),
    ]
    results.add_chart(
        "stein",
        f"True error and Stein's estimate of it, {last}",
        "Mean squared error a value on noisy held-out images (solid), and what Stein's estimate makes of the noisy images"
        f" alone (dashed, one for each denoiser); means over {config.images} images. Estimates that fall to zero or below"
        " are left out of a logarithmic axis.",
        ERRORS,
        charts.lines(charts.Panel(stein, "mean squared error", y_log=True)),
    )
    results.add_chart(
        "optimal",
        f"The optimal denoiser's error is its trace, {last}",
        "Mean squared error a value of the optimal denoiser on noisy images of its own training set, and σ² times the trace of"
        f" its Jacobian, which is the posterior covariance; means over {config.images} images.",
        ERRORS,
        charts.lines(charts.Panel(optimal, "mean squared error")),
    )
    rows = []
    for size, each in zip(config.sizes, found, strict=True):
        for name, said in names.items():
            off = standard_errors_off(each, f"test/{name}/sure", f"test/{name}/mse")
            for level, value in enumerate(sigma):
                error, estimate = _mean(each, f"test/{name}/mse")[level], _mean(each, f"test/{name}/sure")[level]
                rows.append(
                    {
                        "N": size,
                        "denoiser": said,
                        "σ": value,
                        "error": error,
                        "Stein": estimate,
                        "standard errors": off[level],
                    }
                )
    results.add_table(
        "stein",
        "Stein's estimate against the true error",
        "Mean squares a value on noisy held-out images, and by how many standard errors of their difference they differ.",
        pd.DataFrame(rows),
        formats={"standard errors": ".1f"},
    )


def _dimensions(results: Results, config: TheoryConfig, found: Sequence[Arrays], dimension: int) -> None:
    sigma = found[0]["sigma"].astype(np.float64)
    over_n = []
    for size, one, colour in zip(config.sizes, found, palette.sequence(len(found)), strict=True):
        estimate = mean_over_images(one["test/A/trace"])
        over_n.append(charts.Series(f"N = {size:,}", sigma, estimate.value, estimate.low, estimate.high, colour=colour))
    panels = [charts.Panel(over_n, "tr ∇D", "network A, held-out images")]
    for kind, title in KINDS.items():
        series = [
            charts.Series(said, sigma, _mean(found[-1], f"{kind}/{name}/trace"))
            for name, said in ((NETWORKS[0], "network A"), (OPTIMAL, OPTIMAL), (GAUSSIAN, GAUSSIAN))
        ]
        panels.append(charts.Panel(series, "tr ∇D", f"N = {config.sizes[-1]:,}, {title}"))
    results.add_chart(
        "dimension",
        "How many directions a denoiser keeps",
        f"The trace of the Jacobian, 0 where all is taken for noise and d = {dimension} where nothing is, against the noise"
        f" level: means over {config.images} images, bands are 95 % intervals. Below, the same beside memorization and the best"
        " linear filter.",
        DIMENSION,
        charts.lines(panels),
    )
    rows = [
        {
            "N": size,
            "σ": value,
            "network A": _mean(one, "test/A/trace")[level],
            "network B": _mean(one, "test/B/trace")[level],
        }
        | {name: _mean(one, f"test/{name}/trace")[level] for name in (OPTIMAL, GAUSSIAN)}
        for size, one in zip(config.sizes, found, strict=True)
        for level, value in enumerate(sigma)
    ]
    results.add_table(
        "dimension",
        "Effective dimension at every level",
        "Mean trace of the Jacobian on noisy held-out images.",
        pd.DataFrame(rows),
        formats=dict.fromkeys(("network A", "network B", OPTIMAL, GAUSSIAN), ".2f"),
    )


def _divergences(results: Results, config: TheoryConfig, found: Sequence[Arrays], dimension: int) -> Floats:
    """Charts and a table of the bound; returns the bound between the two networks for every N, nats."""
    sigma = found[0]["sigma"].astype(np.float64)
    keys = {
        "between the two networks, held-out images": "test/between",
        "to memorization, training images": "train/A/to optimal",
    }
    panels, columns = [], {}
    for title, key in keys.items():
        series = []
        for size, one, colour in zip(config.sizes, found, palette.sequence(len(found)), strict=True):
            estimate = mean_over_images(one[key])
            value, low, high = (
                kl_integrand(v, sigma, dimension) for v in (estimate.value, estimate.low, estimate.high)
            )
            series.append(charts.Series(f"N = {size:,}", sigma, value, low, high, colour=colour))
        panels.append(charts.Panel(series, "nats per unit of ln σ", title, y_log=True))
        columns[key] = np.array([kl_bound(_mean(one, key), sigma, dimension) for one in found])
    excess = [_mean(one, "train/A/mse") - _mean(one, "train/optimal/mse") for one in found]
    results.add_chart(
        "bound",
        "What each noise level adds to the bound",
        "E‖D − D'‖² / σ², the integrand of the bound on the KL divergence over ln σ: the area under a line is the bound."
        " Above, the two networks against each other: small where they have become the same function. Below, network A"
        f" against the optimal denoiser of its training images: small where it memorizes. Means over {config.images} images.",
        DIVERGENCE,
        charts.lines(panels),
    )
    results.add_table(
        "bound",
        "The bound for every N",
        f"Integrated from σ = {sigma[-1]:.2g} to {sigma[0]:.2g}. That of a network against memorization is given in both of its"
        " forms, by the squared distance to the optimal denoiser and by the excess error, which agree up to chance.",
        pd.DataFrame(
            {
                "N": config.sizes,
                "between networks": columns["test/between"],
                "to memorization": columns["train/A/to optimal"],
                "to memorization, by excess error": [kl_bound(values, sigma, dimension) for values in excess],
            }
        ),
        units=dict.fromkeys(("between networks", "to memorization", "to memorization, by excess error"), "nats"),
    )
    return columns["test/between"]


def _claims(config: TheoryConfig, found: Sequence[Arrays], between: Floats) -> list[Claim]:
    chance = Rule(at_most=STANDARD_ERRORS, because="chance alone goes beyond that once in 16,000 averages")
    few = "" if config.images >= ENOUGH_IMAGES else f"it takes averages over {ENOUGH_IMAGES} images"
    stein = max(
        float(standard_errors_off(one, f"test/{name}/sure", f"test/{name}/mse").max())
        for one in found
        for name in NETWORKS
    )
    trace = max(float(_trace_off(one).max()) for one in found)
    many = len(found) * len(NETWORKS) * config.levels
    return [
        Claim(
            "A denoiser's error can be computed without clean images, from the trace of its Jacobian (Stein's estimate).",
            "kadkhodaie2024, section 2",
            f"largest difference of estimate and true error of a network, of {many} averages over {config.images} images",
            None if few else stein,
            chance,
            unit="standard errors",
            note=few,
        ),
        Claim(
            "The optimal denoiser's error is σ² times the expected trace of its Jacobian.",
            "kadkhodaie2024, section 2",
            f"largest difference of the two, over {len(found) * config.levels} averages over {config.images} training images",
            None if few else trace,
            chance,
            unit="standard errors",
            note=few,
        ),
        Claim(
            "With more training images two networks come closer to the same density.",
            "kadkhodaie2024, sections 2 and 3",
            f"bound between two networks at N = {config.sizes[-1]} over that at N = {config.sizes[0]}",
            None if config.untested else float(between[-1] / between[0]),
            Rule(below=0.5, because="less than half"),
            note=config.untested,
        ),
    ]


def _trace_off(found: Arrays) -> Floats:
    """By how many standard errors the optimal denoiser's error is off σ² times its trace, at each level."""
    scale = found["sigma"].astype(np.float64) ** 2 / _dimension(found)
    return standard_errors_off(found, "train/optimal/mse", "train/optimal/trace", scale)


def _mean(found: Arrays, key: str) -> Floats:
    return np.asarray(found[key].astype(np.float64).mean(1))


def _dimension(found: Arrays) -> int:
    return int(found["dimension"])
