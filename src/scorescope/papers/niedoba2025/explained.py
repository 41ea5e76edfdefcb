"""Locality in the report on a user's own model: where it looks, which patches it acts like, and what explains it.

The measurements are those of the studies of figures 3, 4 and 7, on fewer inputs, so that they add minutes and not hours.
"""

from __future__ import annotations

from scorescope.denoisers import OptimalDenoiser, WindowSchedule
from scorescope.lenses.measurements import MeasurementConfig, Subject
from scorescope.papers.niedoba2025 import fig3, fig4, fig7
from scorescope.papers.niedoba2025.against import compare, overall_table
from scorescope.papers.niedoba2025.compared import Compared, ComparedConfig, Comparison
from scorescope.papers.niedoba2025.inputs import IN_WORDS, reverse
from scorescope.papers.niedoba2025.mechanisms import Builder, MechanismConfig
from scorescope.probes.patches import all_sides, best_sides
from scorescope.study import charts, palette
from scorescope.study.results import Results
from scorescope.study.workspace import Workspace

PATCHES = "Which patches it acts like"
MOST_INPUTS, PATCH_INPUTS, HEATMAP_IMAGES = 8, 4, 2
MECHANISMS = MechanismConfig(heatmap_images=HEATMAP_IMAGES, everywhere_images=500, stacked_images=64)


def add_locality(results: Results, subject: Subject, config: MeasurementConfig, workspace: Workspace) -> None:
    """Add heatmaps, their concentration, the best patch side over σ, and what every mechanism explains.

    Args:
        results: of a report that was measured with the same settings; gains figures, tables and methods.
        subject: the model, which is the first of the networks, and its training images.
        config: noise levels, inputs and seed; at most 8 inputs of each kind are used at a level.
        workspace: of the run; everything long is a cell.
    """
    comparison = comparison_of(subject, config)
    (one,) = comparison.networks
    found = fig3.measure(comparison, HEATMAP_IMAGES, workspace)
    fig3.show(results, found, HEATMAP_IMAGES)
    fig3.describe(results, HEATMAP_IMAGES)
    _sides(results, comparison, one, workspace)
    against, built = compare(comparison, Builder(comparison, MECHANISMS, workspace), workspace)
    fig7.show_explained(results, against, comparison.config.inputs)
    results.add_table(
        "mechanisms",
        "What every mechanism explains, over all noise levels",
        f"1 minus the summed squared distance over the summed distance to the optimal denoiser, with its 95 % interval over"
        f" {comparison.config.inputs} images a level.",
        overall_table(against),
    )
    fig7.describe(results, built)


def comparison_of(subject: Subject, config: MeasurementConfig) -> Comparison:
    """The first network of a subject and its training images, as the studies of locality take them."""
    training, network = subject.first_training, subject.first
    optimal = subject.optimal if isinstance(subject.optimal, OptimalDenoiser) else OptimalDenoiser(training)
    one = Compared(network.name, network, training, training.fingerprint()[:12], optimal, "")
    sigmas = subject.sigmas(config.deviation_levels)
    settings = ComparedConfig(sigmas=tuple(sigmas), inputs=min(MOST_INPUTS, config.deviation_inputs), seed=config.seed)
    return Comparison((one,), subject.held_out, settings.noise_levels(), settings)


def _sides(results: Results, comparison: Comparison, one: Compared, workspace: Workspace) -> None:
    """The side of the patches that the model is nearest to on the states of its own sampling."""
    states = reverse(comparison, one, workspace)
    if states is None:
        return
    _, height, width = one.denoiser.image_shape
    sides = all_sides(height, width)
    levels = range(len(states.sigmas))
    errors = fig4.side_errors(f"patches {one.name}", one, states, one.denoiser, levels, sides, workspace, PATCH_INPUTS)
    chosen = best_sides(states.sigmas, sides, errors.mean(1))
    papers = WindowSchedule.for_images(height, width)
    lines = [
        charts.Series(one.name, states.sigmas, chosen.sides),
        charts.Series(
            "the paper's", states.sigmas, [papers.side(s) for s in states.sigmas], colour=palette.GREY, dashed=True
        ),
    ]
    results.add_chart(
        "best-side",
        "Side of the patches that it acts like",
        "At every noise level, the side of the square patches whose posterior means are nearest to the model's, on"
        f" {min(PATCH_INPUTS, comparison.config.inputs)} {IN_WORDS[states.kind]}. Dashed: the schedule of Niedoba et al. 2025"
        " for CIFAR-10, in proportion to the image.",
        PATCHES,
        charts.lines(charts.Panel(lines, "side (pixels)")),
    )
