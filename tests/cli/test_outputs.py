"""What commands write: never over something that was there, in the format of the name, of a bounded size, or not at all."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import refused, run
from tests.conftest import heed_interrupts

from scorescope.app.output import FORMATS, batch_size, batches, shown_columns, shown_tiles
from scorescope.data import ImageSet, import_images
from scorescope.data.sources import ArraySource
from scorescope.denoisers import denoisers
from scorescope.foundation import UserError, new_file
from scorescope.study.pictures import grid

COMMANDS = {
    "sample": ["sample", "--denoiser", "gaussian", "--data", "digits", "--count", 2, "--steps", 3],
    "denoise": ["denoise", "--denoiser", "gaussian", "--data", "digits", "--sigma", 0.5, "--count", 2],
    "restore": [
        *("restore", "--denoiser", "gaussian", "--data", "digits", "--problem", "inpainting"),
        *("--count", 2, "--each", 1, "--h", 0.5, "--beta", 1),
    ],
}


@pytest.fixture
def store(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    import_images(ArraySource("random", images), tmp_path / "store")
    return tmp_path / "store"


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_that_was_there_is_lost(capsys, command, store, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    before = contents(tmp_path)
    words = COMMANDS[command]
    for name in ("mine.png", "link.png"):
        assert "already exists" in refused(capsys, *words, "--out", tmp_path / name)
    for name in ("store/images.npy", "store/store.json", "x.safetensors", "x", "x.png.txt"):
        assert "choose of .png, .jpg" in refused(capsys, *words, "--force", "--out", tmp_path / name)
    for name in ("store", ".", ""):
        assert "is a folder" in refused(capsys, *words, "--force", "--out", tmp_path / name)
    assert "is a file, not a folder" in refused(capsys, *words, "--out", tmp_path / "mine.png" / "a.png")
    assert "cannot be written" in refused(capsys, *words, "--out", tmp_path / f"{'long' * 100}.png")
    assert contents(tmp_path) == before
    assert run(capsys, *words, "--force", "--out", tmp_path / "mine.png")[0] == 0
    assert Image.open(tmp_path / "mine.png").format == "PNG"


@pytest.mark.parametrize("ending", FORMATS)
def test_the_format_is_that_of_the_name(capsys, ending, tmp_path):
    file = tmp_path / f"PICTURE{ending.upper()}"
    assert run(capsys, *COMMANDS["denoise"], "--out", file)[0] == 0
    with Image.open(file) as picture:
        assert picture.format == FORMATS[ending]
        assert np.asarray(picture.convert("L")).std() > 10


def test_a_file_that_appears_while_another_is_made_stays(tmp_path):
    with pytest.raises(UserError, match="appeared meanwhile"), new_file(tmp_path / "a", replace=False) as temporary:
        temporary.write_text("ours")
        (tmp_path / "a").write_text("theirs")
    assert contents(tmp_path) == {(tmp_path / "a").relative_to(tmp_path): b"theirs"}


def test_a_folder_of_something_else_is_no_run_folder(capsys, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / ".lock").write_text("")
    (tmp_path / "project" / "report.html").write_text("mine")
    before = contents(tmp_path)
    for name in ("model", "project"):
        for words in (["demo"], ["train", "--data", "digits"], ["reproduce", "main/train"]):
            said = refused(capsys, *words, "--preset", "tiny", "--out", tmp_path / name)
            assert "is not a run folder" in said
    assert {name: text for name, text in contents(tmp_path).items() if name.name != ".lock" or text} == {
        name: text for name, text in before.items() if name.name != ".lock" or text
    }


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 256, 256), (1, 2000, 10), (3, 3000, 3000)])
@pytest.mark.parametrize("count", [1, 7, 1000, 10**9])
def test_sheets_and_batches_have_a_bounded_size(shape, count):
    values = shape[0] * shape[1] * shape[2]
    assert batch_size(shape) == 1 or batch_size(shape) * values <= 1 << 18
    first = next(batches(count, shape))
    assert len(first) == min(count, batch_size(shape))
    columns, tiles = shown_columns(shape, 3, count, 64), shown_tiles(shape, count, 256)
    assert 1 <= columns <= min(count, 64)
    assert 1 <= tiles <= min(count, 256)
    if columns * 3 * values < 1 << 20:
        size = grid(np.zeros((3, columns, *shape), np.float32)).layout
        assert columns == 1 or (size.width + size.gap) * columns <= 16_000


def test_batches_cover_every_number_once():
    assert [number for piece in batches(301, (1, 8, 8)) for number in piece] == list(range(301))


def test_many_images_are_denoised_in_batches(capsys, tmp_path, monkeypatch):
    largest = 0
    read = ImageSet.tensor

    def watched(self, entries=None):
        nonlocal largest
        found = read(self, entries)
        largest = max(largest, len(found))
        return found

    words = ["denoise", "--denoiser", "gaussian", "--data", "digits", "--sigma", 0.5]
    once = run(capsys, *words, "--count", 297, "--out", tmp_path / "a.png")[1]
    monkeypatch.setattr(ImageSet, "tensor", watched)
    code, said, _ = run(capsys, *words, "--count", 3000, "--out", tmp_path / "b.png")
    assert code == 0
    assert largest == 128
    assert "each of the 297 of digits test several times, the first 64 of them shown" in said
    few, many = (float(re.search(r"PSNR ([\d.]+) dB", text).group(1)) for text in (once, said))
    assert few == pytest.approx(many, abs=0.1)


@pytest.mark.slow
def test_many_samples_and_restorations_say_what_is_shown(capsys, tmp_path):
    words = COMMANDS["sample"][:-4]
    said = run(capsys, *words, "--count", 300, "--steps", 2, "--out", tmp_path / "s.png")[1]
    assert "300 samples of gaussian, 100% converged, the first 256 of them shown" in said
    words = [*COMMANDS["restore"], "--count", 40, "--each", 130]
    said = run(capsys, *words, "--out", tmp_path / "r.png")[1]
    assert "40 images, the first 32 of them shown, the first 16 of each shown" in said
    assert Image.open(tmp_path / "r.png").size[1] < 3000


WHITE = """
from scorescope.denoisers import Denoiser, training_free

@training_free("white", explanation="an image that is white whatever it sees")
class White(Denoiser):
    def __init__(self, images):
        super().__init__(images.image_shape)

    def denoise(self, noisy, sigma):
        return noisy.new_ones(noisy.shape)
"""


def test_a_prior_that_is_worse_than_none_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(denoisers, "_entries", dict(denoisers._entries))  # what the plugin adds is gone afterwards
    (tmp_path / "white.py").write_text(WHITE)
    words = ["restore", "--data", "digits", "--problem", "inpainting", "--count", 4, "--h", 0.3, "--beta", 0.5]
    white = ["--denoiser", "white", "--plugin", tmp_path / "white.py"]
    worse = run(capsys, *words, *white, "--out", tmp_path / "a.png")[1]
    better = run(capsys, *words, "--denoiser", "gaussian", "--out", tmp_path / "b.png")[1]
    assert "Worse than the measurements" in worse
    assert "Worse" not in better


@pytest.mark.slow
def test_a_terminated_import_leaves_nothing(tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((300_000, 8, 8), np.uint8))
    words = [sys.executable, "-m", "scorescope", "data", "import", str(tmp_path / "many.npy")]
    for number, word in ((signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")):
        process = subprocess.Popen(
            [*words, "--out", str(tmp_path / "store")], stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
        )
        while not list(tmp_path.glob(".store.*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 128 + number
        assert err == f"scorescope: {word}; the same command starts again; nothing half-written is left\n"
        assert [path.name for path in tmp_path.iterdir()] == ["many.npy"]


def test_an_interruption_while_loading_is_one_line(tmp_path):
    (tmp_path / "typer.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(60)\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    words = [sys.executable, "-m", "scorescope", "list", "data"]
    process = subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1].startswith("scorescope: interrupted before anything began")
    assert process.returncode == 130
