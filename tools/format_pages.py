"""Format the code cells of the pages with ruff, at the width that a page shows. ``--check`` only says which need it."""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from scripts import ROOT, chapters

CELL = re.compile(r"(^```\{code-cell\}[^\n]*\n(?::[^\n]*\n)*\n?)(.*?)(^```$)", re.M | re.S)
WIDTH = "88"


def formatted(text):
    """Return a page's text with its code cells formatted. Cells go to ruff as a notebook, so that `;` survives."""
    codes = [match[2] for match in CELL.finditer(text)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code.rstrip("\n")) for code in codes])
    with TemporaryDirectory() as folder:
        path = Path(folder, "page.ipynb")
        nbformat.write(notebook, path)
        ruff = [Path(sys.executable).with_name("ruff"), "format", "--quiet", "--isolated", "--line-length", WIDTH]
        subprocess.run([*ruff, path], check=True)
        cells = iter(nbformat.read(path, as_version=4).cells)
    return CELL.sub(lambda match: f"{match[1]}{next(cells).source}\n{match[3]}", text)


def main(check):
    stale = []
    for page in chapters():
        text = page.read_text("utf-8")
        if (new := formatted(text)) != text:
            stale.append(page.relative_to(ROOT).as_posix())
            if not check:
                page.write_text(new, "utf-8")
    if check and stale:
        sys.exit(f"Not formatted: {', '.join(stale)}. Run `make scripts`.")


if __name__ == "__main__":
    main("--check" in sys.argv)
