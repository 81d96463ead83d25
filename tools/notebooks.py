"""Write one clean notebook a chapter to _build/notebooks, for Colab and Binder.

The code is the page's. MyST's directives and roles become plain Markdown, glued values are written in, and a set-up
cell that installs `calipers` comes first. Where it is installed from is one setting, ``CALIPERS_INSTALL_FROM``.
"""

import json
import os
import re
from pathlib import Path

import jupytext
import nbformat
import yaml
from scripts import ROOT, chapters

FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>[\w:-]+)\}[ \t]*(?P<title>[^\n]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.M | re.S
)
OPTIONS = re.compile(r"\A(?::[\w-]+:[^\n]*\n)+")
LABEL = re.compile(r"^\([\w:-]+\)=\n", re.M)
EQUATION = re.compile(r"\$\$(?P<body>.*?)\$\$ *\((?P<label>[\w:-]+)\)", re.S)
PAGE_LINK = re.compile(r"\]\((\w+)\.md\)")
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
ROLE = re.compile(r"\{(?P<kind>[\w:-]+)\}`(?P<text>[^`]+)`")


def glued(chapter):
    """What the executed page glued, by key, as text."""
    path = ROOT / "_build" / "jupyter_execute" / "book" / f"{chapter}.glue.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return {key: value["data"].get("text/plain", "").strip("'") for key, value in found.items()}


def plain(text, values, equations):
    """Turn MyST Markdown into Markdown that Colab and Jupyter show.

    Parameters
    ----------
    text : str
    values : dict
        Glued values by key.
    equations : dict
        Numbers of the page's labelled equations.
    """
    text = LABEL.sub("", text)
    text = PAGE_LINK.sub(rf"]({CONFIG['html']['baseurl']}book/\1.html)", text)
    text = EQUATION.sub(lambda m: f"$${m['body'].rstrip()} \\tag{{{equations[m['label']]}}}$$", text)

    def fence(match):
        body = OPTIONS.sub("", match["body"]).strip("\n")
        kind, title = match["kind"], match["title"].strip()
        if kind in ("solution-end", "provenance"):
            return ""
        if kind == "solution-start":
            return "**Solution**"
        heading = f"Exercise: {title}" if kind == "exercise" else title or kind.capitalize()
        return "\n".join(f"> {line}".rstrip() for line in [f"**{heading}**", "", *body.splitlines()])

    def role(match):
        kind, content = match["kind"], match["text"]
        if kind == "glue:text":
            key, _, spec = content.partition(":")
            value = values.get(key, "(run the page)")
            return format(float(value), spec) if spec and key in values else value
        if kind == "eq":
            return f"({equations[content]})"
        if kind.startswith("cite"):
            return f"[{content}]"
        shown = re.match(r"(.*?)\s*<.*>$", content)
        return "below" if kind == "numref" else shown[1] if shown else content

    return ROLE.sub(role, FENCE.sub(fence, text)).strip()


def setup_source():
    """The first cell's code: install calipers where the notebook runs."""
    source = os.environ.get("CALIPERS_INSTALL_FROM", f"git+{CONFIG['repository']['url']}")
    return f"# Install what this chapter needs; run this cell first.\n%pip install -q {source}"


def notebook(page):
    """Convert one page."""
    result = jupytext.read(page, fmt="md:myst")
    values = glued(page.stem)
    labels = [match["label"] for match in EQUATION.finditer(page.read_text("utf-8"))]
    equations = {label: number for number, label in enumerate(labels, start=1)}
    for cell in result.cells:
        cell.metadata = {}
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, values, equations)
    result.cells = [cell for cell in result.cells if cell.source]
    result.cells.insert(0, nbformat.v4.new_code_cell(setup_source()))
    result.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "accelerator": "GPU",
        "colab": {"name": f"{page.stem}.ipynb"},
    }
    nbformat.validator.normalize(result)
    nbformat.validate(result)
    return result


def main():
    folder = ROOT / "_build" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for page in chapters():
        path = Path(folder, f"{page.stem}.ipynb")
        nbformat.write(notebook(page), path)
        print(f"Wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
