"""Serve plotly.js from the book itself, on the pages that have an interactive figure; name its picture for print."""

import shutil
from pathlib import Path

from docutils import nodes


def name_twin(app, doctree):
    """Write the file of an interactive figure's static twin into its HTML, where tools/pdf.py looks for it."""
    for output in doctree.findall(nodes.container):
        if output.get("nb_element") == "mime_bundle":
            shown = {kind["mime_type"]: kind.children for kind in output.children}
            for raw in shown.get("text/html", []):
                if raw.astext().startswith('<div class="interactive"'):
                    (twin,) = shown["image/png"]
                    named = f'<div class="interactive" data-twin="{Path(twin["uri"]).name}"'
                    raw[0] = nodes.Text(raw.astext().replace('<div class="interactive"', named, 1))


def add_script(app, pagename, templatename, context, doctree):
    if "plotly-graph-div" in context.get("body", ""):
        app.add_js_file("plotly.min.js", loading_method=None)


def copy_script(app, exception):
    if exception is None and app.builder.format == "html":
        import plotly

        source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        shutil.copy2(source, Path(app.outdir, "_static"))


def setup(app):
    app.connect("doctree-read", name_twin)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", copy_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True, "env_version": 1}
