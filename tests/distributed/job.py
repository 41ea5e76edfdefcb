"""What every process of the test job computes; process 0 writes it into the folder named on the command line.

``python job.py …/2 …/4`` runs a job of two processes and then one of four. The tests' own process calls the same
functions for what a single process finds.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from tests.distributed import device_job

from scorescope.app import runs
from scorescope.data.images import ImageSet
from scorescope.denoisers import OptimalDenoiser, denoisers
from scorescope.foundation import UserError, launch
from scorescope.foundation.processes import (
    by_first,
    check_agreement,
    from_all,
    process_count,
    process_index,
    share_folder,
    working_alone,
)
from scorescope.posterior.moments import covariance, mean_image, principal_components
from scorescope.posterior.processes import check_same_images, gather, merge_normalizers, own_part
from scorescope.posterior.whole_image import WholeImagePosterior
from scorescope.posterior.windows import Window, WindowPosterior
from scorescope.study import open_run

SIGMAS = torch.tensor([0.05, 0.3, 1.0, 20.0])
Found = dict[str, Any]
command_line = importlib.import_module("scorescope.cli.main")  # whose package has a function of that name


def images(count: int = 300) -> ImageSet:
    """Digits of 16×16, more of them than pixels."""
    data = load_digits()
    pixels = np.kron(np.round(data.images * (255 / 16)), np.ones((2, 2))).astype(np.uint8)[:count, None]
    return ImageSet(pixels, data.target[:count], name="large digits")


def questions(seed: int = 0) -> torch.Tensor:
    """Four noisy images."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(4, 1, 16, 16, generator=generator)
    return images().tensor([1, 50, 150, 299]) + SIGMAS[:, None, None, None] * noise


def from_images() -> list[str]:
    """All registered denoisers that look at the training set."""
    return [name for name, entry in denoisers.items() if entry.needs.startswith("training images")]


def denoised() -> Found:
    """Every denoiser on sets that divide evenly, that do not, and that are smaller than the number of processes."""
    noisy = questions()
    sets = {"all": images(), "flips": images(101).with_flips(), "class": images().of_class(3), "few": images(3)}
    found = {}
    for name in from_images():
        costly, needs = denoisers[name].costly, denoisers[name].needs
        for kind, chosen in sets.items():
            if kind == "all" or not costly or (kind == "flips" and "held out" not in needs):
                small = chosen.subset(range(40)) if costly else chosen
                found[f"{name} {kind}"] = denoisers[name].build(small)(noisy, SIGMAS).numpy()
    return found


def described() -> Found:
    """What else the engine says."""
    noisy = questions()
    optimal = OptimalDenoiser(images())
    # The others ask something else: the question of process 0 counts.
    found: Found = {"one question": optimal(questions(seed=process_index()), SIGMAS).numpy()}
    found |= {f"posterior {key}": value.numpy() for key, value in asdict(optimal.describe(noisy, SIGMAS)).items()}
    vectors = torch.randn(2, 4, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    found["jacobian"] = optimal.jacobian_products(noisy, SIGMAS, vectors).numpy()
    levels, spread = optimal.in_levels(noisy, SIGMAS)
    windows = [Window.inside(side, 16, 16) for side in (3, 5, 7, 16)]
    for row, one in enumerate(WindowPosterior(images()).describe(levels, spread, windows, 4)):
        found |= {f"window {row} {key}": value for key, value in asdict(one).items() if key != "indices"}
    norms = WholeImagePosterior(images(2)).sums(levels, spread, top=3)
    found["top of two images"] = norms.top_indices
    return found


def moments() -> Found:
    """Means, covariances and their eigenvectors, of more and of fewer images than pixels."""
    few, many = principal_components(images(40)), principal_components(images(), 5)
    mean, matrix = covariance(images())
    return {
        "mean": mean_image(images()),
        "covariance mean": mean,
        "covariance": matrix,
        "few variances": few.variances,
        "many variances": many.variances,
        "many directions": np.abs(many.directions),
    }


def refused(task: Callable[[], object]) -> str:
    """The sentence with which a task is refused."""
    try:
        task()
    except UserError as error:
        return str(error)
    return ""


def agreements(folder: Path) -> Found:
    """What processes tell one another; each entry is what every one of them saw, in their order."""
    count, index = process_count(), process_index()
    seen: Found = {"by first": by_first(lambda: f"said by {index}"), "count": count}

    def refuse() -> None:
        raise UserError(f"refused by {index}")

    seen["refusal"] = refused(lambda: by_first(refuse))
    seen["disagreement"] = refused(lambda: check_agreement(index // 2, "a count of"))
    seen["other images"] = refused(lambda: check_same_images(images(300 - index)))
    seen["same images"] = refused(lambda: check_same_images(images()))
    with working_alone():
        seen["alone"] = process_count(), own_part(100)
    maxima = np.array([float(index), -np.inf, -np.inf if index else 1.0])
    largest, sums = merge_normalizers(maxima, np.where(np.isfinite(maxima), 1.0, 0.0))
    seen["normalizers"] = largest.tolist(), sums.tolist()
    seen["gathered"] = [part.tolist() for part in gather(np.array([index, 7]))]
    own = folder / f"host-{index}"  # as if processes did not see one another's files
    if index == count - 1:
        own.mkdir()
        (own / "weights").write_bytes(b"1234")
    os.environ["LOCAL_RANK"] = "0"
    share_folder(own, count - 1)
    seen["shared"] = (own / "weights").read_bytes()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        command_line._run(["list", "studies"], debug=False, first=index == 0)
    seen["listed"] = "main/explain" in said.getvalue()
    return {name: [one[name] for one in from_all(seen)] for name in seen}


def cells(folder: Path) -> Found:
    """A run: process 0 writes, all get its values."""
    index = process_index()
    with open_run(folder / f"run-{index}", "test", {}) as workspace:
        values = from_all(workspace.computed("cell", lambda: {"from": index, "array": np.arange(3)})["from"])
        done = from_all(workspace.done("cell") and not workspace.done("other"))
    refusals = from_all(refused(lambda: _refusing(folder / "outer" / f"refused-{index}")))
    made = sorted(path.name for path in folder.iterdir() if path.name.startswith(("run", "outer")))
    return {"values": values, "done": done, "refusals": refusals, "made": made}


def training(folder: Path) -> Found:
    """One network, trained by all processes in lock-step, into one run folder."""
    out = folder / "trained"
    few = ["samples=1", "observe_images=4", "observe_every=1000"]
    run = runs.train(out, data="digits", size=64, steps=4, batch=16, preset="tiny", settings=few)
    losses = by_first(lambda: json.loads((out / "network" / "network.json").read_text())["training"]["loss"])
    return {"losses": losses, "headlines": from_all(run.results.headline), "left": by_first(lambda: names_in(out))}


def names_in(folder: Path) -> list[str]:
    """What a folder holds, without hidden files."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def _refusing(folder: Path) -> None:
    with open_run(folder, "test", {}):
        raise UserError("no such data")


def take_part(target: Path) -> None:
    """One process of the job."""
    launch.join()
    found = {"denoised": denoised(), "described": described(), "moments": moments()}
    copies = [float(np.abs(copy - own).max()) for own in found["denoised"].values() for copy in gather(own)]
    found["agreements"] = agreements(target.parent) | {"largest difference between processes": max(copies)}
    found["cells"] = cells(target.parent)
    if process_count() == 2:
        found["on a device"] = device_job.answers()
        found["agreements"]["kernels"] = from_all(device_job.agreed())
        found["training"] = training(target.parent)
    if not launch.is_silent():
        torch.save(found, target)
    launch.leave(0)


def start(processes: int, target: Path) -> None:
    """Do what a launcher does, by forking, so that everything is imported only once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if not child:
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": processes, "RANK": rank}
            os.environ |= {name: str(value) for name, value in where.items()}
            take_part(target)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * processes, codes


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "kernels" in device_job.WAYS:
        importlib.import_module("triton")  # once, before the processes part
    for folder in map(Path, sys.argv[1:]):
        start(int(folder.name), folder / "found.pt")
