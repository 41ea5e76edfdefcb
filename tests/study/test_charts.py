"""Charts: drawn without global state, as small well-formed SVG, with the colours that belong to the names."""

import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from scorescope.denoisers import denoisers
from scorescope.study import charts, palette

SVG = "{http://www.w3.org/2000/svg}"
SIGMAS = np.geomspace(0.01, 100, 9)


def texts(figure) -> list[str]:
    root = ET.fromstring(charts.svg(figure))
    return ["".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")]


def series(name, **more):
    return charts.Series(name, SIGMAS, np.sqrt(SIGMAS), **more)


@pytest.mark.slow
def test_text_is_text_and_the_same_figure_gives_the_same_bytes():
    def draw():
        gap = charts.Panel([series("A"), series("gaussian", dashed=True)], "error", "forward", levels={1.0: "one"})
        return charts.lines([gap, charts.Panel([series("A")], "gap", y_log=True)], heights=(2, 1))

    words = texts(draw())
    for word in ("A", "gaussian", "error", "gap", "forward", "one", charts.SIGMA, "0.01", "100"):
        assert word in words
    assert words.count("A") == 1, "one legend for all panels"
    assert charts.svg(draw()) == charts.svg(draw())
    assert len(charts.svg(draw())) < 100_000


def test_names_are_not_taken_for_formulas():
    panel = charts.Panel([series("cost in $ and $^{"), series("a_b < c & d")], "error", y_log=True)
    words = texts(charts.lines(panel))
    assert {"cost in $ and $^{", "a_b < c & d", "0.1", "10"} <= set(words)


def test_a_chart_leaves_the_style_of_others_alone():
    before = dict(matplotlib.rcParams)
    charts.svg(charts.bars({"A": 1.0, "B": -2.0, "C": float("nan")}, "length"))
    assert dict(matplotlib.rcParams) == before


def test_fixed_colours_are_drawn():
    drawn = charts.svg(charts.lines(charts.Panel([series("A"), series("optimal")], "error"))).decode()
    assert palette.BY_NAME["A"] in drawn
    assert palette.BY_NAME["optimal"] in drawn


@pytest.mark.slow
def test_bands_gaps_and_small_multiples():
    values = np.where(SIGMAS > 1, np.nan, SIGMAS)
    band = charts.Series("B", SIGMAS, values, values - 0.1, values + 0.1)
    panels = [charts.Panel([band, series("A")], "error", f"N = {n}") for n in (1, 10, 100)]
    words = texts(charts.lines(panels, columns=2, share_y=True))
    assert [word for word in words if word.startswith("N = ")] == ["N = 1", "N = 10", "N = 100"]
    assert words.count(charts.SIGMA) == 2


def test_psnr_has_the_line_on_which_nothing_is_gained():
    curve = charts.Series("training images", [10.0, 20.0], [30.0, 32.0])
    figure = charts.psnr_in_out(charts.Panel([curve], "output PSNR (dB)"))
    axis = figure.axes[0]
    assert len(axis.lines) == 2
    assert axis.get_xlim()[0] > 5, "the line must not stretch the axes to the origin"


@pytest.mark.parametrize("order", [1, -1])
def test_words_stand_beside_their_level_where_no_line_is(order):
    def sides(y, level):
        line = charts.Series("A", SIGMAS[::order], np.asarray(y, dtype=float)[::order])
        (word,) = charts.lines(charts.Panel([line], "y", y_range=(-1, 1), levels={level: "a word"})).axes[0].texts
        return word.get_horizontalalignment(), word.get_verticalalignment()

    assert sides(np.full(9, -0.8), 0.0) == ("right", "bottom")
    assert sides(np.linspace(0.8, 0.05, 9), 0.0) == ("left", "bottom")
    assert sides(np.full(9, 0.05), 0.0) == ("right", "top")
    assert sides([np.nan, *np.linspace(0.8, 0.05, 8)], 0.0) == ("left", "bottom")
    assert sides(np.full(9, np.nan), 0.0) == ("right", "bottom")


def test_histograms_share_their_bins_and_survive_empty_and_outlying_values():
    panels = {"N = 1": {"a": [0.5, np.nan, 7.0], "b": []}, "N = 2": {"a": [0.1], "b": [0.2]}}
    figure = charts.histograms(panels, "similarity", x_range=(0, 1), bins=4)
    first = figure.axes[0].patches[0].get_data()
    np.testing.assert_allclose(first.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(first.values, [0, 0, 0.5, 0.5])
    assert texts(charts.histograms({"x": {"a": []}}, "similarity"))


def test_bars_write_their_numbers():
    words = texts(charts.bars({"A": 1.25, "optimal": -0.5, "C": float("nan")}, "share", form=".2f"))
    assert {"1.25", "−0.50", "not measured"} <= set(words)


def test_heat_tables_write_every_known_cell():
    words = texts(charts.heat_table([[1.0, np.nan], [0.25, 0.5]], ["r", "s"], ["c", "d"]))
    assert [word for word in words if "." in word] == ["1.00", "0.25", "0.50"]


def test_every_training_free_denoiser_has_a_colour_of_its_own():
    assert set(denoisers) <= set(palette.BY_NAME)
    colours = palette.colours_of(denoisers)
    assert len(set(colours.values())) == len(colours)


def test_unknown_names_get_colours_that_the_chart_does_not_use():
    chosen = palette.colours_of(["A", "mine", "yours", "B"])
    assert list(chosen) == ["A", "mine", "yours", "B"]
    assert len(set(chosen.values())) == 4


def contrast(first: str, second: str) -> float:
    def luminance(colour):
        channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [*palette.BY_NAME.values(), palette.SOFT, palette.INK])
def test_colours_stand_out_from_the_page_in_light_and_dark(colour):
    assert contrast(colour, palette.PAPER) >= 3
    assert contrast(palette.DARK_PARTNER[colour], palette.DARK_PARTNER[palette.PAPER]) >= 3


@pytest.mark.parametrize("colour", [palette.MEMORIZES, palette.IN_TRANSITION, palette.GENERALIZES])
def test_the_words_on_a_badge_can_be_read(colour):
    assert contrast(colour, palette.PAPER) >= 4.5
    assert contrast(palette.DARK_PARTNER[colour], palette.DARK_PARTNER[palette.PAPER]) >= 4.5


def test_sequences_go_one_way():
    colours = palette.sequence(5)
    assert len(set(colours)) == 5
    light = [contrast(colour, palette.PAPER) for colour in colours]
    assert light == sorted(light)
    dark = [contrast(palette.DARK_PARTNER[colour], palette.DARK_PARTNER[palette.PAPER]) for colour in colours]
    assert dark == sorted(dark)
    assert len(palette.sequence(12)) == 12


def test_a_themed_chart_has_names_of_its_own():
    drawn = charts.svg(charts.lines(charts.Panel([series("A")], "error"))).decode()
    first, second = palette.themed(drawn, "one"), palette.themed(drawn, "two")

    def names(text):
        return {node.get("id") for node in ET.fromstring(text).iter() if node.get("id")}

    assert not names(first) & names(second)
    assert palette.BY_NAME["A"] not in first
    used = {node.get("{http://www.w3.org/1999/xlink}href") for node in ET.fromstring(first).iter(f"{SVG}use")}
    assert {href.removeprefix("#") for href in used} <= names(first)
