"""What the site is made of: a gallery of every study, all modules, all commands, and a citation that fits the package."""

import importlib.util
import re
import shlex

import pytest
import yaml
from tests.docs.code import TOP

import reference
import scorescope
from scorescope.app.checks import check_study
from scorescope.cli.main import COMMANDS
from scorescope.foundation.catalogue import listed

DOCS = TOP / "docs"


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", DOCS / "gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gallery_shows_every_study_with_its_command(gallery):
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^### (\S+)\n.*?^`(scorescope [^`]+)`$", text, re.MULTILINE | re.DOTALL))
    assert list(shown) == gallery.names()
    for name, command in shown.items():
        assert command == gallery.command(name, "tiny")
        words = shlex.split(command)
        assert words[1] in COMMANDS
        if words[1] == "reproduce":
            check_study(words[2], words[4], [])


def test_the_gallery_has_all_its_thumbnails_and_they_are_small():
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    named = set(re.findall(r'src="(gallery/[^"]+)"', text))
    assert named == {f"gallery/{path.name}" for path in (DOCS / "gallery").iterdir()}
    assert len(named) >= len(listed("studies"))
    assert sum((DOCS / name).stat().st_size for name in named) < 3e6


@pytest.mark.slow
def test_the_reference_has_every_public_module():
    pages = {reference.page_of(inside) for inside in reference.modules()}
    assert len(pages) == len(reference.modules())
    assert {"reference/index.md", "reference/denoisers/index.md", "reference/denoisers/optimal.md"} <= pages
    flat = str(reference.navigation(reference.modules()))
    assert all(repr(page) in flat for page in pages)
    rooms = {path.parent.name for path in reference.SOURCE.glob("*/__init__.py")}
    assert set(reference.ROOMS.split()) | {"cli"} >= rooms - {"pretrained"}


def test_the_page_of_commands_has_all_of_them_with_their_options():
    text = reference.commands()
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert {heading.split()[0] for heading in headings} == {*COMMANDS, "data", "model"}
    audit = text[text.index("## audit") : text.index("## reproduce")]
    assert all(f"`--{option}`" in audit for option in ("samples", "fail-if-copies", "held-out", "preset"))
    assert "Default: small." in audit


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((TOP / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == scorescope.__version__.split()[0]
    assert cited["cff-version"] == "1.2.0"
    assert len(cited["references"]) == 3
