"""Make the pretrained small networks: ``python assets/make.py train [NAME …]``, then ``export``, then ``page``.

``train`` runs the commands below, two networks at a time on one core each; interrupted, it goes on where it was.
``export`` writes their weights as float16, with the record of their training, beside this file (those of the demo into the
package, with a link from here), and measures all that are there for the table of ``README.md``. ``page`` draws samples of
all from shared noise into ``runs/assets/page/report.html``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file

from scorescope.data import load_images
from scorescope.denoisers import NetworkDenoiser
from scorescope.foundation import new_folder
from scorescope.foundation.files import write_json, write_text
from scorescope.lenses import MeasurementConfig, chosen, draw_samples
from scorescope.lenses.drawing import full_contrast
from scorescope.networks import load_network
from scorescope.networks.checkpoint import DESCRIPTION, WEIGHTS
from scorescope.probes.errors import denoising_psnr, input_psnr
from scorescope.probes.similarity import cosine_similarity, nearest
from scorescope.report.page import write_report
from scorescope.study import Results, pictures
from scorescope.training import Selection
from scorescope.training.shipped import FOLDER as PACKAGED

ASSETS = Path(__file__).resolve().parent
RUNS = ASSETS.parent / "runs" / "assets"
DATA = "fashion-mnist"
COMMON = f"--data {DATA} --set training.ema_decay=0.999 --set observe_every=500 --set observe_sigmas=0.1,0.5,1"
WHOLE_HALF = "--size 30000"
UNET = '--arch unet --set \'arguments={"width":24,"blocks":2}\' --batch 32 --learning-rate 0.002'
RECIPES = {
    # The pairs of the demo, on fewer images: as many steps as it takes until more change little.
    "unet-10": f"{UNET} --size 10 --steps 1000",
    "unet-100": f"{UNET} --size 100 --steps 2000",
    "unet-1000": f"{UNET} --size 1000 --steps 3000",
    "unet-10000": f"{UNET} --size 10000 --steps 6000",
    "unet": f"{UNET} --steps 10000",
    "bf-cnn": '--arch bf-cnn --set \'arguments={"width":32,"layers":12}\' --steps 5000 --batch 16 --learning-rate 0.002',
    "ddpm++": "--arch ddpm++ --steps 6000 --batch 16 --learning-rate 0.002",
    "ddpm++-no-attention": "--arch ddpm++-no-attention --steps 6000 --batch 16 --learning-rate 0.002",
    # The design that analytic models are compared with (papers/protocols); one network, on the first half. Its usual noise
    # prediction multiplies what a small network lacks by sigma, and the protocol begins at 61; so EDM's preconditioning
    # and weights, at the noise levels of its own table.
    "ddpm-unet-no-attention": (
        "--arch ddpm-unet-no-attention --set preconditioning=edm --set training.objective.noise=ddpm"
        " --set training.objective.weight=edm --steps 3000 --batch 16 --learning-rate 0.002 --set training.warmup=100"
    ),
    "dit": (
        '--arch dit --set \'arguments={"hidden_size":64,"patch_size":2}\' --steps 12000 --batch 16'
        " --learning-rate 0.004 --set training.warmup=300"
    ),
    # Its usual noise prediction leaves a small network's error at large sigma multiplied by sigma: EDM's preconditioning.
    "u-vit": (
        "--arch u-vit --set 'arguments={\"embed_dim\":64}' --set preconditioning=edm --steps 24000 --batch 32"
        " --learning-rate 0.005 --set training.warmup=300"
    ),
}
SPLITS = {"a": "--split a --seed 0", "b": "--split b --seed 1"}
NAMES = [f"{recipe}-{split}" for recipe in RECIPES for split in SPLITS]
SIGMAS, MEASURED = (0.1, 0.25, 0.5, 1.0, 2.0), 1000
SAMPLES, COLUMNS = 64, 16


def command(name: str) -> list[str]:
    """The words of the command line that trains a network, its run folder left out."""
    recipe, split = name.rsplit("-", 1)
    size = "" if "--size" in RECIPES[recipe] else WHOLE_HALF
    return ["scorescope", "train", *shlex.split(f"{COMMON} {size} {RECIPES[recipe]} {SPLITS[split]}")]


def train(name: str) -> None:
    """Train one network into its run folder, unless that holds a finished one."""
    folder = RUNS / name
    if (folder / ".finished").exists():
        return
    call = [sys.executable, "-m", *command(name), "--out", str(folder)]
    subprocess.run(["nice", "-n", "19", *call], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def export(name: str) -> None:
    """Write one trained network into this folder."""
    network, config = load_network(RUNS / name / "network")
    weights = {key: value.detach().half().contiguous() for key, value in network.state_dict().items()}
    record = config.training | {"command": shlex.join(command(name)), "stored_as": "float16, trained in float32"}
    folder = ASSETS / name
    if name.rsplit("-", 1)[0].startswith("unet"):  # the demo's
        if not folder.is_symlink():
            folder.symlink_to(os.path.relpath(PACKAGED / name, ASSETS))
        folder = PACKAGED / name
    if folder.exists():
        shutil.rmtree(folder)
    with new_folder(folder) as temporary:
        save_file(weights, temporary / WEIGHTS)
        (temporary / WEIGHTS).chmod(0o644)  # written for the owner alone
        write_json(temporary / DESCRIPTION, config.model_copy(update={"training": record}).model_dump(mode="json"))


def exported() -> list[str]:
    """The networks that are in this folder, in the order of the recipes."""
    return [name for name in NAMES if (ASSETS / name / WEIGHTS).is_file()]


def measured(name: str) -> dict[str, str | float]:
    """One line of the table: size, training, and PSNR on training and test images."""
    network, config = load_network(ASSETS / name)
    record, data = config.training, load_images(DATA)
    denoiser = NetworkDenoiser.open(ASSETS / name)
    seen = Selection.model_validate(record["selection"]).choose(data.train)
    line: dict[str, str | float] = {
        "network": name,
        "parameters": sum(value.numel() for value in network.parameters()),
        "kB": round((ASSETS / name / WEIGHTS).stat().st_size / 1e3),
        "steps": record["config"]["steps"],
        "batch": record["config"]["batch"],
        "minutes": round(record["seconds"] / 60, 1),
    }
    for kind, images in (("train", seen), ("test", data.test)):
        assert images is not None, f"{DATA} has test images"
        found = denoising_psnr(denoiser, chosen(images, MEASURED, 0), SIGMAS, 0).mean(1)
        line |= {f"{kind} {sigma:g}": round(float(value), 2) for sigma, value in zip(SIGMAS, found, strict=True)}
    return line


def write_readme(lines: list[dict[str, str | float]]) -> None:
    """The folder's description, with the table of what was measured."""
    noisy = ", ".join(f"{input_psnr(sigma):.1f} dB at σ = {sigma:g}" for sigma in SIGMAS)
    heads = ["network", "parameters", "kB", "steps × batch", "minutes", *(f"σ = {sigma:g}" for sigma in SIGMAS)]
    rows: list[list[object]] = []
    for line in lines:
        size = [f"`{line['network']}`", f"{line['parameters']:,}", line["kB"]]
        effort = [f"{line['steps']} × {line['batch']}", line["minutes"]]
        rows.append([*size, *effort, *(f"{line[f'train {s:g}']:.2f} / {line[f'test {s:g}']:.2f}" for s in SIGMAS)])
    cells: list[list[object]] = [[*heads], ["---"] * len(heads), *rows]
    table = "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in cells)
    text = (ASSETS / "README.template.md").read_text(encoding="utf-8")
    write_text(
        ASSETS / "README.md", text.replace("{table}", table).replace("{noisy}", noisy).replace("{n}", f"{MEASURED:,}")
    )


def page() -> Path:
    """Samples of all networks, the two of an architecture from the same noise, and how alike they are."""
    results = Results(study="assets", title="The pretrained small networks")
    lines = []
    for recipe in RECIPES:
        names = [name for name in exported() if name.rsplit("-", 1)[0] == recipe]
        drawn = {name: _samples(name) for name in names}
        for name, samples in drawn.items():
            rows = full_contrast(samples.numpy()).reshape(-1, COLUMNS, *samples.shape[1:])
            results.add_sheet(
                "samples-" + name.replace("+", "p"),
                name,
                f"{SAMPLES} samples, none left out, at full contrast.",
                recipe,
                pictures.grid(rows),
            )
            lines.append({"network": name, "similarity to the nearest training image": _nearest(name, samples)})
        if len(drawn) == 2:
            alike = float(cosine_similarity(*drawn.values()).mean())
            results.introductions[recipe] = (
                f"Two networks trained on disjoint images. From the same noise their samples have a mean cosine"
                f" similarity of {alike:.2f}."
            )
    results.headline = f"{len(exported())} networks of {len(RECIPES)} architectures trained on halves of {DATA}."
    results.add_table(
        "nearest", "Copies?", "Mean cosine similarity of a sample to its nearest training image.", pd.DataFrame(lines)
    )
    folder = RUNS / "page"
    results.save(folder)
    return write_report(results, folder)


def _samples(name: str) -> torch.Tensor:
    denoiser = NetworkDenoiser.open(ASSETS / name)
    centre = float(chosen(load_images(DATA).train, 512, 0).mean())
    return draw_samples(denoiser, SAMPLES, centre, MeasurementConfig(seed=0))[0]


def _nearest(name: str, samples: torch.Tensor) -> float:
    record = load_network(ASSETS / name)[1].training
    images = Selection.model_validate(record["selection"]).choose(load_images(DATA).train)
    similarity = float(np.mean(nearest(samples, images).similarity[:, 0]))
    return similarity if math.isfinite(similarity) else math.nan


def main() -> None:
    """Do one of the three, for all networks or those named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "export", "page"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    words = parser.parse_args()
    names = words.names or NAMES
    if words.what == "train":
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(train, names))
    elif words.what == "export":
        for name in names:
            if (RUNS / name / "network").is_dir():
                export(name)
        write_readme([measured(name) for name in exported()])
    else:
        print(page())


if __name__ == "__main__":
    main()
