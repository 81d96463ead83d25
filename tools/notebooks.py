"""Write one clean notebook a chapter to _build/notebooks, for Colab and Binder.

The code is the page's. MyST's directives and roles become plain Markdown, glued values are written in, and a set-up
cell that installs `calipers` comes first. Where it is installed from is one setting, ``CALIPERS_INSTALL_FROM``.
"""

import json
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
import yaml
from scripts import ROOT, chapters

sys.path.append(str(ROOT / "book" / "_ext"))

from book_reference import quote

FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<kind>[\w:-]+)\}[ \t]*(?P<title>[^\n]*)\n(?P<body>.*?)^(?P=fence)[ \t]*$", re.M | re.S
)
OPTIONS = re.compile(r"\A(?::[\w-]+:[^\n]*\n)+")
LABEL = re.compile(r"^\([\w:-]+\)=\n", re.M)
EQUATION = re.compile(r"\$\$(?P<body>.*?)\$\$ *\((?P<label>[\w:-]+)\)", re.S)
TARGET = re.compile(r"^\((?P<label>[\w:-]+)\)=\n+#+ (?P<title>.*)$", re.M)
EXERCISE = re.compile(r"^`{3,}\{exercise\} (?P<title>.*)\n:label: (?P<label>.*)$", re.M)
LINK = re.compile(r"\]\((?P<target>\w+\.md|(?:ch|sec)-[\w-]+)\)")
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
ROLE = re.compile(r"\{(?P<kind>[\w:-]+)\}`(?P<text>[^`]+)`")


def glued(chapter):
    """What the executed page glued, by key, as text."""
    path = ROOT / "_build" / "jupyter_execute" / "book" / f"{chapter}.glue.json"
    found = json.loads(path.read_text("utf-8"))
    return {key: value["data"].get("text/plain", "").strip("'") for key, value in found.items()}


def targets():
    """Map what pages link to, pages, headings and exercises, to its address in the published book and its title."""
    found = {}
    for path in sorted((ROOT / "book").glob("*.md")):
        text, address = path.read_text("utf-8"), f"{CONFIG['html']['baseurl']}book/{path.stem}.html"
        found[path.name] = address, path.stem
        for match in (*TARGET.finditer(text), *EXERCISE.finditer(text)):
            found[match["label"]] = f"{address}#{match['label']}", match["title"]
    return found


def plain(text, values, equations, known, page=None):
    """Turn MyST Markdown into Markdown that Colab and Jupyter show.

    Parameters
    ----------
    text : str
    values : dict
        Glued values by key.
    equations : dict
        Numbers of the page's labelled equations.
    known : dict
        What `targets` returns.
    page : str, optional
        Its name, for what it quotes from its reference run.
    """
    text = LABEL.sub("", text)
    text = LINK.sub(lambda m: f"]({known[m['target']][0]})", text)
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
            return format(float(values[key]), spec) if spec else values[key]
        if kind == "reference":
            return quote(ROOT, page, content)
        if kind == "eq":
            return f"({equations[content]})"
        if kind == "math":
            return f"${content}$"
        if kind.startswith("cite"):
            return f"[{content}]"
        shown, label = re.fullmatch(r"(?s)(?:(.*?)\s*<)?(.*?)>?", content).groups()
        if kind in ("ref", "numref"):
            address, title = known[label]
            return f"[{shown or title}]({address})"
        return shown or label

    return ROLE.sub(role, FENCE.sub(fence, text)).strip()


def setup_source():
    """The first cell's code: install calipers where the notebook runs."""
    source = os.environ.get("CALIPERS_INSTALL_FROM", f"git+{CONFIG['repository']['url']}")
    return f'# Install what this chapter needs; run this cell first.\n%pip install -q "calipers[chapters] @ {source}"'


def notebook(page, known):
    """Convert one page; `known` is what `targets` returns."""
    result = jupytext.read(page, fmt="md:myst")
    values = glued(page.stem)
    labels = [match["label"] for match in EQUATION.finditer(page.read_text("utf-8"))]
    equations = {label: number for number, label in enumerate(labels, start=1)}
    for cell in result.cells:
        cell.metadata = {}
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, values, equations, known, page.stem)
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
    known = targets()
    for page in chapters():
        path = Path(folder, f"{page.stem}.ipynb")
        nbformat.write(notebook(page, known), path)
        print(f"Wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
