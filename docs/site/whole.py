"""What a page of the repository needs to be one of the site, and that the built site loads nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import docstrings  # noqa: F401  (found here once, so that the reader of docstrings finds it and its formulas by name)

LINK_UP = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)#]*)[^)]*\)")
UNTESTED = re.compile(r"<!-- untested: (.*?) -->\n", re.DOTALL)
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//"""
    r"""|<link\b[^>]*rel=["']?(?:stylesheet|preload)[^>]*href=["']?(?:https?:)?//"""
)
# Pages that stand at the top of the repository.
ABOVE = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages that lie outside of docs/."""
    for name, source in ABOVE.items():
        text = Path(config.docs_dir).parent.joinpath(source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Name files of the repository instead of linking them; say of code that no test runs why."""
    top = Path(config.docs_dir).resolve()
    here = (top / page.file.src_uri).parent

    def named(match: re.Match[str]) -> str:
        return match[0] if (here / match[2]).resolve().is_relative_to(top) else match[1]

    def said(match: re.Match[str]) -> str:
        return f'<p class="untested">No test runs this: {" ".join(match[1].split())}.</p>\n\n'

    return UNTESTED.sub(said, LINK_UP.sub(named, markdown))


def on_post_build(config: MkDocsConfig, **_: Any) -> None:
    """Refuse a site that a browser without a network could not show."""
    for path in Path(config.site_dir).rglob("*.html"):
        found = LOADED.search(path.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{path} loads something from elsewhere: {found[0]}")
