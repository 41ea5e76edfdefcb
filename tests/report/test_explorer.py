"""The explorer as a file: self-contained, the stored arrays in it, written over nothing but an explorer."""

import base64
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.report.explored import exploration
from tests.report.test_page import Page

from scorescope.foundation import UserError
from scorescope.lenses import explorer as limits
from scorescope.report import explorer, html, write_explorer, write_report
from scorescope.study import Results
from scorescope.study.exploration import Exploration

SCRIPTS = Path(explorer.__file__).parent


@pytest.fixture(scope="module")
def found() -> Exploration:
    return exploration()


@pytest.fixture(scope="module")
def source(found) -> str:
    return explorer.explorer_html(found, "A model", "report.html")


def blocks(source: str) -> dict[str, np.ndarray]:
    """The arrays of a page, unpacked as its script unpacks them."""
    arrays = {}
    pattern = r'data-name="(\w+)" data-type="(\w+)" data-shape="([\d,]+)" data-delta="(\d)">([^<]*)<'
    for name, kind, shape, delta, text in re.findall(pattern, source):
        sides = [int(side) for side in shape.split(",")]
        array = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind).reshape(sides)
        arrays[name] = np.cumsum(array, axis=-1, dtype=np.uint8) if delta == "1" else array
    return arrays


def test_the_page_holds_the_stored_arrays(found, source):
    arrays = blocks(source)
    assert set(arrays) == {*found.arrays(), "heat"}
    for name, array in found.arrays().items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array), name


def test_smooth_images_are_kept_as_differences(found):
    smooth = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8), (2, 1, 50, 60))
    rows = replace(found, samples=smooth.copy(), neighbours=found.neighbours[:2], similarity=found.similarity[:2])
    source = explorer.explorer_html(rows)
    assert re.search(r'data-name="samples"[^>]*data-delta="1"', source)
    assert np.array_equal(blocks(source)["samples"], smooth)


def test_it_fetches_nothing_and_no_name_breaks_out_of_it(source):
    page = Page(source)
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith("#") or attributes[name] == "report.html"
    assert "url(" not in source.split("</style>")[0]
    assert "<b>odd" not in source
    assert "A model" in page.text


def test_it_is_written_over_an_explorer_and_over_nothing_else(found, tmp_path):
    path = write_explorer(found, tmp_path / "deep" / "e.html")
    first = path.read_text(encoding="utf-8")
    assert write_explorer(found, path, "another").read_text(encoding="utf-8") != first
    mine = tmp_path / "mine.html"
    mine.write_text("mine")
    with pytest.raises(UserError, match="no explorer"):
        write_explorer(found, mine)
    with pytest.raises(UserError, match="is a folder"):
        write_explorer(found, tmp_path)
    (tmp_path / "nowhere.html").symlink_to(tmp_path / "missing")
    with pytest.raises(UserError, match="cannot be read"):
        write_explorer(found, tmp_path / "nowhere.html")
    assert mine.read_text() == "mine"


def test_a_report_links_to_the_explorer_beside_it(found, tmp_path):
    results = Results(study="main/explain", title="One model", opened=["Explorer"], exploration=found)
    results.save(tmp_path)
    write_report(results, tmp_path)
    links = [link["href"] for link in Page((tmp_path / "report.html").read_text(encoding="utf-8")).all("a")]
    assert links[0] == "explorer.html"
    assert links.count("explorer.html") == 2  # once more in the section of that name
    first = (tmp_path / "explorer.html").read_bytes()
    again = Results.load(tmp_path)
    for name, array in found.arrays().items():
        assert np.array_equal(getattr(again.exploration, name), array)
    assert again.exploration.words() == found.words()
    (tmp_path / "explorer.html").unlink()
    write_report(again, tmp_path)
    assert (tmp_path / "explorer.html").read_bytes() == first
    assert "explorer.html" not in html(Results(study="main/explain", title="One model"))


@pytest.mark.parametrize(
    ("file", "text", "said"), [("exploration.json", '{"schema": 0}', "schema 0"), ("exploration.npz", "", "damaged")]
)
def test_what_is_older_or_damaged_is_refused(found, tmp_path, file, text, said):
    found.save(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=said):
        Exploration.load(tmp_path)


@pytest.mark.slow
def test_noise_that_does_not_pack_still_fits():
    """64 samples of 32×32 colour pixels, and as many images and maps as are kept at most, all of random bytes."""
    image, levels, denoisers = 3 * 32 * 32, 10, 12
    random = np.random.default_rng(0)
    small = exploration(3, 32, 32, samples=64)

    def filled(size: int) -> np.ndarray:
        return random.integers(0, 256, (size // image, 3, 32, 32), dtype=np.uint8)

    spectrum = filled(limits.MOST_SPECTRUM_BYTES)[None, None]
    largest = replace(
        small,
        denoised=filled(limits.MOST_BYTES)[None, None],
        training=filled(limits.MOST_TRAINING_BYTES),
        eigenvectors=spectrum,
        side_errors=random.random((levels, 16, 64, 8)).astype(np.float32),
        weights=random.random((levels, 16, 64, denoisers)).astype(np.float32),
    )
    assert len(explorer.explorer_html(largest)) < 15e6


@pytest.mark.slow
def test_the_script_has_the_types_that_it_says(tmp_path):
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("TypeScript's compiler is not installed (npm install --global typescript)")
    done = subprocess.run([compiler, "-p", SCRIPTS / "jsconfig.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
