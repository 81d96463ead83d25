"""Point the Colab button at the exported notebook, and offer the script for download.

The theme would send Colab to the page's Markdown, which Colab cannot open. `make notebooks` writes a notebook a
chapter, and publishing puts them into the folder `notebooks` of the branch that `launch_branch` names.
"""

import shutil
from pathlib import Path


def repoint(app, pagename, templatename, context, doctree):
    script = Path(app.srcdir, "code", f"{Path(pagename).name}.py")
    if not script.exists():
        return
    repository = app.config.html_theme_options["repository_url"].removeprefix("https://github.com/").rstrip("/")
    colab = f"https://colab.research.google.com/github/{repository}/blob/{app.config.launch_branch}"
    sources = Path(app.outdir, "_sources", "book")
    sources.mkdir(parents=True, exist_ok=True)
    shutil.copy2(script, sources)
    for group in context["header_buttons"]:
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                if button.get("text") == "Colab":
                    button["url"] = f"{colab}/notebooks/{script.stem}.ipynb"
        if group.get("label") == "download-buttons":
            group["buttons"].insert(
                1,
                {
                    "type": "link",
                    "url": f"{context['pathto']('_sources', 1)}/book/{script.name}",
                    "text": ".py",
                    "icon": "fab fa-python",
                    "tooltip": "Download the chapter as a script",
                    "label": "download-script-button",
                },
            )


def setup(app):
    app.add_config_value("launch_branch", "gh-pages", "html")
    app.connect("html-page-context", repoint, priority=600)  # the theme fills the buttons at 501
    return {"parallel_read_safe": True, "parallel_write_safe": True}
