"""Serve plotly.js from the book itself, on the pages that have an interactive figure."""

import shutil
from pathlib import Path


def add_script(app, pagename, templatename, context, doctree):
    if "plotly-graph-div" in context.get("body", ""):
        app.add_js_file("plotly.min.js", loading_method=None)


def copy_script(app, exception):
    if exception is None and app.builder.format == "html":
        import plotly

        source = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
        shutil.copy2(source, Path(app.outdir, "_static"))


def setup(app):
    app.connect("html-page-context", add_script)
    app.connect("build-finished", copy_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
