"""The figures' style: Okabe-Ito colours, text that follows the page's light or dark theme, a description for all."""

import base64
import html
import io
import itertools
import json
import math
import os
import re
import sys

# Okabe and Ito (2008), "Color Universal Design": told apart by readers with any colour vision. Black is left to the
# text, whose colour follows the theme; yellow is left out, because it vanishes on white.
COLOURS = {
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
}
_CYCLE = [COLOURS[name] for name in ("blue", "vermilion", "green", "purple", "orange", "sky")]
_drawn = itertools.count(1)
_INK = "#010203"  # black in print; "currentColor" in SVG, so that text takes the page's colour


def style():
    """Set matplotlib's style for the book: call once, in a chapter's first cell."""
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "figure.figsize": (4.8, 3.3),  # inches: at 375 px its 12-point letters are still 12 px high
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "font.size": 12,
            "axes.prop_cycle": mpl.cycler(color=_CYCLE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.25,
            "lines.linewidth": 2,
            "legend.frameon": False,
            "image.cmap": "gray_r",
            "svg.fonttype": "none",
            **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor"), "none"),
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "axes.edgecolor"), _INK),
            **dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), _INK),
        }
    )


def show(figure=None, *, alt):
    """Show a figure: in a notebook or page as an image that follows the theme, in a script in a window if there is one.

    Parameters
    ----------
    figure : matplotlib.figure.Figure, optional
        The current figure by default.
    alt : str
        What is seen, for readers who do not see it; printed by scripts.

    Raises
    ------
    ValueError
        If `alt` is empty.
    """
    import matplotlib.pyplot as plt

    if not alt.strip():
        raise ValueError("A figure needs alt text: say in a sentence or two what is seen in it.")
    figure = figure or plt.gcf()
    if _in_kernel():
        from IPython.display import display

        display({"text/html": inline_svg(figure, alt), **_fallbacks(figure, alt)}, raw=True)
        plt.close(figure)
        return
    print(f"(figure) {alt}", flush=True)
    if plt.get_backend().lower() == "agg" or not sys.stdout.isatty():
        plt.close(figure)
    else:
        plt.show()


def show_interactive(figure, static, *, knobs, alt, start=None):
    """Show a Plotly figure with a slider for every knob; in print and in scripts show its static twin.

    The sliders are the browser's own, so that mouse, touch and keyboard move them (Plotly's answer to the mouse alone).

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
        Its frames are the settings of the knobs, in the order of ``itertools.product(*knobs.values())``: the last knob
        changes fastest. What it shows at the start is for the chapter to set, as the figure's own data.
    static : matplotlib.figure.Figure
        What a reader of the PDF sees instead.
    knobs : dict of str to sequence of str
        What each slider chooses, and the names of its positions.
    alt : str
        What is seen, and what the sliders change.
    start : dict of str to str, optional
        The position at which a slider stands at the start, for the knobs that do not start at their first.

    Raises
    ------
    ValueError
        If there is not one frame for every combination of the knobs' positions, or `start` names no position of them.
    """
    import matplotlib.pyplot as plt

    combinations = math.prod(len(positions) for positions in knobs.values())
    if not knobs or len(figure.frames) != combinations:
        raise ValueError(
            f"The knobs have {combinations} combinations and the figure {len(figure.frames)} frames: give one frame for "
            "each combination, in the order of itertools.product(*knobs.values())."
        )
    start = {name: positions[0] for name, positions in knobs.items()} | (start or {})
    for name, position in start.items():
        if position not in knobs.get(name, ()):
            raise ValueError(f"No knob {name!r} with a position {position!r}: `start` has to name a position of `knobs`.")
    if not _in_kernel():
        show(static, alt=alt)
        return
    from IPython.display import display

    for number, frame in enumerate(figure.frames):
        frame.name = str(number)
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#808080", "size": 14},
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
    )
    faint = "rgba(128, 128, 128, 0.3)"  # Plotly's own grid is white: glaring in the dark, unseen in the light
    for axes in (figure.update_xaxes, figure.update_yaxes):
        axes(gridcolor=faint, zerolinecolor=faint)
    # The book serves plotly.js itself (book/_ext/book_plotly.py); a notebook elsewhere needs a copy of its own.
    division = figure.to_html(
        full_html=False,
        include_plotlyjs=os.environ.get("CALIPERS_BUILD") != "1",
        include_mathjax=False,
        auto_play=False,
        config={"displayModeBar": False, "responsive": True},
        post_script=_SLIDER_SCRIPT,
    )
    # The sliders come first, because Plotly's script runs as soon as the browser has read the division.
    sliders = "".join(_slider(name, positions, start[name]) for name, positions in knobs.items())
    shown = f'<div class="interactive" role="group" aria-label="{html.escape(alt)}">{sliders}{division}</div>'
    display({"text/html": shown, **_fallbacks(static, alt)}, raw=True)
    plt.close(static)


def _slider(name, positions, start):
    shown, place = html.escape(start), list(positions).index(start)
    return (
        f"<label>{html.escape(name)}: <output>{shown}</output>"
        f'<input type="range" min="0" max="{len(positions) - 1}" value="{place}" aria-valuetext="{shown}" '
        f'data-positions="{html.escape(json.dumps(list(positions)))}"></label>'
    )


_SLIDER_SCRIPT = """
const plot = document.getElementById("{plot_id}");
const sliders = [...plot.closest(".interactive").querySelectorAll("input")];
for (const slider of sliders) slider.addEventListener("input", () => {
    const position = JSON.parse(slider.dataset.positions)[slider.value];
    slider.closest("label").querySelector("output").textContent = position;
    slider.setAttribute("aria-valuetext", position);
    const frame = sliders.reduce((before, knob) => before * (Number(knob.max) + 1) + Number(knob.value), 0);
    Plotly.animate(plot, [String(frame)],
        {mode: "immediate", frame: {duration: 0, redraw: true}, transition: {duration: 0}});
});
"""


def _in_kernel():
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def inline_svg(figure, alt):
    """Draw the figure as SVG whose text takes the page's colour and whose ids are its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    prefix = f"f{next(_drawn)}-"  # not the figure's number: pyplot gives that again once the figure is closed
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    width = re.search(r'width="([\d.]+)pt"', svg)[1]
    size = f'style="width: {float(width) * 96 / 72:.0f}px; max-width: 100%; height: auto"'
    svg = re.sub(
        r'<svg [^>]*?height="[\d.]+pt"', lambda m: re.sub(r'(width|height)="[\d.]+pt"', "", m[0]), svg, count=1
    )
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt, quote=True)}" {size} ', 1)
    return f'<div class="figure">{svg}</div>'


def _fallbacks(figure, alt):
    """PNG on white for print; plain text for readers of the raw notebook."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", bbox_inches="tight")
    return {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": alt}
