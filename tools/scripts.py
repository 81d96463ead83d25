"""Write code/<chapter>.py from book/<chapter>.md, one way. ``--check`` only says which scripts are out of step."""

import sys
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]


def chapters():
    """List the pages that hold code."""
    return [page for page in sorted((ROOT / "book").glob("*.md")) if "format_name: myst" in page.read_text("utf-8")]


def script_text(page):
    """Write a page as a percent script, with a header that says where it comes from."""
    notebook = jupytext.read(page, fmt="md:myst")
    notebook.metadata = {"jupytext": {"notebook_metadata_filter": "-all", "cell_metadata_filter": "-all"}}
    header = f"# Written from book/{page.name} by `make scripts`. Edit that page, not this file.\n\n"
    return header + jupytext.writes(notebook, fmt="py:percent")


def main(check):
    stale = []
    for page in chapters():
        script = ROOT / "code" / f"{page.stem}.py"
        text = script_text(page)
        if not script.exists() or script.read_text("utf-8") != text:
            stale.append(f"code/{script.name}")
            if not check:
                script.write_text(text, "utf-8")
    if check and stale:
        sys.exit(f"Out of step with their pages: {', '.join(stale)}. Run `make scripts`.")
    print(f"Wrote {', '.join(stale)}" if stale else "The scripts are in step with their pages.")


if __name__ == "__main__":
    main("--check" in sys.argv)
