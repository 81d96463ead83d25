"""Read the records of the executed book, for the results files and the tests."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from book_records import glued_records  # noqa: E402


def executed_chapters(root=ROOT):
    """Map each executed chapter's name to its list of records (dicts)."""
    folder = Path(root, "_build", "jupyter_execute", "book")
    pages = sorted(path for path in Path(root, "book").glob("*.md") if (folder / f"{path.stem}.glue.json").exists())
    chapters = {page.stem: glued_records(folder / f"{page.stem}.glue.json") for page in pages}
    return {name: records for name, records in chapters.items() if records}
