"""Figure 21: with all pixels permuted by one permutation, a UNet denoises clearly worse, and keeps more directions.

The information is the same, the optimal denoiser as good as before; but the harmonic, geometry-adaptive bases that the UNet
is biased towards are not those of permuted images. A fully connected network has no notion of neighbours: for it the
permutation must not matter. The paper lacks this control, without which permuted images might just be harder to train on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from scorescope.papers.kadkhodaie2024.class_networks import SHORT_RUN
from scorescope.papers.kadkhodaie2024.permuted_pixels import (
    CONNECTED,
    CONVOLUTIONAL,
    ORDERS,
    Both,
    Data,
    PermutedConfig,
    load,
    measure,
    too_small,
)
from scorescope.probes.intervals import mean_over_images
from scorescope.study import charts, palette, pictures
from scorescope.study.base import Study, study
from scorescope.study.claims import Claim, Rule
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

SOURCE = "kadkhodaie2024, figure 21"
CONTROL = "a control that the paper lacks"
DENOISING, BASIS = "Denoising with and without neighbours", "How many directions are kept"
COLOURS = {CONVOLUTIONAL: palette.BLUE, CONNECTED: palette.ORANGE}


@study
class Fig21(Study[PermutedConfig]):
    """Permuted pixels."""

    name = "kadkhodaie2024/fig21"
    title = "Permuted pixels"
    question = "Does a network lose by a permutation of the pixels that takes no information away?"
    paper = "Kadkhodaie et al. 2024, figure 21"
    Config = PermutedConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "data": "digits",
            "images": 1000,
            "test_images": 32,
            "levels": 4,
            "eigen_images": 2,
            "convolutional": {"arguments": {"width": 8}, "training": {"steps": 60, "batch": 16}},
            "connected": {
                "arguments": {"width": 32, "depth": 1},
                "training": {"steps": 60, "batch": 16, "learning_rate": 1e-3},
            },
        },
        "small": {
            "convolutional": {
                "arguments": {"width": 24},
                "training": {"steps": 2400, "batch": 32, "objective": SHORT_RUN},
            },
            # Whole, since a setting of a group replaces the group's defaults.
            "connected": {
                "arguments": {"width": 512, "depth": 3},
                "training": {"steps": 6000, "batch": 64, "learning_rate": 1e-3, "objective": SHORT_RUN},
            },
        },
        "paper": {
            "images": 60_000,
            "test_images": 1000,
            "levels": 25,
            "eigen_images": 16,
            "convolutional": {
                "arguments": {"width": 64},
                "training": {"steps": 100_000, "batch": 512, "learning_rate": 1e-3},
            },
            "connected": {
                "arguments": {"width": 2048, "depth": 4},
                "training": {"steps": 100_000, "batch": 512, "learning_rate": 3e-4},
            },
        },
    }

    def run(self, config: PermutedConfig, workspace: Workspace) -> Results:
        """See `Study.run`."""
        data = load(config)
        found = measure(config, data, workspace)
        results = Results(study=self.name, title=self.title)
        fill(results, found, data, config)
        return results


def fill(results: Results, found: Mapping[str, Both], data: Data, config: PermutedConfig) -> None:
    """The whole page."""
    lost = {kind: float(both.loss.mean()) for kind, both in found.items()}
    results.headline = (
        f"Permuting the pixels of {data.name} costs the UNet {lost[CONVOLUTIONAL]:.1f} dB, and the fully connected network,"
        f" which knows no neighbours, {lost[CONNECTED]:.1f} dB."
    )
    _curves(results, found, config)
    _eigenvalues(results, found, config)
    _sheet(results, found, data, config)
    _table(results, found)
    _claims(results, found, too_small(config, data))
    results.add_notes(data.notes)
    results.methods |= {
        "Data": f"{config.images} images of {data.name} to train on, {config.test_images} others to measure on, of"
        f" {data.permutation.sides[0]}×{data.permutation.sides[1]} pixels.",
        "Permutation": f"One permutation of the pixels for all images and channels, seed {config.seed}. Noise is drawn once and"
        " permuted with the images, so that both orders are measured on the same inputs.",
        CONVOLUTIONAL: config.convolutional.said,
        CONNECTED: config.connected.said,
        "Seeds": "Both orders are trained with the same seeds: of the weights, of the order of the images, of their noise.",
        "Eigenvalues": f"Full Jacobian at {config.eigen_images} noisy test images, σ = {config.eigen_sigma:g}, symmetric part.",
    }


def _curves(results: Results, found: Mapping[str, Both], config: PermutedConfig) -> None:
    x = config.input_psnr
    panels = []
    for kind, both in found.items():
        series = []
        for order, measured in zip(ORDERS, (both.original, both.permuted), strict=True):
            mean = mean_over_images(measured.psnr)
            dashed = measured is both.permuted
            series.append(
                charts.Series(
                    order,
                    x,
                    mean.value,
                    mean.low,
                    mean.high,
                    colour=palette.RED if dashed else palette.BLUE,
                    dashed=dashed,
                )
            )
        panels.append(charts.Panel(series, "output PSNR (dB)", kind))
    results.add_chart(
        "psnr",
        "Output against input PSNR",
        f"On images as they are and on the same images with permuted pixels, for networks trained on either; means over"
        f" {config.test_images} test images, bands are 95 % intervals over images. The grey line is the input itself.",
        DENOISING,
        charts.psnr_in_out(panels),
    )
    series = []
    for kind, both in found.items():
        mean = mean_over_images(both.loss)
        series.append(charts.Series(kind, x, mean.value, mean.low, mean.high, colour=COLOURS[kind]))
    results.add_chart(
        "loss",
        "What the permutation costs",
        f"PSNR on images minus PSNR on permuted images, image by image; means over {config.test_images} test images with 95 %"
        " intervals, which do not tell how far another training run would come out.",
        DENOISING,
        charts.lines(
            charts.Panel(series, "PSNR lost (dB)", levels={0.0: "the permutation does not matter"}),
            "input PSNR (dB)",
            x_log=False,
        ),
    )


def _eigenvalues(results: Results, found: Mapping[str, Both], config: PermutedConfig) -> None:
    panels = []
    for kind, both in found.items():
        series = []
        for order, measured in zip(ORDERS, (both.original, both.permuted), strict=True):
            mean = mean_over_images(measured.eigenvalues.T)
            ranks = np.arange(1, len(mean.value) + 1)
            dashed = measured is both.permuted
            colour = palette.RED if dashed else palette.BLUE
            series.append(charts.Series(order, ranks, mean.value, mean.low, mean.high, colour=colour, dashed=dashed))
        panels.append(
            charts.Panel(series, "eigenvalue", kind, y_range=(-0.3, None), levels={0.0: "removed", 1.0: "kept"})
        )
    results.add_chart(
        "eigenvalues",
        "Eigenvalues of the Jacobian",
        f"Sorted eigenvalues of the symmetric part at σ = {config.eigen_sigma:g}, mean over {config.eigen_images} noisy test"
        " images with 95 % intervals: the slower they fall, the more directions it takes to hold an image.",
        BASIS,
        charts.lines(panels, "rank of the eigenvector"),
    )


def _sheet(results: Results, found: Mapping[str, Both], data: Data, config: PermutedConfig) -> None:
    rows, labels, captions = [], [], []
    for kind, both in found.items():
        for order, measured in zip(ORDERS, (both.original, both.permuted), strict=True):
            rows.append(measured.pictures)
            labels.append(f"{kind}, {order}")
            captions.append(["", "", *(f"λ {measured.eigenvalues[0, k - 1]:.2f}" for k in config.shown)])
    results.add_sheet(
        "eigenvectors",
        "Eigenvectors at one noisy image",
        f"Noise of σ = {config.eigen_sigma:g}, the denoised image and eigenvectors by rank with their eigenvalues (mid-grey is"
        f" 0), of networks trained on {data.name} and on its permuted images; everything is shown in the order of the"
        " picture, so that what oscillates over the permuted array looks like noise here.",
        BASIS,
        pictures.grid(
            np.stack(rows),
            row_labels=labels,
            column_labels=["noisy", "denoised", *(f"{k}" for k in config.shown)],
            captions=captions,
        ),
    )


def _table(results: Results, found: Mapping[str, Both]) -> None:
    rows = [
        {
            "network": kind,
            "pixels": order,
            "PSNR": measured.psnr.mean(),
            "trace": measured.eigenvalues.sum(1).mean(),
            "directions kept": measured.kept().mean(),
            "asymmetry": measured.asymmetry.mean(),
        }
        for kind, both in found.items()
        for order, measured in zip(ORDERS, (both.original, both.permuted), strict=True)
    ]
    results.add_table(
        "permuted",
        "Both orders in numbers",
        "PSNR averaged over noise levels and images; trace of the Jacobian, the sum of its eigenvalues in units of the largest,"
        " and asymmetry ‖J − Jᵀ‖/‖J‖, averaged over images.",
        pd.DataFrame(rows),
        formats={"PSNR": ".2f", "trace": ".1f", "directions kept": ".1f", "asymmetry": ".2f"},
        units={"PSNR": "dB"},
    )


def _claims(results: Results, found: Mapping[str, Both], few: str) -> None:
    for kind, sentence, source, rule in (
        (
            CONVOLUTIONAL,
            "With permuted pixels a UNet denoises clearly worse.",
            SOURCE,
            Rule(at_least=1.0, because="a decibel is seen at once"),
        ),
        (
            CONNECTED,
            "For a fully connected network the permutation does not matter.",
            CONTROL,
            Rule(at_least=-0.2, at_most=0.2, because="what another seed may change"),
        ),
    ):
        lost = found[kind].loss
        mean = mean_over_images(lost.mean(0)[None])
        value, interval = float(mean.value[0]), (float(mean.low[0]), float(mean.high[0]))
        results.claims.append(
            Claim(
                sentence,
                source,
                "PSNR lost by the permutation, mean over noise levels and images",
                None if few else value,
                rule,
                unit="dB",
                interval=None if few else interval,
                note="; ".join(part for part in (few, f"{value:.2f} dB, by level {_range(lost.mean(1))}") if part),
            )
        )
    both = found[CONVOLUTIONAL]
    ratio = float(both.permuted.kept().mean() / both.original.kept().mean())
    control = found[CONNECTED]
    beside = float(control.permuted.kept().mean() / control.original.kept().mean())
    results.claims.append(
        Claim(
            "With permuted pixels the eigenvalues of a UNet's Jacobian decay more slowly.",
            SOURCE,
            "sum of the eigenvalues in units of the largest, permuted over original",
            None if few else ratio,
            Rule(at_least=1.2, because="a fifth more directions"),
            note="; ".join(part for part in (few, f"{ratio:.2f}; of the fully connected network {beside:.2f}") if part),
        )
    )


def _range(values: np.typing.NDArray[np.float64]) -> str:
    return f"{values.min():.2f} to {values.max():.2f}".replace("-", "−")
