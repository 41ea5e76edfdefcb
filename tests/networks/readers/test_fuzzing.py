"""Thousands of damaged files: each is refused in one line or opens as a finite network, and nothing is ever executed.

What a case may cost is counted, not timed: instructions of the interpreter against bytes of the file, and the memory of the
process against a fixed allowance for all cases together.
"""

from __future__ import annotations

import argparse
import os
import pickle
import pickletools
import random
import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from tests.conftest import GOLDEN
from tests.networks.readers.files import (
    archive,
    edm2_pickle,
    edm_pickle,
    k_diffusion_file,
    score_sde_file,
    sit_file,
    song_network,
    state_dict,
    training_state,
    unet,
)

from scorescope.foundation import UserError
from scorescope.foundation.inert.restricted_unpickler import Budget
from scorescope.foundation.randomness import seeded
from scorescope.networks import open_checkpoint
from scorescope.networks.lucidrains_unet import LucidrainsUNet
from scorescope.networks.readers import opening
from scorescope.noise import ddpm_sigmas

MEMORY = 400 << 20  # bytes that the process may grow by, whatever the files claim


class Runs:
    """Pickled as a call of os.system."""

    def __reduce__(self):
        return os.system, ("exit 3",)


# Pieces of pickles: what attacks are made of, and claims of gigantic sizes.
FRAGMENTS = [
    b"cos\nsystem\n",
    b"cbuiltins\nexec\n(X\x04\x00\x00\x00x=1\ntR",
    b"\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch.storage\n_load_from_bytes\n",
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ\xff\xff\xff\x7ftQ",
    b"\x8a\xff" + b"\xff" * 255,
    b"B\xff\xff\xff\x7f",
    b"\x8e" + b"\xff" * 8,
    b"\x96\x00\x00\x00\x00\x01\x00\x00\x00",
    b"\x95\xff\xff\xff\xff\x00\x00\x00\x00",
    b"r\xff\xff\xff\xff",
    b"2" * 50,
    b"(" * 50,
    b"h\x00" * 50 + b"t",
    pickle.dumps(Runs(), 2),
    pickle.dumps(Runs(), 4),
]


def trainer() -> dict[str, object]:
    """What lucidrains' trainer saves: a schedule beside the network, averages beside raw weights, an optimizer, settings."""
    with seeded(0):
        network = LucidrainsUNet(1, 1, 4, [2, 2, 4], [False, True], [1, 1], [2, 2], memories=1)
    signals = 1 / (1 + ddpm_sigmas(10).flip(0) ** 2)
    tables = {"alphas_cumprod": signals, "sqrt_recipm1_alphas_cumprod": (1 / signals - 1).sqrt()}
    process = {**tables, **{f"model.{name}": value for name, value in state_dict(network).items()}}
    averages = {f"ema_model.{name}": value for name, value in process.items()}
    extras = {"seen": Counter("aab"), "place": Path("x"), "args": argparse.Namespace(lr=0.1)}
    return {"step": 3, "model": process, "ema": {"initted": torch.tensor(True), **averages}, **extras}


def seeds() -> dict[str, bytes]:
    """One small sound file of every kind."""
    weights = state_dict(unet())
    shadows = {"decay": 0.9, "num_updates": 3, "shadow_params": list(weights.values())}
    return {
        "edm": edm_pickle(song_network()),
        "zip": archive(weights),
        "legacy": archive(weights, as_zip=False),
        "trainer": archive(trainer()),
        "list": archive([weights, {"state": {}, "param_groups": []}, 3, 5000, weights]),
        "nameless": archive({"model": weights, "ema": shadows}),
        "module": archive({"net": unet()}),
        "safetensors": save({name: value.contiguous() for name, value in weights.items()}),
    }


def seeds_of_other_projects() -> dict[str, bytes]:
    """One small sound file of every kind that has a reader of its own structure."""
    return {
        "training state": training_state(song_network()),
        "edm2": edm2_pickle(),
        "k-diffusion": k_diffusion_file(),
        "sit": sit_file(),
        "score-sde": score_sde_file(),
    }


def places_in(data: bytes) -> list[int]:
    """Where instructions of a pickle begin; everywhere in files that are none."""
    if data[0] != 0x80:
        return list(range(len(data)))
    return [position for _, _, position in pickletools.genops(data) if position is not None]


def damaged(data: bytes, places: list[int], others: list[bytes], rng: random.Random) -> bytes:
    """The file after one to four random changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place = min(rng.choice(places) if rng.random() < 0.6 else rng.randrange(len(data) + 1), len(data))
        data = rng.choice(CHANGES)(data, place, others, rng)
        if not data:
            break
    return data


def _truncate(data: bytes, place: int, others: list[bytes], rng: random.Random) -> bytes:
    return data[:place]


def _flip_bits(data: bytes, place: int, others: list[bytes], rng: random.Random) -> bytes:
    changed = bytearray(data)
    for at in range(place, min(place + rng.choice((1, 1, 1, 4)), len(data))):
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, place: int, others: list[bytes], rng: random.Random) -> bytes:
    piece = rng.choice((rng.randbytes(1), rng.randbytes(4), b"\xff" * 8, bytes(8), b"."))
    return data[:place] + piece + data[place + len(piece) :]


def _insert(data: bytes, place: int, others: list[bytes], rng: random.Random) -> bytes:
    codes = bytes(ord(code.code) for code in pickletools.opcodes)
    piece = rng.choice(FRAGMENTS) if rng.random() < 0.5 else bytes(rng.choices(codes, k=rng.randint(1, 8)))
    return data[:place] + piece + data[place:]


def _splice(data: bytes, place: int, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    start = rng.randrange(len(other))
    piece = other[start : start + rng.randrange(1, 400)]
    return data[:place] + piece + data[place + (len(piece) if rng.random() < 0.5 else 0) :]


def _repeat_or_cut(data: bytes, place: int, others: list[bytes], rng: random.Random) -> bytes:
    end = place + rng.randrange(1, 200)
    return data[:end] + data[place:] if rng.random() < 0.5 else data[:place] + data[end:]


CHANGES: list[Callable[[bytes, int, list[bytes], random.Random], bytes]] = [
    _truncate,
    _flip_bits,
    _flip_bits,
    _overwrite,
    _insert,
    _insert,
    _splice,
    _repeat_or_cut,
]


class CountedBudget(Budget):
    """Counts what all of them together have spent."""

    spent = 0

    def spend(self) -> None:
        CountedBudget.spent += 1
        super().spend()


def fuzz(count: int, seed: int, sound: dict[str, bytes], folder: Path) -> Counter[str]:
    """Open `count` damaged files; how many were refused and opened, by kind."""
    rng = random.Random(seed)
    places = {kind: places_in(data) for kind, data in sound.items()}
    others = [*sound.values(), *FRAGMENTS]
    outcome: Counter[str] = Counter()
    path, saved = folder / "damaged", state_dict(unet())
    for case in range(count):
        kind = rng.choice(list(sound))
        data = damaged(sound[kind], places[kind], others, rng)
        path.write_bytes(data)
        CountedBudget.spent = 0
        message, weights = opened(path)
        outcome[f"{kind} {'refused' if message else 'opened'}"] += 1
        assert "\n" not in message, f"case {case} of seed {seed}"
        assert len(message) < 1500, f"case {case} of seed {seed}"
        assert CountedBudget.spent <= len(data) + 1, f"case {case} of seed {seed}"
        assert all(bool(torch.isfinite(value).all()) for value in weights.values()), f"case {case} of seed {seed}"
        if kind in ("zip", "list") and weights:  # every byte that matters has a checksum
            assert all(torch.equal(weights[name], value) for name, value in saved.items()), (
                f"case {case} of seed {seed}"
            )
    return outcome


def opened(path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """The refusal and no weights, or no refusal and the weights."""
    try:
        return "", open_checkpoint(path, sides=(8, 8)).network.state_dict()
    except UserError as error:
        return str(error), {}


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A folder, a counted budget, and PyTorch's first imports done."""
    monkeypatch.setattr(opening, "Budget", CountedBudget)
    for kind, data in (seeds() | seeds_of_other_projects()).items():
        (tmp_path / kind).write_bytes(data)
        open_checkpoint(tmp_path / kind, sides=(8, 8))
    return tmp_path


def grown_since(before: int) -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


@pytest.mark.slow
def test_hundreds_of_damaged_files(prepared, executing_nothing):
    before = grown_since(0)
    with executing_nothing():
        outcome = fuzz(400, 0, seeds(), prepared)
    assert sum(outcome.values()) == 400
    assert all(outcome[f"{kind} refused"] > 20 for kind in seeds())
    assert sum(count for name, count in outcome.items() if name.endswith("opened")) > 10
    assert grown_since(before) < MEMORY


@pytest.mark.slow
def test_damaged_files_of_other_projects(prepared, executing_nothing):
    before, sound = grown_since(0), seeds_of_other_projects()
    with executing_nothing():
        outcome = fuzz(150, 0, sound, prepared)
    assert all(outcome[f"{kind} refused"] > 10 for kind in sound)
    assert sum(count for name, count in outcome.items() if name.endswith("opened")) > 5
    assert grown_since(before) < MEMORY


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(1, 10))
def test_a_thousand_damaged_files(prepared, executing_nothing, seed):
    before = grown_since(0)
    with executing_nothing():
        assert sum(fuzz(1000, seed, seeds() | seeds_of_other_projects(), prepared).values()) == 1000
    assert grown_since(before) < MEMORY


@pytest.mark.slow
@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_damaged_golden_files(prepared, executing_nothing, count):
    golden = GOLDEN / "edm_ddpmpp_vp.pkl"
    if not golden.exists():
        pytest.skip(f"golden data {golden.name} is not in ../shared/golden")
    before = grown_since(0)
    with executing_nothing():
        assert sum(fuzz(count, 0, {"golden": golden.read_bytes()}, prepared).values()) == count
    assert grown_since(before) < MEMORY
