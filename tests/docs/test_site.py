"""What the site is made of: a gallery of every study, all modules, all commands, and a citation that fits the package."""

import re

import yaml
from tests.docs.code import TOP

import reference
import scorescope
from scorescope.cli.main import COMMANDS

DOCS = TOP / "docs"


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
