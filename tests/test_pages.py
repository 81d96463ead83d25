"""The book in a real browser: every page in light, in dark and at the width of a phone, with the network cut off."""

import shutil
from pathlib import Path

import pytest
from chapters import CHAPTERS, NAMES
from conftest import ROOT

PAGES = sorted(path.stem for path in (ROOT / "book").glob("*.md"))
SEEN = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 375)}


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield instance
        instance.close()


@pytest.fixture
def visit(browser, book):
    """Open a page in one of the three ways; the page, with what it asked for and complained about."""
    contexts = []

    def open_page(name, way="light"):
        scheme, width = SEEN[way]
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("requestfailed", lambda request: page.complaints.append(f"failed: {request.url}"))
        page.goto((Path(book) / "book" / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise.then(() => true)")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("way", SEEN)
@pytest.mark.parametrize("name", PAGES)
def test_page_asks_nobody_and_complains_of_nothing(visit, name, way):
    page = visit(name, way)
    outside = [url for url in page.requested if not url.startswith(("file:", "data:", "blob:"))]
    assert not outside
    assert not page.complaints


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(visit, name):
    page = visit(name, "phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.parametrize("way", SEEN)
def test_figures_are_there_described_and_take_the_pages_colour(visit, name, way):
    page = visit(name, way)
    figures = page.locator("div.figure svg[role=img]")
    assert figures.count() >= 2
    ink = page.evaluate("getComputedStyle(document.querySelector('div.figure')).color")
    assert ink == page.evaluate("getComputedStyle(document.querySelector('article p')).color")
    for number in range(figures.count()):
        figure = figures.nth(number)
        assert len(figure.get_attribute("aria-label")) > 40
        box = figure.bounding_box()
        assert box["width"] > 200
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= SEEN[way][1]
    background = page.evaluate("getComputedStyle(document.querySelector('.text_html:has(> .figure)')).backgroundColor")
    assert background == "rgba(0, 0, 0, 0)", "no light box in the dark"


@pytest.mark.parametrize("name", NAMES)
def test_mathematics_is_rendered_and_numbered(visit, name):
    page = visit(name)
    page.wait_for_selector("mjx-container")
    assert page.locator("mjx-merror").count() == 0
    assert page.locator(".math .eqno").count() >= 5 or name not in CHAPTERS


@pytest.mark.parametrize("name", CHAPTERS)
@pytest.mark.parametrize("way", SEEN)
def test_every_knob_of_every_interactive_figure_answers_to_mouse_and_keyboard(visit, name, way):
    page = visit(name, way)
    state = "plot => JSON.stringify(plot.data.map(trace => [trace.x, trace.y, trace.z, trace.text]))"

    def changes(plot, drawn):
        """Wait until the figure no longer shows what was drawn."""
        page.wait_for_function(f"([plot, drawn]) => ({state})(plot) !== drawn", arg=[plot.element_handle(), drawn])

    figures = page.locator("div.interactive").all()
    assert figures
    for figure in figures:
        assert len(figure.get_attribute("aria-label")) > 40
        figure.locator(".main-svg").first.wait_for()
        plot = figure.locator(".js-plotly-plot")
        assert plot.evaluate("plot => plot.getBoundingClientRect().right") <= SEEN[way][1]
        grid = "plot => Array.from(plot.querySelectorAll('.gridlayer path'), path => getComputedStyle(path).stroke)"
        assert set(plot.evaluate(grid)) <= {"rgb(128, 128, 128)"}, "a grid that glares in the dark"
        for knob in figure.locator("label").all():
            slider, shown = knob.locator("input"), knob.locator("output")
            slider.focus()
            if slider.input_value() != "0":
                drawn = plot.evaluate(state)
                page.keyboard.press("Home")
                changes(plot, drawn)
            drawn, first = plot.evaluate(state), shown.inner_text()
            page.keyboard.press("ArrowRight")
            assert shown.inner_text() != first
            assert slider.get_attribute("aria-valuetext") == shown.inner_text()
            changes(plot, drawn)

            drawn = plot.evaluate(state)
            page.keyboard.press("Home")
            changes(plot, drawn)
            drawn = plot.evaluate(state)
            box = slider.bounding_box()
            page.mouse.click(box["x"] + box["width"] - 5, box["y"] + box["height"] / 2)
            assert slider.input_value() == slider.get_attribute("max")
            changes(plot, drawn)


@pytest.mark.parametrize("name", CHAPTERS)
def test_exercises_unfold(visit, name):
    page = visit(name)
    solution = page.locator("div.solution").first
    assert solution.locator("div.cell").first.is_hidden()
    solution.locator(".toggle-button, button").first.click()
    solution.locator("div.cell").first.wait_for(state="visible")


@pytest.mark.parametrize("name", PAGES)
def test_internal_links_lead_somewhere(visit, name):
    page = visit(name)
    links = page.evaluate("Array.from(document.querySelectorAll('a[href]'), a => a.href)")
    for link in {link for link in links if link.startswith("file:")}:
        path, _, anchor = link.removeprefix("file://").partition("#")
        path = Path(path.partition("?")[0])
        assert path.exists(), link
        if anchor and path.suffix == ".html":
            assert f'id="{anchor}"' in path.read_text("utf-8"), link


def test_claims_lead_to_the_cell_that_measured_them(visit):
    page = visit("claims")
    links = page.locator("table.ledger a[href*='#record-']")
    assert links.count() >= 8
    links.first.click()
    page.wait_for_url("**/convolutional_networks.html#record-*")
    assert page.locator(":target").count() == 1


def test_search_finds_a_word_of_each_chapter(visit):
    page = visit("index")
    page.goto(page.url.replace("book/index.html", "search.html?q=equivariance"))
    page.wait_for_selector("#search-results li a")
    assert "Convolutional networks" in page.locator("#search-results").inner_text()


def test_the_switch_turns_the_page_dark(visit):
    page = visit("index")
    for _ in range(3):
        page.locator(".theme-switch-button").first.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            return
    pytest.fail("the theme switch never reached dark")


@pytest.mark.parametrize("name", NAMES)
def test_colab_opens_the_notebook_and_the_script_can_be_downloaded(visit, name):
    page = visit(name)
    links = page.evaluate("Array.from(document.querySelectorAll('.article-header-buttons a[href]'), a => a.href)")
    assert any(link.endswith(f"/notebooks/{name}.ipynb") and "colab" in link for link in links)
    assert any("mybinder.org" in link for link in links)
    (script,) = [link for link in links if link.endswith(f"{name}.py")]
    assert Path(script.removeprefix("file://")).read_text("utf-8") == (ROOT / "code" / f"{name}.py").read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_heavy(book, name):
    assert (Path(book) / "book" / f"{name}.html").stat().st_size < 1_500_000
