"""The explorer as a person uses it: what is on its canvases after drags, clicks, keys and touches, against the arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.report.explored import exploration

from scorescope.report import write_explorer
from scorescope.report.explorer import _heat
from scorescope.study.exploration import Exploration

pytestmark = pytest.mark.slow
COLUMNS = 3
READ = """
const canvas = arguments[0];
const picture = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return [canvas.width, canvas.height, ...picture.data];
"""
READY = "return document.documentElement.dataset.ready === 'true'"


@dataclass
class Opened:
    """A page in the browser."""

    driver: Any
    found: Exploration
    address: str

    def load(self, mark: str = "") -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        self.driver.get("about:blank")
        self.driver.get(self.address + mark)
        WebDriverWait(self.driver, 30).until(lambda driver: driver.execute_script(READY))

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def seen(self, canvas: Any) -> np.ndarray:
        """The pixels of a canvas, (H, W, 3)."""
        width, height, *values = self.driver.execute_script(READ, canvas)
        return np.array(values, dtype=np.uint8).reshape(height, width, 4)[..., :3]

    def shows(self, selector: str, image: np.ndarray) -> None:
        """Assert that the canvas there shows an image (C, H, W), to the last bit."""
        wanted = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
        assert np.array_equal(self.seen(self.one(selector)), wanted), selector

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def keys(self, selector: str, *names: str) -> None:
        from selenium.webdriver.common.keys import Keys

        self.driver.execute_script("arguments[0].focus()", self.one(selector))
        self.driver.switch_to.active_element.send_keys(*(getattr(Keys, name) for name in names))

    def over(self, element: Any, right: float, down: float) -> Any:
        """Actions that begin with the pointer over a place of an element, as shares of its width and height."""
        from selenium.webdriver import ActionChains

        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        size = element.size
        across, along = (right - 0.5) * size["width"], (down - 0.5) * size["height"]
        return ActionChains(self.driver, 0).move_to_element_with_offset(element, round(across), round(along))

    def panel(self, name: str) -> str:
        place = ["clean", "noisy", *self.found.denoisers].index(name)
        if place < 4:
            return f"#model-panels figure:nth-child({place + 1}) canvas"
        return f"#mechanism-panels figure:nth-child({place - 3}) canvas"

    def shows_level(self, level: int, image: int) -> None:
        """Assert that every panel shows its image at a noise level."""
        found = self.found
        self.shows(self.panel("clean"), found.clean[image])
        self.shows(self.panel("noisy"), found.noisy[level, image])
        for place, name in enumerate(found.denoisers):
            self.shows(self.panel(name), found.denoised[level, image, place])

    def shows_pixel(self, level: int, image: int, pixel: int) -> None:
        """Assert that the inspector shows one output pixel: map, window, and every training image that is kept."""
        found = self.found
        row, column = found.pixels[pixel]
        heat = _heat()[found.sensitivity[level, image, pixel]]
        assert np.array_equal(self.seen(self.one("#sensitivity")), heat)
        assert self.text("#pixel-name") == f"Pixel in row {row + 1}, column {column + 1}"
        best = int(found.best[level, image, pixel])
        bars = self.all("#windows li")
        values = [float(bar.get_attribute("data-value")) for bar in bars]
        assert values == pytest.approx(found.side_errors[level, image, pixel].tolist(), rel=1e-6)
        assert [bar.get_attribute("aria-current") == "true" for bar in bars].index(True) == best
        reach = found.sides[best] // 2
        _, height, width = found.clean.shape[1:]
        top, left = max(0, row - reach), max(0, column - reach)
        bottom, right = min(height, row + reach + 1), min(width, column + reach + 1)
        box = self.one("#window + .box").get_attribute("style").replace(" ", "")
        assert f"top:{round(100 * top / height, 2):g}" in box
        assert f"width:{round(100 * (right - left) / width, 2):g}"[:9] in box
        named = [
            place for place in range(found.behind.shape[-1]) if found.behind_entries[level, image, pixel, place] >= 0
        ]
        items = self.all("#patches > li")
        assert len(items) == len(named)
        for item, place in zip(items, named, strict=True):
            kept = found.behind[level, image, pixel, place]
            assert int(item.get_attribute("data-entry")) == found.behind_entries[level, image, pixel, place]
            assert float(item.get_attribute("data-weight")) == pytest.approx(
                float(found.weights[level, image, pixel, place])
            )
            canvases = item.find_elements("css selector", "canvas")
            if kept < 0:
                assert "not kept" in item.text
                assert not canvases
                continue
            whole = np.broadcast_to(found.training[kept], (3, height, width)).transpose(1, 2, 0)
            assert np.array_equal(self.seen(canvases[0]), whole[top:bottom, left:right])
            assert np.array_equal(self.seen(canvases[1]), whole)


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory) -> Opened:
    found = exploration()
    path = write_explorer(found, tmp_path_factory.mktemp("explorer") / "e.html", "A model", "report.html")
    return Opened(browser, found, path.as_uri())


@pytest.fixture
def page(opened) -> Opened:
    """The page as it opens, on a wide screen."""
    opened.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    opened.load()
    yield opened
    assert [entry for entry in opened.driver.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_it_opens_on_the_first_image_at_a_middle_level(page):
    page.shows_level(2, 0)
    assert page.text("#sigma-said") == "σ = 0.271"
    assert not page.one("#trouble").is_displayed()
    numbers = [panel.get_attribute("data-value") for panel in page.all(".bench .number[data-value]")]
    assert [float(number) for number in numbers] == pytest.approx(page.found.distances[2, 0].tolist())
    nearest = 2 + int(page.found.distances[2, 0, 2:].argmin())
    assert page.found.denoisers[nearest] in page.text("#nearest-said")
    assert page.found.denoisers[nearest] in page.text(".panel.nearest")


def test_the_noise_level_is_dragged(page):
    slider = page.one("#sigma")
    page.over(slider, 1 / 3, 0.5).click_and_hold().move_by_offset(
        round(slider.size["width"] / 3), 0
    ).release().perform()
    assert page.text("#sigma-said") == "σ = 0.737"
    page.shows_level(1, 0)
    page.keys("#sigma", "ARROW_RIGHT")
    page.shows_level(0, 0)
    page.keys("#sigma", "HOME")
    page.shows_level(3, 0)
    assert page.one("#sigma").get_attribute("aria-valuetext") == "σ = 0.1"


def test_a_click_on_a_pixel_shows_where_it_comes_from(page):
    canvas = page.all("#model-panels canvas")[2]
    page.over(canvas, 0.85, 0.8).click().perform()
    page.shows_pixel(2, 0, 3)
    for right, down, pixel in ((0.2, 0.2, 0), (0.9, 0.1, 1), (0.1, 0.9, 2)):
        page.over(page.all("#mechanism-panels canvas")[1], right, down).click().perform()
        page.shows_pixel(2, 0, pixel)
    said = page.text("#pixel-said")
    found = page.found
    assert f"{found.clean[0, 0, 4, 1] / 127.5 - 1:.2f}".replace("-", "−") in said
    assert f"{found.denoised[2, 0, 0, 0, 4, 1] / 127.5 - 1:.2f}".replace("-", "−") in said


def test_pixels_follow_a_drag_and_the_arrow_keys(page):
    canvas = page.all("#model-panels canvas")[1]
    right, down = round(canvas.size["width"] * 0.6), round(canvas.size["height"] * 0.6)
    page.over(canvas, 0.2, 0.2).click_and_hold().move_by_offset(right, 0).release().perform()
    page.shows_pixel(2, 0, 1)
    page.over(canvas, 0.8, 0.2).click_and_hold().move_by_offset(-right, down).release().perform()
    page.shows_pixel(2, 0, 2)
    page.over(canvas, 0.8, 0.8).perform()  # over it, but nothing pressed
    page.shows_pixel(2, 0, 2)
    page.keys("#model-panels", "ARROW_RIGHT")
    page.shows_pixel(2, 0, 3)
    page.keys("#model-panels", "ARROW_UP", "ARROW_UP", "ARROW_LEFT")
    page.shows_pixel(2, 0, 0)
    page.keys("#model-panels", "PAGE_UP", "PAGE_UP")
    page.shows_level(0, 0)
    page.shows_pixel(0, 0, 0)  # one of its training images is not kept, another is none


def test_another_image_is_chosen_by_click_and_by_key(page):
    page.over(page.all("#image-choice label")[2], 0.5, 0.5).click().perform()
    page.shows_level(2, 2)
    page.keys("#image-choice input:checked", "ARROW_LEFT")
    page.shows_level(2, 1)


def shows_sample(page: Opened, rank: int) -> None:
    found = page.found
    page.shows("#sample", found.samples[rank])
    items = page.all("#neighbours li")
    for item, kept, similarity in zip(items, found.neighbours[rank], found.similarity[rank], strict=True):
        assert int(item.get_attribute("data-entry")) == found.entries[kept]
        assert float(item.get_attribute("data-value")) == pytest.approx(float(similarity))
        wanted = np.broadcast_to(found.training[kept], (3, 6, 7)).transpose(1, 2, 0)
        assert np.array_equal(page.seen(item.find_element("css selector", "canvas")), wanted)


def test_samples_are_gone_through_by_nearness(page):
    shows_sample(page, 0)
    slider = page.one("#rank")
    page.over(slider, 0.02, 0.5).click_and_hold().move_by_offset(
        round(0.57 * slider.size["width"]), 0
    ).release().perform()
    shows_sample(page, 3)
    page.over(page.all("#sample-choice label")[4], 0.5, 0.5).click().perform()
    shows_sample(page, 4)
    page.keys("#rank", "END")
    shows_sample(page, 5)
    page.over(page.one("#similarity"), 0.12, 0.5).click().perform()
    shows_sample(page, 0)
    for place, canvas in enumerate(page.all("#sample-choice canvas")):
        assert np.array_equal(page.seen(canvas)[..., 0], page.found.samples[place, 0])


def test_directions_are_turned_by_k(page):
    panels = "#spectrum-panels figure:nth-child({}) canvas"

    def shows(level: int, k: int) -> None:
        for place in range(3):
            page.shows(panels.format(place + 1), page.found.spectrum_images[level, 0, place])
        page.shows(panels.format(4), page.found.eigenvectors[level, 0, k - 1])
        value = float(page.found.eigenvalues[level, 0, k - 1])
        assert page.text("#k-said") == f"{k} of 4, eigenvalue {value:.3g}"

    shows(1, 1)
    page.keys("#k", "ARROW_RIGHT", "ARROW_RIGHT")
    shows(1, 3)
    page.keys("#spectrum-sigma", "ARROW_LEFT")
    shows(0, 3)
    page.over(page.one("#eigenvalues"), 0.96, 0.5).click().perform()
    shows(0, 4)


def test_a_finger_does_what_a_mouse_does(page):
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    canvas = page.all("#model-panels canvas")[0]
    finger = ActionBuilder(page.driver, mouse=PointerInput("touch", "finger"), duration=0)
    finger.pointer_action.move_to(canvas, -canvas.size["width"] // 3, -canvas.size["height"] // 3)
    finger.pointer_action.pointer_down().pointer_up()
    finger.perform()
    page.shows_pixel(2, 0, 0)


def test_a_phone_shows_all_of_it_in_its_width(page):
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    page.load()
    assert page.driver.execute_script("return document.documentElement.scrollWidth") == 390
    order = [page.one(name).rect["y"] for name in ("#model-panels", "#inspector", "#mechanism-panels")]
    assert order == sorted(order)
    page.over(page.all("#model-panels canvas")[0], 0.8, 0.2).click().perform()
    page.shows_pixel(2, 0, 1)


def test_the_page_is_dark_where_the_reader_likes_it_dark(page):
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    colours = []
    for mode in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": mode}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        colours.append(page.driver.execute_script(ground))
    assert colours == ["rgb(255, 255, 255)", "rgb(21, 24, 28)"]
    page.shows_level(2, 0)


def test_everything_has_a_name_for_who_cannot_see_it(page):
    for element in page.all("input"):
        assert element.accessible_name, element.get_attribute("outerHTML")
    for canvas in page.all("canvas"):
        assert canvas.get_attribute("aria-hidden") == "true" or canvas.accessible_name
    for name in ("#pixel-said", "#nearest-said"):
        assert page.one(name).get_attribute("role") == "status"
    assert page.one("#model-panels").aria_role == "application"
    assert "Arrow keys" in page.one("#model-panels").accessible_name


def test_the_address_brings_back_what_was_seen(page):
    from selenium.webdriver.support.ui import WebDriverWait

    page.load("#image=1&level=0&pixel=3&rank=2&k=2&at=0")
    page.shows_level(0, 1)
    page.shows_pixel(0, 1, 3)
    shows_sample(page, 2)
    assert page.text("#k-said").startswith("2 of 4")
    page.keys("#sigma", "ARROW_LEFT")
    WebDriverWait(page.driver, 10).until(lambda driver: "level=1" in driver.current_url)
    page.load("#image=nonsense&level=99&pixel=-3")
    page.shows_level(3, 0)


def test_colours_and_a_run_without_derivatives(browser, tmp_path):
    from dataclasses import replace

    found = exploration(3, 8, 8)
    found = replace(
        found,
        spectrum_sigmas=[],
        eigenvectors=found.eigenvectors[:0],
        eigenvalues=found.eigenvalues[:0],
        spectrum_images=found.spectrum_images[:0],
        sensitivity=found.sensitivity[:0],
        peaks=found.peaks[:0],
        samples=found.samples[:0],
        neighbours=found.neighbours[:0],
        similarity=found.similarity[:0],
        missing={"sensitivity": "net has no derivative."},
    )
    page = Opened(browser, found, write_explorer(found, Path(tmp_path) / "e.html").as_uri())
    page.load()
    page.shows_level(2, 0)
    assert not page.one("#sensitivity").is_displayed()
    assert not page.all("#k, #rank")
    assert "Without sensitivity: net has no derivative." in page.text("main")
    patch = page.all("#patches canvas")[1]
    row, column = found.pixels[int(page.driver.execute_script("return 0"))]
    assert (row, column) == (1, 1)
    assert page.seen(patch).shape == (8, 8, 3)


def test_the_explorer_of_a_run_shows_what_the_run_stored(browser, digits, tmp_path, capsys):
    """From `explain` to the canvas: the page beside the report, and the same page made again by the command."""
    import html

    import torch

    import scorescope as ss
    from scorescope.app.runs import Run
    from scorescope.cli.main import main
    from scorescope.data import DataSplit
    from scorescope.denoisers import NetworkDenoiser
    from scorescope.jobs.explain import Explain
    from scorescope.jobs.explain import Opened as Given
    from scorescope.networks import UNet
    from scorescope.report import run_study

    torch.manual_seed(0)
    network = NetworkDenoiser(UNet(blocks=1, width=4), "blind-residual", (1, 8, 8), (0.0, 2.0), name="mine")
    given = Given((network,), DataSplit(digits.subset(range(60)), digits.subset(range(1000, 1100))))
    chosen = {"lenses": ("explorer",), "mechanisms": ("gaussian",), **given.settings()}
    run = tmp_path / "run"
    results = run_study(Explain(given), Explain.configure("tiny", **chosen), run)
    found = Exploration.load(run)
    browser.get((run / "report.html").as_uri())
    browser.find_element("link text", "Explore it by hand").click()
    page = Opened(browser, found, browser.current_url)
    assert page.address.endswith("/run/explorer.html")
    page.load()
    page.shows_level(len(found.sigmas) // 2, 0)
    page.over(page.all("#model-panels canvas")[2], 0.1, 0.1).click().perform()
    page.shows_pixel(len(found.sigmas) // 2, 0, 0)
    page.over(browser.find_element("link text", "The report"), 0.5, 0.5).click().perform()
    assert browser.current_url.endswith("/run/report.html")
    first = (run / "explorer.html").read_bytes()
    for words in (["explore", str(run)], ["explore", str(run), "--out", str(tmp_path / "e.html"), "--json"]):
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0
    assert (run / "explorer.html").read_bytes() == first
    assert len((tmp_path / "e.html").read_bytes()) < len(first)  # it has no report beside it
    assert '"samples": 8' in capsys.readouterr().out
    assert Run(results, run / "report.html", 0.0).explorer == run / "explorer.html"
    again = ss.explore(Run(results, run / "report.html", 0.0), out=tmp_path / "n.html")
    assert again.contents["noisy images"] == len(found.kinds)
    assert html.unescape(again._repr_html_()).count((tmp_path / "n.html").read_text(encoding="utf-8")) == 1
