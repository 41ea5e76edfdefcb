"""All code of the documentation runs: commands and Python, page by page, among small stand-ins for what the pages name."""

import io
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.docs.code import TOP, blocks, pages

from scorescope.app.runs import Run
from scorescope.cli.main import main
from scorescope.denoisers import denoisers
from scorescope.lenses import lenses

PAGES = [page for page in pages() if blocks(page)]


def named(page):
    return page.relative_to(TOP).as_posix()


def zip_of(path, pixels):
    with zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(pixels):
            data = io.BytesIO()
            Image.fromarray(image).save(data, "png")
            archive.writestr(f"{number:04}.png", data.getvalue())
    return path


def scorescope(*words):
    """The exit code of a command line; what it registers is forgotten."""
    before = [(registry, dict(registry._entries)) for registry in (denoisers, lenses)]
    try:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
    finally:
        for registry, entries in before:
            added = set(registry._entries) - set(entries) - set(registry._homes)
            for name in added:
                del registry._entries[name]
    return left.value.code


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """What pages call photos, others, checkpoint: digits of 8×8 pixels, and a network trained on them for a moment.

    One of the others is a photo, too.
    """
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("material")
    digits = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCORESCOPE_CACHE", str(folder / "cache"))
        for name, part in (("photos", digits[:300]), ("others", digits[299:500])):
            zip_of(folder / f"{name}.zip", part)
            assert scorescope("data", "import", folder / f"{name}.zip", "--out", folder / name) == 0
        with zipfile.ZipFile(zip_of(folder / "generated.zip", digits[500:564])) as archive:
            archive.extractall(folder / "generated")
        words = ["train", "--data", folder / "photos", "--preset", "tiny", "--steps", 20, "--out", folder / "run"]
        assert scorescope(*words, "--set", "samples=1", "--set", "sample_times=1") == 0
        (folder / "checkpoint").symlink_to(folder / "run" / "network")
        torch.save(load_file(folder / "checkpoint" / "network.safetensors"), folder / "model.pt")
        yield folder


def stand_ins(material, page, folder):
    """Put into a folder what a page names and does not make itself."""
    made = set(re.findall(r"--out (\S+)", "\n".join(block.code for block in blocks(page) if not block.untested)))
    for name in ("photos", "photos.zip", "others", "others.zip", "generated", "checkpoint", "model.pt"):
        if name not in made:
            (folder / name).symlink_to(material / name)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_is_run_or_says_why_not(page):
    for block in blocks(page):
        where = f"{block.page}:{block.line}"
        assert block.language in ("sh", "python", "text", ""), where
        assert not block.unused, f"{where} no longer says {block.unused}"
        if block.untested:
            assert len(block.untested) > 5, where
        elif block.elsewhere:
            assert (TOP / block.elsewhere.split(",")[0]).exists(), where
        elif block.language == "sh":
            assert {words[0] for words in block.commands} == {"scorescope"}, where


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.language in ("sh", "python") for b in blocks(page))], ids=named
)
def test_the_code_of_a_page_runs(page, material, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SCORESCOPE_CACHE", str(material / "cache"))
    monkeypatch.chdir(tmp_path)
    stand_ins(material, page, tmp_path)
    space = {}
    for block in blocks(page):
        where = f"{block.page}:{block.line}"
        if block.untested or block.elsewhere:
            continue
        if block.language == "sh":
            for words in block.commands:
                code = scorescope(*words[1:])
                assert code == block.leaves_with, f"{where}: {' '.join(words)}\n{capsys.readouterr().err}"
        elif block.language == "python":
            name = re.match(r"# (\w+\.py)\n", block.code)
            if name:  # a file that a command names
                (tmp_path / name[1]).write_text(block.code, encoding="utf-8")
            else:
                exec(compile("\n" * block.line + block.code, where, "exec"), space)
    made = [value for value in space.values() if isinstance(value, (torch.Tensor, Run))]
    assert all(bool(torch.isfinite(value).all()) if isinstance(value, torch.Tensor) else value.tables for value in made)
