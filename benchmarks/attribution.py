"""How well attributions tell what networks do: linear datamodeling scores, and what taking the first images away changes.

``python -m benchmarks attribution`` scores every method on the committed losses of `attribution_networks` (64 random halves of
2,000 images, 64 test points) and writes ``results/attribution.md`` and ``.json``. Attributions of a test point are means over
noisy versions of it at every level, from the functions that ``scorescope attribute`` uses; only D-TRAK asks a network, the one
that was trained on all 2,000. A method's prediction for a half is the sum of its attributions over the half's images; what was
measured is the networks' denoising error, each level's in units of its mean over halves, so that all levels count alike.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import attribution_networks as networks
from scorescope.denoisers.patch_schedule import WindowSchedule
from scorescope.foundation import new_file
from scorescope.posterior.contributions import anywhere_contributions, window_contributions
from scorescope.posterior.units import LEVELS_PER_UNIT, OFFSET
from scorescope.posterior.whole_image import WholeImagePosterior
from scorescope.posterior.windows import Window
from scorescope.probes.attribution_gradients import GradientFeatures, gradient_scores
from scorescope.probes.audit.search import Directions
from scorescope.probes.datamodeling import DatamodelingScore, datamodeling_score, predicted, rank_correlation
from scorescope.probes.features_embedded import EmbeddedFeatures
from scorescope.probes.similarity import directions

Floats = npt.NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"
CELLS = networks.RUNS / "attributions"
SIDES = (3, 5, 7, 9, 11)
NOISES = 2  # noisy versions of a test point at every level, the first of those that the losses were measured on
SIGMAS = np.array(networks.SIGMAS)
LEAVING = "leaving out, "
RIDGES = (0.01, 0.1, 1.0)


def keep() -> str:
    """Score every method, write both files, and say the table as text."""
    measured = dict(np.load(networks.FILE))
    subsets = np.unpackbits(measured["halves"], axis=1, count=networks.IMAGES).astype(np.bool_)
    by_seed = relative(measured["losses"].astype(np.float64))  # (seeds, halves, levels, points)
    scale = measured["losses"].astype(np.float64).mean((0, 1)) / SIGMAS[:, None] ** 2  # (levels, points)
    losses = by_seed.mean(0)
    found = {}
    for name, values in attributions().items():
        # what leaving an image out adds to the error is in units of σ²: brought to those of the losses
        found[name] = _scored(values / scale[..., None] if name.startswith(LEAVING) else values, subsets, losses)
    record: dict[str, Any] = {
        "halves": len(subsets),
        "seeds": len(by_seed),
        "training images": networks.IMAGES,
        "points": {"samples": networks.SAMPLES, "unseen": networks.POINTS - networks.SAMPLES},
        "network": {"width": networks.WIDTH, "steps": networks.STEPS, "batch": networks.BATCH, "side": networks.SIDE},
        "processor seconds a network": round(float(measured["processor seconds"].mean()), 1),
        "sigmas": list(networks.SIGMAS),
        "between seeds": _between_seeds(measured, len(by_seed)),
        "methods": found,
    }
    path = RESULTS / "attribution-counterfactual.json"
    if path.is_file():
        record["counterfactual"] = json.loads(path.read_text(encoding="utf-8"))
    text = page(record)
    for name, content in (("attribution.json", json.dumps(record, indent=1) + "\n"), ("attribution.md", text)):
        with new_file(RESULTS / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return text


def relative(losses: Floats) -> Floats:
    """Losses (seeds, halves, levels, points) in units of their mean over halves, level by level and point by point."""
    return np.asarray(losses / losses.mean(1, keepdims=True))


def attributions() -> dict[str, Floats]:
    """Every method's attributions of the test points, (levels, points, N), computed once and kept."""
    found = {"whole images": _cell("whole", _whole)}
    for side in SIDES:
        found[f"windows of {side}×{side}"] = _cell(f"windows-{side}", functools.partial(_windows, side))
    found["windows of the schedule"] = by_schedule(found, "windows of ")
    found["places anywhere (NDA)"] = _cell("anywhere", _anywhere)
    found[f"{LEAVING}whole images"] = _cell("without-whole", functools.partial(_leaving_out, networks.SIDE))
    for side in SIDES:
        found[f"{LEAVING}windows of {side}×{side}"] = _cell(f"without-{side}", functools.partial(_leaving_out, side))
    found[f"{LEAVING}windows of the schedule"] = by_schedule(found, f"{LEAVING}windows of ")
    found["cosine of pixels"] = _cell("pixels", _pixels)
    found["cosine of embedded features"] = _cell("embedded", _embedded)
    for ridge in RIDGES:
        name = f"gradients (D-TRAK), λ = {ridge:g}"
        found[name] = _cell(f"gradients-{ridge:g}", functools.partial(_gradients, ridge))
    return found


def by_schedule(values: dict[str, Floats], kind: str) -> Floats:
    """At every level the windows of the schedule of pspc-square: the attribution that needs no choice of a side."""
    schedule = WindowSchedule.for_images(networks.SIDE, networks.SIDE)
    sides = [min(schedule.side(sigma), SIDES[-1]) for sigma in networks.SIGMAS]
    return np.stack([values[f"{kind}{side}×{side}"][level] for level, side in enumerate(sides)])


def _scored(values: Floats, subsets: npt.NDArray[np.bool_], losses: Floats) -> dict[str, Any]:
    """A method's scores: over all levels, for samples and unseen points apart, and level by level."""
    score = datamodeling_score(predicted(values.mean(0), subsets), losses.mean(1))
    levels = []
    for level in range(len(SIGMAS)):
        levels.append(float(rank_correlation(predicted(values[level], subsets), -losses[:, level]).mean()))
    return {
        **_record(score),
        "samples": float(score.by_point[: networks.SAMPLES].mean()),
        "unseen": float(score.by_point[networks.SAMPLES :].mean()),
        "by level": levels,
    }


def _record(score: DatamodelingScore) -> dict[str, Any]:
    return {"lds": score.value, "over points": list(score.over_points), "over networks": list(score.over_networks)}


def _between_seeds(measured: dict[str, Any], seeds: int) -> dict[str, Any] | None:
    """How well networks of one seed tell the losses of another's on the same halves; None where there is one seed.

    With r the correlation of two seeds' losses, the mean of k seeds has the share ``k r / (1 + (k − 1) r)`` of its variance
    from the images (Spearman and Brown); the root of that is what the best prediction from the images can reach.
    """
    again = measured["again"]
    if len(again) < 3:
        return None
    first, second = (
        relative(values.astype(np.float64)[None])[0]
        for values in (measured["losses"][0][again], measured["losses again"])
    )
    levels = [float(rank_correlation(first[:, k], second[:, k]).mean()) for k in range(len(SIGMAS))]
    score = datamodeling_score(-second.mean(1), first.mean(1))
    share = max(0.0, seeds * score.value / (1 + (seeds - 1) * score.value))
    return {"halves": len(again), **_record(score), "reachable": share**0.5, "by level": levels}


def _cell(name: str, compute: Callable[[], Floats]) -> Floats:
    path = CELLS / f"{name}.npy"
    if not path.is_file():
        values = compute().astype(np.float32)
        CELLS.mkdir(parents=True, exist_ok=True)
        with new_file(path) as temporary, temporary.open("wb") as file:
            np.save(file, values)
        print(f"attributions: {name}", flush=True)
    return np.asarray(np.load(path), dtype=np.float64)


def _noisy() -> list[Floats]:
    """Noisy test points at every level as grey levels, (versions × points, d) each."""
    found = []
    for sigma in networks.SIGMAS:
        images = networks.noisy_points(sigma)[:NOISES]
        found.append(images.double().numpy().reshape(NOISES * networks.POINTS, -1) * LEVELS_PER_UNIT - OFFSET)
    return found


def _per_level(of: Callable[[Floats, Floats, float], Floats]) -> Floats:
    """Mean over noisy versions of what `of` says of a level's noisy points: (levels, points, N)."""
    rows = []
    for noisy, sigma in zip(_noisy(), networks.SIGMAS, strict=True):
        values = of(noisy, np.full(len(noisy), sigma * LEVELS_PER_UNIT), sigma)
        rows.append(values.reshape(NOISES, networks.POINTS, -1).mean(0))
    return np.stack(rows)


def _whole() -> Floats:
    posterior = WholeImagePosterior(networks.training_images())
    return _per_level(lambda noisy, spread, _: posterior.weights(noisy, spread))


def _windows(side: int) -> Floats:
    window = Window.inside(side, networks.SIDE, networks.SIDE)

    def of(noisy: Floats, spread: Floats, _: float) -> Floats:
        parts = window_contributions(networks.training_images(), noisy, spread, [window] * len(noisy), 1)
        return np.stack([part.share for part in parts])

    return _per_level(of)


def _anywhere() -> Floats:
    schedule = WindowSchedule.for_images(networks.SIDE, networks.SIDE)

    def of(noisy: Floats, spread: Floats, sigma: float) -> Floats:
        side = min(schedule.side(sigma), networks.SIDE // 2)
        parts = anywhere_contributions(networks.training_images(), noisy, spread, [side] * len(noisy), 1)
        return np.stack([part.share for part in parts])

    return _per_level(of)


def _leaving_out(side: int) -> Floats:
    """By how much the composite's error at the test point grows without each image, in units of σ²: the closed form for all."""
    images = networks.training_images().tensor().double().numpy()[:, 0]
    clean = networks.points().double().numpy()[:, 0].reshape(networks.POINTS, -1)
    count, length = networks.SIDE - side + 1, networks.SIDE
    places = [(row, column) for row in range(count) for column in range(count)]
    inside = np.zeros((len(places), length, length))
    for place, (row, column) in enumerate(places):
        inside[place, row : row + side, column : column + side] = 1
    flat, inside = images.reshape(len(images), -1), inside.reshape(len(places), -1)
    covered = inside.sum(0)

    def of(noisy: Floats, _: Floats, sigma: float) -> Floats:
        rows = []
        for place, levels in enumerate(noisy):
            y = (levels + OFFSET) / LEVELS_PER_UNIT
            logits = -((flat - y) ** 2) @ inside.T / (2 * sigma**2)  # (N, windows)
            weights = np.exp(logits - logits.max(0))
            weights /= weights.sum(0)
            means = weights.T @ flat * inside  # (windows, d)
            odds = weights / np.maximum(1 - weights, 1e-9)
            change = (odds @ means - odds @ inside * flat) / covered  # D₋ᵢ − D, (N, d)
            error = means.sum(0) / covered - clean[place % networks.POINTS]
            rows.append((2 * change @ error + (change**2).sum(1)) / sigma**2)
        return np.stack(rows)

    return _per_level(of)


def _pixels() -> Floats:
    training = directions(networks.training_images().tensor())
    return _every_level((directions(networks.points()) @ training.T).double().numpy())


def _embedded() -> Floats:
    space = Directions(EmbeddedFeatures())
    training = space.of(networks.training_images().tensor())
    return _every_level(space.of(networks.points()) @ training.T)


def _gradients(ridge: float) -> Floats:
    path = CELLS / "gradients.npz"
    if not path.is_file():
        features = GradientFeatures(networks.network_of("full"), [*networks.SIGMAS] * 2)
        own = features.of_all(networks.points(), "gradients of test points")
        training = features.of_all(networks.training_images().tensor())
        with new_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, own=own.astype(np.float32), training=training.astype(np.float32))
    kept = np.load(path)
    own, training = (kept[name].astype(np.float64) for name in ("own", "training"))
    return _every_level(gradient_scores(own, training, ridge))


def _every_level(values: npt.ArrayLike) -> Floats:
    return np.repeat(np.asarray(values, dtype=np.float64)[None], len(SIGMAS), axis=0)


def page(record: dict[str, Any]) -> str:
    """Everything as Markdown."""
    net, sides = record["network"], f"{record['network']['side']}×{record['network']['side']}"
    lines = [
        "# attribution",
        "",
        f"{record['halves']} random halves of {record['training images']:,} images of Fashion-MNIST at {sides} pixels,"
        f" {record['seeds']} trained on each (U-Net of width {net['width']}, {net['steps']} steps of {net['batch']} images,"
        f" {record['processor seconds a network']} processor seconds). {record['points']['samples']} test points were drawn by"
        f" the network trained on all images, {record['points']['unseen']} are unseen images. Loss: denoising error at σ ="
        f" {', '.join(f'{sigma:g}' for sigma in record['sigmas'])}, each level's in units of its mean. LDS: Spearman's"
        " correlation over halves between the sum of attributions and the negative loss, mean over test points, in percent;"
        " 95 % bootstrap intervals. For gradients the best λ was chosen by nobody: all are shown.",
        "",
    ]
    if record["between seeds"]:
        seeds = record["between seeds"]
        lines += [
            f"Losses of two seeds on {seeds['halves']} of the same halves correlate by {100 * seeds['lds']:.1f}"
            f" (over networks {_interval(seeds['over networks'])}); level by level"
            f" {', '.join(f'{100 * value:.1f}' for value in seeds['by level'])}. So the best prediction from the images alone"
            f" can be expected to reach about {100 * seeds['reachable']:.0f}.",
            "",
        ]
    lines += [
        "| method | LDS | over test points | over networks | samples | unseen |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in record["methods"].items():
        cells = [f"{100 * one['lds']:.1f}", *(_interval(one[f"over {what}"]) for what in ("points", "networks"))]
        cells += [f"{100 * one[kind]:.1f}" for kind in ("samples", "unseen")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    heads = " | ".join(f"σ = {sigma:g}" for sigma in record["sigmas"])
    lines += ["", "Level by level: attributions of one noise level against losses at that level.", ""]
    lines += [f"| method | {heads} |", "| --- |" + " ---: |" * len(record["sigmas"])]
    for name, one in record["methods"].items():
        lines.append(f"| {name} | " + " | ".join(f"{100 * value:.1f}" for value in one["by level"]) + " |")
    if "counterfactual" in record:
        lines += ["", *_counterfactual(record["counterfactual"])]
    return "\n".join(lines) + "\n"


def _counterfactual(record: dict[str, Any]) -> list[str]:
    share = 100 * record["removed"] / networks.IMAGES
    methods = record["methods"]
    lines = [
        f"The first {record['removed']} images ({share:g} %) of a sample taken away, and a network trained again from the same"
        " start: how far the sample from the same noise moves (root mean square, black to white is 2), against"
        f" {record['random networks']} networks without as many images drawn at random.",
        "",
        f"| sample | {' | '.join(methods)} | at random: mean | at random: largest |",
        "| --- |" + " ---: |" * (len(methods) + 2),
    ]
    for place, random in enumerate(record["random"]):
        cells = [f"{one['moved'][place]:.4f}" for one in methods.values()]
        lines.append(f"| {place} | {' | '.join(cells)} | {np.mean(random):.4f} | {np.max(random):.4f} |")
    said = [f"{name} {one['ratio']:.2f} ({_interval(one['interval'], 1)})" for name, one in methods.items()]
    lines += ["", f"Mean ratio to random removal, with bootstrap intervals over samples: {'; '.join(said)}."]
    return lines


def _interval(ends: list[float], scale: float = 100) -> str:
    digits = 1 if scale == 100 else 2
    return f"{scale * ends[0]:.{digits}f} … {scale * ends[1]:.{digits}f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(keep())
