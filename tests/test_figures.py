"""Figures: described, coloured by the page, with ids of their own, and self-contained where they move."""

import base64
import html
import io
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest
from calipers import COLOURS, show, show_interactive, style
from calipers.figures import inline_svg
from nbclient import NotebookClient

CODE = Path(__file__).resolve().parents[1] / "code"
SVG = "{http://www.w3.org/2000/svg}"
ALT = 'Loss falls; the "deep" net\'s stays < 1 & flat.'


@pytest.fixture(autouse=True)
def book_style():
    """The book's style for the length of a test, without a window, and no figure left over."""
    with mpl.rc_context():
        plt.switch_backend("agg")
        style()
        yield
        plt.close("all")


def curves():
    """A figure with all that carries an id: lines, markers, clip paths, a legend, an image."""
    figure, (left, right) = plt.subplots(1, 2)
    for label in ("shallow", "deep"):
        left.plot([3, 2, 1], marker="o", label=label)
    left.set(xlabel="epoch", ylabel="loss", title="Training")
    left.legend()
    right.imshow(np.eye(3))
    return figure


def drawn(figure):
    """The figure as the page's SVG, parsed and in its text, and closed as `show` does."""
    text = inline_svg(figure, ALT)
    plt.close(figure)
    (svg,) = ET.fromstring(text)
    return svg, text


def ids(svg):
    return [element.get("id") for element in svg.iter() if element.get("id")]


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_alt_text_must_say_something(alt):
    with pytest.raises(ValueError, match="A figure needs alt text"):
        show(curves(), alt=alt)


def test_alt_text_cannot_be_left_out():
    with pytest.raises(TypeError, match="alt"):
        show(curves())


def test_svg_carries_the_alt_text():
    svg, _ = drawn(curves())
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == ALT


def test_svg_takes_the_pages_width():
    svg, _ = drawn(curves())
    assert svg.get("width") is None
    assert svg.get("height") is None
    assert re.fullmatch(r"width: \d+px; max-width: 100%; height: auto", svg.get("style"))
    assert svg.get("viewBox").startswith("0 0 ")


def test_words_in_the_svg_take_the_pages_colour():
    svg, text = drawn(curves())
    words = {element.text: element.get("style") for element in svg.iter(f"{SVG}text")}
    assert {"epoch", "loss", "Training", "shallow", "deep"} <= set(words)
    assert {word for word, css in words.items() if "fill: currentColor" not in css} == set()
    assert "#010203" not in text


def test_backgrounds_are_left_to_the_page():
    svg, _ = drawn(curves())
    patches = {element.get("id").split("-")[-1]: element for element in svg.iter() if element.get("id")}
    for name in ("patch_1", "patch_2"):  # the figure's and the first axes' backgrounds
        assert "fill: none" in patches[name].find(f"{SVG}path").get("style")


def test_lines_take_the_colours_that_all_readers_tell_apart():
    figure = curves()
    assert [line.get_color() for line in figure.axes[0].lines] == [COLOURS["blue"], COLOURS["vermilion"]]


def test_ids_are_unique_and_every_reference_finds_its_own():
    svg, text = drawn(curves())
    assert len(ids(svg)) == len(set(ids(svg)))
    referred = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    assert len(referred) > 5
    assert {first or second for first, second in referred} <= set(ids(svg))


def test_two_figures_of_a_page_share_no_id():
    """The second is drawn after the first was closed, as from one cell to the next."""
    first, second = set(ids(drawn(curves())[0])), set(ids(drawn(curves())[0]))
    assert len(first) == len(second)
    assert first & second == set()


def test_figure_made_without_pyplot_is_drawn():
    figure = mpl.figure.Figure()
    figure.subplots().plot([1, 2])
    svg, _ = drawn(figure)
    assert svg.get("aria-label") == ALT


SCRIPT = """
import matplotlib.pyplot as plt
import plotly.graph_objects as go
from calipers import show, show_interactive, style
style()
plt.plot([1, 2])
show(alt="A line rises.")
moving = go.Figure(frames=[go.Frame()])
show_interactive(moving, plt.figure(), knobs={"Depth": ["1"]}, alt="A line moves.")
print(plt.get_fignums())
"""


def test_script_without_a_display_prints_what_would_be_seen():
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**environment, "PYTHONPATH": str(CODE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.splitlines() == ["(figure) A line rises.", "(figure) A line moves.", "[]"], run.stderr


CELLS = {
    "imports": """
import os
import matplotlib.pyplot as plt, plotly.graph_objects as go
from calipers import show, show_interactive, style
style()
def moving():
    frames = [go.Frame(data=[go.Scatter(y=[depth, gain])]) for depth in (1, 2, 5) for gain in (1, 2)]
    return go.Figure(data=frames[0].data, frames=frames)
knobs = {"Depth < 6": ["1 layer", "2 layers", '5 "layers"'], "Gain": ["1", "2"]}
def static():
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    return figure
""",
    "show": """plt.plot([1, 2])\nshow(alt="A line rises.")""",
    "interactive": """show_interactive(moving(), static(), knobs=knobs, alt='A "line" moves.', start={"Gain": "2"})""",
    "elsewhere": """
del os.environ["CALIPERS_BUILD"]
show_interactive(moving(), static(), knobs=knobs, alt="A line moves.")
""",
}


@pytest.fixture(scope="module")
def shown():
    """What the cells show in a real kernel of the book's build: one output each, as a bundle of forms."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(CODE))
        patch.setenv("CALIPERS_BUILD", "1")
        NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    outputs = {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}
    assert outputs.pop("imports") == []
    assert {name: len(found) for name, found in outputs.items()} == dict.fromkeys(outputs, 1)
    return {name: found[0].data for name, found in outputs.items()}


def is_on_white(png):
    """Say whether base64 text is a PNG whose border is opaque and white, and whose inside has something dark."""
    pixels = plt.imread(io.BytesIO(base64.b64decode(png)))
    return bool((pixels[0] == 1).all() and (pixels[:, 0] == 1).all() and (pixels < 0.1).any())


@pytest.mark.parametrize(("cell", "alt"), [("show", "A line rises."), ("interactive", 'A "line" moves.')])
def test_notebook_holds_a_picture_for_print_and_words_for_the_raw_file(shown, cell, alt):
    assert set(shown[cell]) == {"text/html", "image/png", "text/plain"}
    assert is_on_white(shown[cell]["image/png"])
    assert shown[cell]["text/plain"] == alt


def test_notebook_shows_the_current_figure_as_svg(shown):
    (svg,) = ET.fromstring(shown["show"]["text/html"])
    assert svg.tag == f"{SVG}svg"
    assert svg.get("aria-label") == "A line rises."


def test_interactive_figure_has_sliders_that_keyboard_and_screen_reader_find(shown):
    page = shown["interactive"]["text/html"]
    depth, gain = re.findall(r"<input [^>]*>", page)
    assert 'type="range" min="0" max="2" value="0" aria-valuetext="1 layer"' in depth
    assert 'type="range" min="0" max="1" value="1" aria-valuetext="2"' in gain
    assert f"<label>Depth &lt; 6: <output>1 layer</output>{depth}</label><label>Gain: <output>2</output>{gain}" in page
    positions = html.unescape(re.search(r'data-positions="([^"]*)"', depth)[1])
    assert json.loads(positions) == ["1 layer", "2 layers", '5 "layers"']
    assert 'role="group" aria-label="A &quot;line&quot; moves."' in page
    assert 'getElementById("{plot_id}")' not in page


@pytest.mark.parametrize("start", [{"Depth": "3"}, {"Gain": "1"}])
def test_interactive_figure_starts_at_a_position_that_there_is(start):
    with pytest.raises(ValueError, match="`start` has to name a position"):
        show_interactive(go.Figure(frames=[go.Frame()]), curves(), knobs={"Depth": ["1"]}, alt=ALT, start=start)


@pytest.mark.parametrize("knobs", [{}, {"Depth": ["1", "2"]}, {"Depth": ["1", "2"], "Gain": ["1", "2"]}])
def test_interactive_figure_needs_a_frame_for_every_combination(knobs):
    with pytest.raises(ValueError, match="one frame for each combination"):
        show_interactive(go.Figure(frames=[go.Frame()] * 3), curves(), knobs=knobs, alt=ALT)


def test_interactive_figure_of_the_book_asks_nothing_of_the_net(shown):
    """The book serves plotly.js once for all figures: a figure brings none, and no address to fetch it from."""
    page = shown["interactive"]["text/html"]
    assert re.findall(r"<[^>]*\b(?:src|href)\s*=", page) == []
    assert "mathjax" not in page.lower()
    assert len(page) < 100_000
    assert "Plotly.newPlot" in page


def test_interactive_figure_elsewhere_brings_plotly_along(shown):
    page = shown["elsewhere"]["text/html"]
    assert len(page) > 1_000_000
    assert re.findall(r"<script[^>]*\bsrc\s*=", page) == []
