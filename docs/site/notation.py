"""The formulas of docstrings, written as text for who reads the source, as LaTeX for who reads the site.

The house writes ``D*(y, σ) = Σ_i w_i x_i`` in its docstrings: the signs themselves, ``_`` and ``^`` for what is lower and
higher, superscript figures, letters with their own hat, tilde, bar or dot. `to_latex` reads that notation, and answers with
None whatever is no formula in it, which then stays code.
"""

from __future__ import annotations

import re
import unicodedata

ACCENTS = {"\u0302": "hat", "\u0303": "tilde", "\u0304": "bar", "\u0305": "bar", "\u0307": "dot"}
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵀⁿᵈᵗᵏˣ", "0123456789-+Tndtkx", strict=True))
SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₋₊ᵢⱼₖₙₜ", "0123456789-+ijknt", strict=True))
SIGNS = {
    "−": "-", "·": r"\cdot ", "×": r"\times ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "∝": r"\propto ", "∈": r"\in ", "→": r"\to ", "←": r"\gets ", "∞": r"\infty ",
    "∫": r"\int ", "∂": r"\partial ", "∇": r"\nabla ", "⟨": r"\langle ", "⟩": r"\rangle ", "‖": r"\Vert ",
    "⊗": r"\otimes ", "±": r"\pm ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⌊": r"\lfloor ", "⌋": r"\rfloor ",
    "½": r"\frac{1}{2}", "≪": r"\ll ", "≫": r"\gg ", "∘": r"\circ ", "⊙": r"\odot ",
}  # fmt: skip
PLAIN = {"~": r"\sim ", "…": r"\dots ", "{": r"\{", "}": r"\}", "%": r"\%"} | {
    sign: sign for sign in "()[]+-/=<>,;:.!'|"
}
GREEK = {name: sign for sign in "αβγδεζηθκλμνξπρστφχψω" for name in [unicodedata.name(sign).split()[-1].lower()]}
GREEK["lambda"] = GREEK.pop("lamda")
LETTERS = "A-Za-zα-ωΑ-ΡΤ-Ωℓ"
# Names of functions, which stand upright; all other words of three letters or more are words.
_NAMED = """
    exp log log2 log10 ln tr sin cos tan tanh erf sign max min argmax argmin softmax rank det diag dim
    Cov Var KL MSE PSNR SURE median mean std const
"""
FUNCTIONS = set(_NAMED.split())
SIGNS_OF_MATHEMATICS = "".join({*SIGNS, *SUPERSCRIPTS, *SUBSCRIPTS, *ACCENTS} - {"→", "←"})
MATHEMATICAL = re.compile(rf"[{SIGNS_OF_MATHEMATICS}√ΣΠα-ωΓΔΘΛΞΦΨΩ]|\b(?:E|Cov|Var)\[")
MOST_WORDS = 4


def _is_identifier(formula: str) -> bool:
    """Whether a name of the code is in it, which has underscores between words."""
    names = re.findall(r"(?<![A-Za-z])([a-z]{2,})_[a-z]{3,}", formula)
    return any(name not in GREEK and name not in FUNCTIONS for name in names)


class _UnknownError(ValueError):
    """Something that the notation does not have."""


def to_latex(formula: str) -> str | None:
    """The formula in LaTeX, or None where the text is none.

    Args:
        formula: one line.
    """
    decomposed = unicodedata.normalize("NFD", formula.replace("≠", "\0")).replace("\0", "≠").replace("̸=", "≠")
    if (
        not MATHEMATICAL.search(decomposed)
        or re.search(r"[\"\\`]|==|\w\.\w*[a-z]\w*", formula)
        or _is_identifier(formula)
    ):
        return None
    words = [
        word for word in re.findall(r"[A-Za-z]{3,}", formula) if word not in FUNCTIONS and word.lower() not in GREEK
    ]
    if len(words) > MOST_WORDS:
        return None
    try:
        return " ".join(_Reader(decomposed).all().split())
    except _UnknownError:
        return None


class _Reader:
    """Goes over a formula once, from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def all(self) -> str:
        written = []
        while self.at < len(self.text):
            written.append(self.next())
        return "".join(written)

    def found(self, pattern: str) -> re.Match[str] | None:
        """What stands here, if it is that; the reader moves behind it."""
        match = re.compile(pattern).match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def next(self) -> str:
        """The next sign or word, with nothing that hangs on it."""
        if match := self.found(r"\s+"):
            return r" \qquad " if len(match[0]) > 2 else " "
        if match := self.found(r"\d+(?:[.,]\d+)*"):
            return match[0]
        if match := self.found(f"[{''.join(SUPERSCRIPTS)}]+"):
            return f"^{{{''.join(SUPERSCRIPTS[sign] for sign in match[0])}}}"
        if match := self.found(f"[{''.join(SUBSCRIPTS)}]+"):
            return f"_{{{''.join(SUBSCRIPTS[sign] for sign in match[0])}}}"
        if match := self.found(r"(?<=\S)([_^])"):
            return match[1] + "{" + self.script() + "}"
        if self.found(r"√|sqrt(?=\()"):
            return (
                rf"\sqrt{{{self.group('()') if self.text.startswith('(', self.at) else self.next() + self.hanging()}}}"
            )
        if self.found(r"(?<=[^\s(,])\*(?!\s*\w)|(?<=[A-Za-z])\*(?=[(_]|$)"):
            return "^{*}"
        if match := self.found(r"[ΣΠ]"):
            sums = re.compile(rf"(?:_\{{[^}}]*\}}|_[{LETTERS}\d,']+)?\s+[^\s=+)−]|[([]").match(self.text, self.at)
            return {"Σ": r"\sum ", "Π": r"\prod "}[match[0]] if sums else match[0]
        if match := self.found(r"\s*\|\s+" if self.text[self.at - 1 : self.at].isspace() else r"\|"):
            return r" \mid " if len(match[0]) > 1 else "|"
        if match := self.found(f"[{LETTERS}](?=[{''.join(ACCENTS)}])"):
            accent, self.at = self.text[self.at], self.at + 1
            return rf"\{ACCENTS[accent]}{{{match[0]}}}"
        if self.found(f"d(?=[α-ω])(?<![{LETTERS}]d)|d(?=[A-Za-z](?![A-Za-z]))(?<![{LETTERS}]d)"):
            return r"\,\mathrm{d}" if self.text[self.at - 2 : self.at - 1].isspace() else r"\mathrm{d}"
        if match := self.found(r"[A-Za-z]+(?:-[a-z]+)*\d*|[α-ωΑ-Ωℓ]"):
            return self.word(match[0])
        sign = self.text[self.at]
        self.at += 1
        if sign in SIGNS or sign in PLAIN:
            return SIGNS.get(sign) or PLAIN[sign]
        raise _UnknownError(sign)

    def word(self, word: str) -> str:
        rest = self.text[self.at :]
        if word == "E" and re.match(r"(?:_\S+?)?(?:\[|‖)|\s+(?:[ΣA-Za-z∇‖\[])", rest):
            return r"\mathbb{E}"
        if word == "N" and rest.startswith("("):
            return r"\mathcal{N}"
        if word.lower() in GREEK:
            return GREEK[word.lower()]
        if word in FUNCTIONS:
            return rf"\operatorname{{{word}}}"
        if word[1:].isdigit():
            return f"{word[0]}_{{{word[1:]}}}"
        return word if len(word) < 3 else rf"\text{{{word}}}"

    def script(self) -> str:
        """What is written lower or higher: a group in braces or brackets, or one name."""
        if self.text.startswith("{", self.at):
            return self.group("{}")
        if self.text[self.at - 1] == "^" and self.text.startswith("(", self.at):
            return self.group("()")
        one = rf"(?:\d+|N\(\w\)|[{LETTERS}]+[{''.join(ACCENTS)}]?'*|½)"
        match = self.found(rf"[-−]?{one}(?:,{one}(?![{LETTERS}]))*")
        if not match:
            raise _UnknownError(self.text[self.at : self.at + 1])
        return _Reader(match[0]).all()

    def hanging(self) -> str:
        """Scripts behind what was read."""
        written = ""
        while re.compile(f"[_^{''.join(SUPERSCRIPTS)}{''.join(SUBSCRIPTS)}]").match(self.text, self.at):
            written += self.next()
        return written

    def group(self, brackets: str) -> str:
        """The inside of the group that opens here."""
        depth = 0
        for end in range(self.at, len(self.text)):
            depth += {brackets[0]: 1, brackets[1]: -1}.get(self.text[end], 0)
            if depth == 0:
                inside, self.at = self.text[self.at + 1 : end], end + 1
                return _Reader(inside).all()
        raise _UnknownError(brackets[0])
