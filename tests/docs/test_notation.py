"""Formulas of docstrings and pages as the site draws them: read right, drawn whole, and code left alone."""

import re

import griffe
import pytest
from tests.docs.code import TOP

from docstrings import rewritten
from mathematics import mathml, on_page_content
from notation import to_latex


@pytest.mark.parametrize(
    ("written", "latex"),
    [
        ("D*(y, σ) = Σ_i w_i x_i", r"D^{*}(y, σ) = \sum _{i} w_{i} x_{i}"),
        ("w = softmax_i(−‖y − x_i‖² / 2σ²)", r"w = \operatorname{softmax}_{i}(-\Vert y - x_{i}\Vert ^{2} / 2σ^{2})"),
        ("(Σ CᵀC)⁻¹ Σ Cᵀ E[x_C | y_C, σ]", r"(\sum C^{T}C)^{-1} \sum C^{T} \mathbb{E}[x_{C} \mid y_{C}, σ]"),
        ("Σ_η = Σ + η I", "Σ_{η} = Σ + η I"),
        ("E[s̃ | x, t] = s", r"\mathbb{E}[\tilde{s} \mid x, t] = s"),
        ("1 − E₀/E", "1 - E_{0}/E"),
        ("ẋ = −β_t x − D_t s_avg", r"\dot{x} = -β_{t} x - D_{t} s_{\text{avg}}"),
        ("∫ f σ⁻³ dσ", r"\int f σ^{-3} \,\mathrm{d}σ"),
        ("σ^{2α/(α+1)}", "σ^{2α/(α+1)}"),
        ("√(2 − 2s)", r"\sqrt{2 - 2s}"),
        ("x0 ~ N(μ, s² I)", r"x_{0} \sim \mathcal{N}(μ, s^{2} I)"),
        ("σ = sigma_max u^power", r"σ = σ_{\operatorname{max}} u^{\text{power}}"),
        ("G(p, σ) = E Σ_c |∂D/∂y|", r"G(p, σ) = \mathbb{E} \sum _{c} |\partial D/\partial y|"),
    ],
)
def test_the_notation_of_docstrings_is_read(written, latex):
    assert to_latex(written) == latex


@pytest.mark.parametrize(
    "code",
    [
        "(B, C, H, W)",
        "noisy",
        "scorescope list denoisers|networks|…",
        '{"model": …}',
        "ema_model.…",
        "a @ bᵀ",
        "mean(to_optimal) − σ",
    ],
)
def test_what_is_code_stays_code(code):
    assert to_latex(code) is None


def test_every_formula_of_the_source_is_drawn():
    spans = {
        " ".join(span.split())
        for path in (TOP / "src").rglob("*.py")
        for span in re.findall(r"``([^`]+)``", path.read_text("utf-8"))
    }
    formulas = [latex for span in spans if (latex := to_latex(span))]
    assert len(formulas) > 300
    for latex in formulas:
        assert mathml(latex).startswith("<math")


def test_unknown_latex_is_refused():
    with pytest.raises(ValueError, match="does not know"):
        mathml(r"\nosuch{x}")
    page = type("Page", (), {"file": type("File", (), {"src_uri": "p.md"})})
    with pytest.raises(Exception, match=r"p\.md: no formula: \\nosuch"):
        on_page_content(r'<span class="arithmatex">\(\nosuch\)</span>', page)
    drawn = on_page_content(r'a <span class="arithmatex">\(x &lt; y\)</span> b', page)
    assert re.fullmatch(r"a <math .*</math> b", drawn)
    assert "&lt;" in drawn


def test_docstrings_become_markdown():
    package = griffe.temporary_visited_package(
        "scorescope",
        {
            "__init__.py": "",
            "a.py": 'from scorescope.b import B\n"""."""\ndef f():\n    """F."""\n',
            "b.py": 'class B:\n    """B."""\n',
        },
    )
    with package as found:
        module = found["a"]
        assert rewritten("See `B` and `f`, not `missing`.", module) == (
            "See [`B`][scorescope.b.B] and [`f`][scorescope.a.f], not `missing`."
        )
    assert (
        rewritten("As ``σ²`` in ``(B, C)``, x_i::\n\n    run(this)\n")
        == "As $σ^{2}$ in ``(B, C)``, $x_{i}$:\n\n    run(this)\n"
    )
    assert rewritten("So\n\n    C = S⁻¹\n\nends.") == "So\n\n$$\nC = S^{-1}\n$$\n\n\nends."
    assert rewritten("One.\n\nArgs:\n    x: ``σ``.\n    y: two.\n") == "One.\n\nArgs:\n    x: $σ$.\n    y: two.\n"
