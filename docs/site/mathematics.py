"""Formulas between dollar signs become MathML when the site is built: browsers draw it without scripts or fonts of others."""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from mkdocs.exceptions import PluginError

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
DISPLAY = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)
FUNCTION = re.compile(r"[A-Za-z]{2,}\d*")
SCRIPTS = ("msub", "msup", "msubsup", "munder")


def mathml(latex: str, display: bool = False) -> str:
    """The formula as a ``<math>`` element, its LaTeX in the title.

    Raises:
        ValueError: LaTeX that the converter does not know.
    """
    found = convert_to_element(latex, display="block" if display else "inline")
    for one in list(found.iter()):
        text = one.text = html.unescape(one.text or "")
        if "\\" in text or text == "&":
            raise ValueError(f"the converter to MathML does not know all of {latex!r}")
        if text == "‖":  # bars keep one height, left and right, whatever they hold
            one.tag, one.attrib = "mo", {"stretchy": "false", "lspace": "0", "rspace": "0"}
        elif one.tag in ("mo", "mi") and FUNCTION.fullmatch(text):
            one.tag, one.attrib = "mi", {"mathvariant": "normal"}
    for row in list(found.iter()):
        _space(row)
    found.set("title", latex)
    return ElementTree.tostring(found, encoding="unicode")


def _space(row: Element) -> None:
    """Set names of functions a little apart from what they stand beside, but for signs and brackets."""
    if row.tag not in ("math", "mrow"):
        return
    inside = list(row)
    for number in range(len(inside) - 1, 0, -1):
        before, after = inside[number - 1], inside[number]
        names = _is_function(before) and not _is_sign(after), _is_function(after) and not _is_sign(before)
        if any(names) and "mspace" not in (before.tag, after.tag):
            row.insert(number, Element("mspace", {"width": "0.167em"}))


def _is_function(one: Element) -> bool:
    base = one[0] if one.tag in SCRIPTS else one
    return base.get("mathvariant") == "normal" and bool(FUNCTION.fullmatch(base.text or ""))


def _is_sign(one: Element) -> bool:
    first = one[0] if one.tag == "mrow" and len(one) else one
    base = first[0] if first.tag in SCRIPTS else first
    return base.tag == "mo" and (base.text or "") not in "‖)]∇∂∑∫"


def on_page_content(content: str, page: Any, **_: Any) -> str:
    """Put MathML where the Markdown had formulas."""

    def replaced(display: bool) -> Any:
        def one(match: re.Match[str]) -> str:
            latex = " ".join(html.unescape(match[1]).split())
            try:
                found = mathml(latex, display)
            except Exception as error:
                raise PluginError(f"{page.file.src_uri}: no formula: {latex}: {error}") from error
            return f'<div class="formula" tabindex="0">{found}</div>' if display else found

        return one

    return INLINE.sub(replaced(False), DISPLAY.sub(replaced(True), content))
