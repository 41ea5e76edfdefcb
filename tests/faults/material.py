"""The folder that the commands of `inputs.txt` are given in: stores, sources of every kind, checkpoints, and what is none."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scorescope.data import import_images
from scorescope.data.sources import ArraySource
from tests.networks.readers.files import SONG, edm_pickle, song_network, state_dict, unet
from tests.report.explored import exploration

RANDOM = np.random.default_rng(0)


def png(pixels: np.ndarray) -> bytes:
    """An image as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make(folder: Path) -> None:
    """Write everything into an empty folder."""
    grey = RANDOM.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    _stores(folder, grey)
    _arrays(folder, grey)
    _images(folder, grey)
    _containers(folder, grey)
    _labels(folder)
    _models(folder)
    _runs(folder)
    (folder / "empty").mkdir()
    (folder / "empty-file").write_bytes(b"")
    (folder / "mine.png").write_bytes(b"mine")
    (folder / "text.txt").write_text("hello\n")
    (folder / "run").mkdir()
    (folder / "run" / "report.html").write_text("somebody's")
    os.mkfifo(folder / "pipe.npy")
    (folder / "nowhere.png").symlink_to(folder / "missing")
    (folder / "plugin-fails.py").write_text("1 / 0\n")
    (folder / "plugin-exits.py").write_text("raise SystemExit(0)\n")
    (folder / "plugin-empty.py").write_text("\n")
    (folder / "plugin-syntax.py").write_text("def\n")


def _stores(folder: Path, grey: np.ndarray) -> None:
    import_images(ArraySource("random", grey, np.arange(12) % 3), folder / "store")
    import_images(ArraySource("random", grey[..., None].repeat(3, 3)), folder / "colour")
    import_images(ArraySource("random", grey[:1]), folder / "single")
    import_images(ArraySource("constant", np.full((12, 8, 8), 7, np.uint8)), folder / "constant")
    import_images(ArraySource("random", grey.repeat(2, 2)), folder / "wide")
    others = np.random.default_rng(1).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    import_images(ArraySource("others", others), folder / "others")
    import_images(ArraySource("partly", np.concatenate([others, grey[:2]])), folder / "partly")
    for part, images in (("train", others[:9]), ("test", others[:9])):
        import_images(ArraySource(part, images), folder / "leaky" / part)
    for name in ("cut", "no-record", "bad-record", "other-count", "newer", "bad-labels", "list-record"):
        import_images(ArraySource("random", grey, np.arange(12)), folder / f"store-{name}")
    images = folder / "store-cut" / "images.npy"
    images.write_bytes(images.read_bytes()[:-7])
    (folder / "store-no-record" / "store.json").unlink()
    (folder / "store-bad-record" / "store.json").write_text("{")
    (folder / "store-list-record" / "store.json").write_text("[" * 100_000)
    (folder / "store-bad-labels" / "labels.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': 1}    \n")
    for name, key, value in (("other-count", "count", 10**18), ("newer", "schema_version", 99)):
        file = folder / f"store-{name}" / "store.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))


def _arrays(folder: Path, grey: np.ndarray) -> None:
    for name, array in {
        "grey": grey,
        "one-colour": grey[:1].repeat(3, 0).transpose(1, 2, 0),
        "ambiguous": grey[:3],
        "flat": grey[0],
        "deep": grey.astype(np.uint16) * 16,
        "signed": grey.astype(np.int64) - 9,
        "hair": np.linspace(0, 1.0000002, 768, dtype=np.float32).reshape(12, 8, 8),
        "beyond": np.linspace(0, 300, 768).reshape(12, 8, 8),
        "nan": np.full((2, 8, 8), np.nan),
        "inf": np.full((2, 8, 8), np.inf),
        "complex": np.zeros((2, 8, 8), np.complex64),
        "words": np.full((2, 8, 8), "x"),
        "zero": np.zeros((0, 8, 8), np.uint8),
        "five": np.zeros((2, 1, 1, 8, 8), np.uint8),
        "scalar": np.zeros((), np.uint8),
        "alpha": np.zeros((2, 8, 8, 4), np.uint8),
        "ones": np.ones((2, 1, 1, 1), np.uint8),
        "labels": np.arange(12),
        "labels-negative": np.arange(12) - 1,
        "labels-huge": np.arange(12, dtype=np.uint64) + np.uint64(2**63),
        "labels-float": np.arange(12) / 2,
        "labels-few": np.arange(3),
        "labels-square": np.zeros((12, 2), int),
    }.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "objects.npy").write_bytes(_saved(np.array([{}], dtype=object)))
    (folder / "cut.npy").write_bytes((folder / "grey.npy").read_bytes()[:-9])
    (folder / "claims.npy").write_bytes(_claiming("(1000000000000, 64, 64)"))
    (folder / "negative.npy").write_bytes(_claiming("(-1, 8, 8)"))
    (folder / "header.npy").write_bytes(_claiming("(" * 90 + "1" + ")" * 90))
    np.savez(folder / "set.npz", images=grey, labels=np.arange(12))
    np.savez(folder / "bad-labels.npz", images=grey, labels=np.arange(12) - 1)
    np.savez(folder / "several.npz", this=grey, that=grey)
    np.savez(folder / "none.npz")
    (folder / "misnamed.npy").write_bytes((folder / "set.npz").read_bytes())
    (folder / "cut.npz").write_bytes((folder / "set.npz").read_bytes()[:400])


def _saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _claiming(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(247) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def _images(folder: Path, grey: np.ndarray) -> None:
    def put(name: str, content: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    for number, pixels in enumerate(grey):
        put(f"photos/{'cat' if number % 2 else 'dog'}/{number}.png", png(pixels))
        put(f"splits/{'train' if number % 3 else 'test'}/{number}.png", png(pixels))
        put(f"one-broken/{number}.png", png(pixels) if number != 5 else b"torn")
        put(f"all-broken/{number}.png", png(pixels)[:-30])
        put(f"shards/0000{number % 2}/{number}.png", png(pixels))
        put(f"sizes/{number}.png", png(grey[0][:, : 8 - number % 2]))
        put(f"mixed/{number}.png", png(pixels if number else np.zeros((8, 8), np.uint8)[..., None].repeat(3, 2)))
        put(f"grey-first/{number}.png", png(pixels if not number else np.zeros((8, 8, 3), np.uint8)))
        put(f"twelve-bit/{number}.png", png(pixels.astype(np.uint16) * 16))
    for name, labels in {
        "float": [["0.png", 0.7]],
        "negative": [["0.png", -1]],
        "huge": [["0.png", 10**20]],
        "missing": [],
        "good": [["0.png", 3]],
    }.items():
        put(f"edm-{name}/top/0.png", png(grey[0]))
        put(f"edm-{name}/top/dataset.json", json.dumps({"labels": labels}).encode())


def _containers(folder: Path, grey: np.ndarray) -> None:
    with zipfile.ZipFile(folder / "set.zip", "w") as file:
        for number, pixels in enumerate(grey):
            file.writestr(f"{'cat' if number % 2 else 'dog'}/{number}.png", png(pixels))
    (folder / "cut.zip").write_bytes((folder / "set.zip").read_bytes()[:500])
    (folder / "text.zip").write_text("no zip")
    with zipfile.ZipFile(folder / "words.zip", "w") as file:
        file.writestr("a.txt", "a")
    header = bytes((0, 0, 8, 3)) + np.array(grey.shape, dtype=">u4").tobytes()
    (folder / "set-idx3-ubyte").write_bytes(header + grey.tobytes())
    (folder / "set-idx3-ubyte.gz").write_bytes(gzip.compress(header + grey.tobytes()))
    (folder / "bomb-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(10_000_000)))
    (folder / "cut-idx3-ubyte.gz").write_bytes((folder / "set-idx3-ubyte.gz").read_bytes()[:-20])
    (folder / "cifar.bin").write_bytes(bytes(3073 * 2))
    (folder / "cut.bin").write_bytes(bytes(3000))
    with tarfile.open(folder / "photos.tar.gz", "w:gz") as packed:
        packed.add(folder / "photos", "photos")


def _runs(folder: Path) -> None:
    """Run folders to explore: whole, without what there is to explore, unfinished, older and cut."""
    for name in ("explored", "explained", "opened", "reproduced", "unfinished", "older", "cut", "damaged"):
        run = folder / f"run-{name}"
        run.mkdir()
        (run / "config.json").write_text("{}")
        if name == "unfinished":
            continue
        study = "niedoba2025/fig3" if name == "reproduced" else "main/explain"
        model = "unet, opened, weights 1234" if name == "opened" else "unet.pt"
        config = {"model": model, "data": "store", "held_out": None, "arguments": {"image_size": 8}}
        (run / "results.json").write_text(json.dumps({"study": study, "title": "One model", "config": config}))
        if name in ("explored", "older", "cut", "damaged"):
            exploration().save(run)
    (folder / "run-older" / "exploration.json").write_text('{"schema": 0}')
    (folder / "run-damaged" / "exploration.json").write_text("{")
    arrays = folder / "run-cut" / "exploration.npz"
    arrays.write_bytes(arrays.read_bytes()[:-200])
    (folder / "mine.html").write_text("mine")


def _labels(folder: Path) -> None:
    for name, text in {
        "good": "0\n" * 12,
        "few": "0\n" * 3,
        "words": "cat\n" * 12,
        "float": "0.7\n" * 12,
        "negative": "-1\n" * 12,
        "huge": "99999999999999999999\n" * 12,
        "longest": "9" * 10_000 + "\n" * 12,
        "nan": "nan\n" * 12,
        "empty": "",
    }.items():
        (folder / f"labels-{name}.txt").write_text(text)
    (folder / "labels-bytes.txt").write_bytes(b"\xff\xfe\x00")


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def _models(folder: Path) -> None:
    (folder / "edm.pkl").write_bytes(edm_pickle(song_network()))
    (folder / "classes.pkl").write_bytes(edm_pickle(song_network(label_dim=3), SONG | {"label_dim": 3}))
    (folder / "cut.pkl").write_bytes((folder / "edm.pkl").read_bytes()[:5000])
    (folder / "evil.pkl").write_bytes(pickle.dumps({"ema": _Runs()}, 4))
    torch.save(state_dict(unet()), folder / "unet.pt")
    torch.save(torch.zeros(12, 1, 8, 8), folder / "tensor.pt")
    (folder / "cut.pt").write_bytes((folder / "unet.pt").read_bytes()[:3000])
    (folder / "text.safetensors").write_text("no weights")
