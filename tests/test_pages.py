"""The book in a real browser: every page in light, in dark and at the width of a phone, with the network cut off.

A page is opened once in each of the three ways, and everything is asked of it there. In the dark it comes from a local
server, else from the file.
"""

import functools
import http.server
import io
import re
import threading
from pathlib import Path

import numpy as np
import pdf
import pytest
from axe_playwright_python.sync_playwright import Axe
from chapters import CHAPTERS, NAMES
from conftest import ROOT
from PIL import Image

PAGES = sorted(path.stem for path in (ROOT / "book").glob("*.md"))
SEEN = {"light": ("light", 1280), "dark": ("dark", 1280), "phone": ("light", 375)}
AXE = {"resultTypes": ["violations"], "preload": False}  # it would load the style sheets once more


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    if not pdf.chromium():
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=pdf.chromium(), args=pdf.QUIET)
        yield instance
        instance.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the book and says nothing of it."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def served(book):
    """The address of the book on a local server."""
    handler = functools.partial(Quiet, directory=str(book))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def visit(browser, book, served):
    """Open a page in one of the three ways; the page, with what it asked for and complained about."""
    contexts = []

    def open_page(name, way="light"):
        scheme, width = SEEN[way]
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.name, page.way, page.home = name, way, served if way == "dark" else Path(book).as_uri()
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("requestfailed", lambda request: failed(page, request))
        page.goto(f"{page.home}/book/{name}.html")
        page.wait_for_load_state("load")
        page.wait_for_function("!window.MathJax || !MathJax.startup || MathJax.startup.promise.then(() => true)")
        return page

    yield open_page
    for context in contexts:
        context.close()


def failed(page, request):
    """Complain of a request that failed; one that a reload cut short (`paints_soon`) did not fail."""
    if request.failure != "net::ERR_ABORTED":
        page.complaints.append(f"failed: {request.url}, {request.failure}")


def fits(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= SEEN[page.way][1]


def paints_soon(page):
    """In less than a second; a machine that is busy with other tests may take five tries."""
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    seconds = []
    while len(seconds) < 5 and (not seconds or seconds[-1] >= 1):
        if seconds:
            page.reload()
        seconds.append(page.wait_for_function(paint).json_value() / 1000)
    assert min(seconds) < 1, seconds


def has_no_fault_that_axe_calls_serious(page):
    """Drawings are one picture to a reader, and code has one style: without all but a little of it axe is quick."""
    page.evaluate("""() => {
        const drawn = document.querySelectorAll("mjx-container, .figure svg, .js-plotly-plot")
        const code = document.querySelectorAll("div.highlight")
        for (const element of [...drawn, ...Array.from(code).slice(5)]) element.remove()
    }""")
    options = AXE if page.way == "light" else {**AXE, "runOnly": ["color-contrast"]}  # only colours change in the dark
    found = Axe().run(page, options=options).response["violations"]
    faults = {fault["id"]: fault["nodes"] for fault in found if fault["impact"] in ("serious", "critical")}
    assert not faults


def can_be_reached_by_keyboard(page):
    """All that can be clicked, and is not folded away, takes the focus."""
    missed = page.evaluate("""
        Array.from(document.querySelectorAll("a, button, input, summary, [role=button], [onclick]"))
            .filter(element => element.checkVisibility({visibilityProperty: true}))
            .filter(element => { element.focus(); return element.tabIndex < 0 || document.activeElement !== element })
            .map(element => element.outerHTML)""")
    assert not missed


def mathematics_is_rendered(page):
    assert page.locator("mjx-merror").count() == 0
    assert page.locator(".math:not(:has(mjx-container))").count() == 0
    raw = page.evaluate("""Array.from(document.querySelectorAll("article p, article li"), element => {
        const prose = element.cloneNode(true)
        for (const other of prose.querySelectorAll(".math, code, pre, script, svg")) other.remove()
        return prose.textContent.match(/\\\\[a-z]{2,}/)?.[0]
    }).filter(Boolean)""")
    assert not raw, "a formula that was read as text"


def links_lead_somewhere(page):
    links = page.evaluate("Array.from(document.querySelectorAll('a[href]'), a => a.href)")
    for link in {link for link in links if link.startswith("file:")}:
        path, _, anchor = link.removeprefix("file://").partition("#")
        path = path.partition("?")[0]
        assert Path(path).exists(), link
        assert not anchor or not path.endswith(".html") or anchor in anchors(path), link


@functools.cache
def anchors(path):
    """The ids of a file."""
    return set(re.findall(r'id="([^"]+)"', Path(path).read_text("utf-8")))


def turns_dark(page):
    for _ in range(3):
        page.locator(".theme-switch-button").first.click()
        if page.evaluate("document.documentElement.dataset.theme") == "dark":
            return
    pytest.fail("the theme switch never reached dark")


def asks_nobody_and_complains_of_nothing(page):
    outside = [url for url in page.requested if not url.startswith((page.home, "data:", "blob:"))]
    assert not outside
    assert not page.complaints


def figures_are_described_and_take_its_colour(page):
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
        assert box["x"] + box["width"] <= SEEN[page.way][1]
    background = page.evaluate("getComputedStyle(document.querySelector('.text_html:has(> .figure)')).backgroundColor")
    assert background == "rgba(0, 0, 0, 0)", "no light box in the dark"


def interactive_figures_are_described_and_fit(page):
    figures = page.locator("div.interactive").all()
    assert figures
    for figure in figures:
        assert len(figure.get_attribute("aria-label")) > 40
        figure.locator(".main-svg").first.wait_for()
        plot = figure.locator(".js-plotly-plot")
        assert plot.evaluate("plot => plot.getBoundingClientRect().right") <= SEEN[page.way][1]
        grid = "plot => Array.from(plot.querySelectorAll('.gridlayer path'), path => getComputedStyle(path).stroke)"
        assert set(plot.evaluate(grid)) <= {"rgb(128, 128, 128)"}, "a grid that glares in the dark"


def every_knob_answers_to_mouse_and_keyboard(page):
    state = "plot => JSON.stringify(plot.data.map(trace => [trace.x, trace.y, trace.z, trace.text]))"

    def changes(plot, drawn):
        """Wait until the figure no longer shows what was drawn."""
        page.wait_for_function(f"([plot, drawn]) => ({state})(plot) !== drawn", arg=[plot.element_handle(), drawn])

    for figure in page.locator("div.interactive").all():
        plot = figure.locator(".js-plotly-plot")
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


def equations_are_numbered(page):
    assert page.locator(".math .eqno").count() >= 5


def exercises_unfold(page):
    solution = page.locator("div.solution").first
    assert solution.locator("div.cell").first.is_hidden()
    solution.locator(".toggle-button, button").first.click()
    solution.locator("div.cell").first.wait_for(state="visible")


# What is asked of every page, and of every chapter before that, in each of the three ways.
FIGURES = [figures_are_described_and_take_its_colour, interactive_figures_are_described_and_fit]
CHAPTER = {
    "light": [equations_are_numbered, *FIGURES, every_knob_answers_to_mouse_and_keyboard, exercises_unfold],
    "dark": [paints_soon, *FIGURES],
    "phone": [*FIGURES, every_knob_answers_to_mouse_and_keyboard],
}
READING = [mathematics_is_rendered, links_lead_somewhere, can_be_reached_by_keyboard]
PAGE = {
    "light": [fits, *READING, has_no_fault_that_axe_calls_serious, turns_dark, asks_nobody_and_complains_of_nothing],
    "dark": [fits, has_no_fault_that_axe_calls_serious, asks_nobody_and_complains_of_nothing],
    "phone": [fits, asks_nobody_and_complains_of_nothing],
}


@pytest.mark.parametrize("way", SEEN)
@pytest.mark.parametrize("name", PAGES)
def test_page(visit, subtests, name, way):
    page = visit(name, way)
    for check in (CHAPTER[way] if name in CHAPTERS else []) + PAGE[way]:
        with subtests.test(check.__name__):
            check(page)


FAULTS = {
    mathematics_is_rendered: '<span class="math">\\(x\\)</span>',
    fits: '<p style="width: 3000px">wide</p>',
    links_lead_somewhere: '<a href="index.html#nowhere">dead</a>',
    can_be_reached_by_keyboard: '<span role="button">pressed by mouse alone</span>',
    has_no_fault_that_axe_calls_serious: '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
    asks_nobody_and_complains_of_nothing: '<img src="http://127.0.0.1:9/counter.gif" alt="">',
}


def test_a_page_with_a_fault_is_noticed(visit, subtests):
    page = visit("index")
    for check, fault in FAULTS.items():
        with subtests.test(check.__name__):
            add = "fault => document.querySelector('article').insertAdjacentHTML('beforeend', fault)"
            page.evaluate(add, fault)
            page.wait_for_timeout(100)
            with pytest.raises(AssertionError):
                check(page)
            page.evaluate("document.querySelector('article').lastElementChild.remove()")


def test_tab_walks_through_a_page(visit):
    """Every link and button of a page can be reached by Tab alone."""
    page = visit("claims")
    page.evaluate("document.addEventListener('focusin', event => { event.target.reached = true })")
    missed = "Array.from(document.querySelectorAll('article a[href], article button')).filter(e => !e.reached)"
    for _ in range(page.evaluate(f"{missed}.length") + 100):  # the sidebar's come first
        page.keyboard.press("Tab")
    assert not page.evaluate(f"{missed}.map(element => element.outerHTML)")


def test_a_table_shades_the_side_where_there_is_more_of_it(visit):
    table = visit("notation", "phone").locator(".pst-scrollable-table-container:has(table)").nth(1)
    assert table.evaluate("table => table.scrollWidth > table.clientWidth + 16"), "a wide table, for this test"

    def edge(side):
        """The mean brightness of a strip along an edge, down the table's height, once it was moved to a side."""
        table.evaluate("(table, side) => { table.scrollLeft = side === 'left' ? 0 : table.scrollWidth }", side)
        picture = np.asarray(Image.open(io.BytesIO(table.screenshot())).convert("L"), float)
        return {"left": picture[:, :4].mean(), "right": picture[:, -4:].mean()}

    at_left, at_right = edge("left"), edge("right")
    assert at_left["right"] < at_left["left"] - 20
    assert at_right["left"] < at_right["right"] - 20


def test_claims_lead_to_the_cell_that_measured_them(visit):
    page = visit("claims")
    links = page.locator("table.ledger a[href*='#record-']")
    assert links.count() >= 8
    links.first.click()
    page.wait_for_url("**/*.html#record-*")
    assert page.locator(":target").count() == 1


def three_words(name):
    """The three longest words of a chapter's headings."""
    headings = re.findall(r"^#+ (.*)", (ROOT / "book" / f"{name}.md").read_text("utf-8").partition("\n---\n")[2], re.M)
    return sorted(set(re.findall(r"\b[a-z]+\b", " ".join(headings).lower())), key=lambda word: (len(word), word))[-3:]


def test_search_finds_three_words_of_each_chapter(visit, subtests):
    page = visit("index")
    page.goto(page.url.replace("book/index.html", "search.html?q=equivariance"))
    page.wait_for_selector("#search-results li a")
    assert "Convolutional networks" in page.locator("#search-results").inner_text()
    search = "word => Search._performSearch(...Search._parseQuery(word)).map(result => result[0])"
    assert page.evaluate(search, "xylophone") == []
    for name in NAMES:
        for word in three_words(name):
            with subtests.test(f"{name}: {word}"):
                assert f"book/{name}" in page.evaluate(search, word)


@pytest.mark.parametrize("name", NAMES)
def test_the_script_can_be_downloaded(book, name):
    html = (Path(book) / "book" / f"{name}.html").read_text("utf-8")
    (script,) = re.findall(rf'href="\.\./(_sources/book/{name}\.py)"', html)
    assert (Path(book) / script).read_text("utf-8") == (ROOT / "code" / f"{name}.py").read_text("utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_heavy(book, name):
    assert (Path(book) / "book" / f"{name}.html").stat().st_size < 1_500_000


def test_a_kernel_that_is_typed_is_the_one_that_the_figure_shows(visit):
    """Nine weights by keyboard: the one in the middle gives the photograph itself, one beside it the shifted one."""
    page = visit("convolutional_networks")
    boxes = page.locator("#kernel-editor input")
    assert boxes.count() == 9
    plot = page.locator(".interactive").first.locator(".js-plotly-plot")
    shown = "plot => [0, 1, 2].map(n => Array.from(plot._fullData[n].z, row => Array.from(row)))"
    for weight, row, column in ((1, 1, 1), (-2, 0, 2)):
        for number in range(9):
            boxes.nth(number).fill(str(weight) if number == 3 * row + column else "0")
        photograph, kernel, feature_map = (np.array(z, float)[::-1] for z in plot.evaluate(shown))
        assert kernel[row, column] == weight
        assert np.count_nonzero(kernel) == 1
        np.testing.assert_array_equal(feature_map, weight * photograph[row : row + 62, column : column + 62])
    slider = page.locator(".interactive").first.locator("input[type=range]").first
    slider.focus()
    page.keyboard.press("Home")
    assert [box.input_value() for box in boxes.all()] != ["0", "0", "-2", "0", "0", "0", "0", "0", "0"]
