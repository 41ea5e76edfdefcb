"""Fashion-MNIST: found, given or fetched, and never accepted unless its contents are the published ones."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from scorescope.data import fashion_mnist
from scorescope.foundation import UserError

Files = tuple[Path, dict[str, str], np.ndarray]


@pytest.fixture
def files(tmp_path: Path, write_idx: Callable[[Path, np.ndarray], Path]) -> Files:
    """A folder with four small files of the same names, the SHA-256 of their contents, and the training images."""
    folder = tmp_path / "served"
    folder.mkdir()
    random = np.random.default_rng(5)
    pixels = random.integers(0, 256, (6, 28, 28), dtype=np.uint8)
    arrays = {"train-images-idx3": pixels, "train-labels-idx1": np.arange(6, dtype=np.uint8)}
    arrays |= {"t10k-images-idx3": pixels[:2], "t10k-labels-idx1": np.array([9, 8], dtype=np.uint8)}
    digests = {}
    for name, array in arrays.items():
        path = write_idx(folder / f"{name}-ubyte.gz", array)
        digests[f"{name}-ubyte"] = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    return folder, digests, pixels


@pytest.fixture
def mirror(files: Files) -> Iterator[str]:
    """Address of a local server of these files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing on the test's output."""

    handler = functools.partial(Quiet, directory=str(files[0]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def check(parts: tuple[fashion_mnist.Part, fashion_mnist.Part], pixels: np.ndarray) -> None:
    train, test = parts
    np.testing.assert_array_equal(train.pixels[:, 0], pixels)
    np.testing.assert_array_equal(test.pixels[:, 0], pixels[:2])
    assert train.labels.tolist() == list(range(6))
    assert test.labels.tolist() == [9, 8]


def test_from_a_folder_gzipped_or_not(files: Files, tmp_path: Path) -> None:
    folder, digests, pixels = files
    check(fashion_mnist.read_fashion_mnist(folder, sha256=digests), pixels)
    for file in list(folder.iterdir()):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    check(fashion_mnist.read_fashion_mnist(None, installed=folder, sha256=digests), pixels)


def test_other_contents_are_refused(files: Files) -> None:
    with pytest.raises(UserError, match="not the published file"):
        fashion_mnist.read_fashion_mnist(files[0])


def test_a_missing_file_says_what_to_install(files: Files) -> None:
    (files[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="no t10k-labels-idx1-ubyte.gz in .*apt-get install dataset-fashion-mnist"):
        fashion_mnist.read_fashion_mnist(files[0], sha256=files[1])


def test_download_from_the_first_mirror_that_answers(files: Files, mirror: str, tmp_path: Path) -> None:
    parts = fashion_mnist.read_fashion_mnist(
        installed=tmp_path / "none", mirrors=("http://127.0.0.1:9/", mirror), sha256=files[1]
    )
    check(parts, files[2])


def test_a_download_with_other_contents_is_refused(files: Files, mirror: str, tmp_path: Path) -> None:
    shutil.copy(files[0] / "t10k-labels-idx1-ubyte.gz", files[0] / "train-labels-idx1-ubyte.gz")
    with pytest.raises(UserError, match="train-labels-idx1-ubyte.gz is not the published file"):
        fashion_mnist.read_fashion_mnist(installed=tmp_path / "none", mirrors=(mirror,), sha256=files[1])


def test_no_download_says_why_and_what_to_install(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(UserError, match=r"not found.*refused.*apt-get install dataset-fashion-mnist"):
        fashion_mnist.read_fashion_mnist(
            installed=tmp_path / "none", mirrors=(f"{mirror}elsewhere/", "http://127.0.0.1:9/")
        )


@pytest.mark.skipif(not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_data_set_as_debian_installs_it() -> None:
    train, test = fashion_mnist.read_fashion_mnist()
    assert train.pixels.shape == (60_000, 1, 28, 28)
    assert test.pixels.shape == (10_000, 1, 28, 28)
    assert np.bincount(train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
