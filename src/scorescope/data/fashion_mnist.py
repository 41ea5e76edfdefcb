"""Fashion-MNIST's four files: where Debian puts them, where the user says, or from their authors, always checked.

Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", 2017, https://arxiv.org/abs/1708.07747. What is pinned is the
SHA-256 of each file's contents, which is the same however it was compressed. Debian's files, taken out and compressed
again with the authors' name and time in the header, have the MD5 sums that the authors publish.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scorescope.data.images import Pixels
from scorescope.foundation import UserError, track

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
LICENCE = "MIT, © 2017 Zalando SE"
CONTENTS_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_CONNECT_SECONDS = 20.0
_BLOCK = 1 << 18
_INSTALL = (
    "apt-get install dataset-fashion-mnist, or pass a folder with its four files, --data fashion-mnist:path=FOLDER"
)


class Part(NamedTuple):
    """Training or test images.

    Attributes:
        pixels: uint8 (N, 1, 28, 28).
        labels: int64 (N,), indices into `CLASSES`.
    """

    pixels: Pixels
    labels: npt.NDArray[np.int64]


def read_fashion_mnist(
    path: Path | None = None,
    *,
    installed: Path = DEBIAN_FOLDER,
    mirrors: Sequence[str] = MIRRORS,
    sha256: Mapping[str, str] = CONTENTS_SHA256,
) -> tuple[Part, Part]:
    """Training and test images, from `path` if given, else as installed, else downloaded.

    Args:
        path: folder with the four files, gzipped or not.
        installed: where a package may have put them.
        mirrors: addresses to download from, in order of trial.
        sha256: contents that are accepted, by file.

    Returns:
        (60,000 training images, 10,000 test images).

    Raises:
        UserError: a file is missing, cut or another one; nothing is installed and the download fails.
    """
    if path is not None:
        return _read_folder(path, sha256)
    if installed.is_dir():
        return _read_folder(installed, sha256)
    with tempfile.TemporaryDirectory(prefix="scorescope-") as folder:
        for name in track(list(sha256), "downloading fashion-mnist"):
            _download(f"{name}.gz", Path(folder), mirrors)
        return _read_folder(Path(folder), sha256)


def _read_folder(folder: Path, sha256: Mapping[str, str]) -> tuple[Part, Part]:
    arrays = {name: _read_checked(folder, name, digest) for name, digest in sha256.items()}
    train, test = (
        Part(arrays[f"{part}-images-idx3-ubyte"][:, None], arrays[f"{part}-labels-idx1-ubyte"].astype(np.int64))
        for part in ("train", "t10k")
    )
    return train, test


def _read_checked(folder: Path, name: str, sha256: str) -> npt.NDArray[np.uint8]:
    """The array of one file, whose contents (header and values) have the digest given."""
    from scorescope.data.sources.idx import read_idx

    files = [file for file in (folder / f"{name}.gz", folder / name) if file.is_file()]
    if not files:
        raise UserError(f"fashion-mnist: there is no {name}.gz in {folder}: {_INSTALL}")
    array = read_idx(files[0])
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
    digest = hashlib.sha256(header)
    digest.update(array.reshape(-1).data)
    if digest.hexdigest() != sha256:
        raise UserError(
            f"fashion-mnist: {files[0]} is not the published file (SHA-256 of its contents differs): {_INSTALL}"
        )
    return array


def _download(name: str, folder: Path, mirrors: Sequence[str]) -> None:
    """Fetch one file from the first mirror that has it. Raises UserError with every mirror's refusal."""
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    refusals = []
    for mirror in mirrors:
        try:
            with (
                urllib.request.urlopen(mirror + name, timeout=_CONNECT_SECONDS) as answer,
                (folder / name).open("wb") as file,
            ):
                while block := answer.read(_BLOCK):
                    file.write(block)
            return
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            refusals.append(f"{mirror}: {getattr(error, 'reason', None) or error}")
    raise UserError(f"fashion-mnist is not installed and cannot be downloaded ({'; '.join(refusals)}): {_INSTALL}")
