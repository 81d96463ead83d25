"""Read the records of the executed book, for the results files and the tests."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))

from book_records import notebook_records  # noqa: E402


def executed_chapters(root=ROOT):
    """Map each executed chapter's name to its list of records (dicts)."""
    folder = Path(root, "_build", "jupyter_execute", "book")
    chapters = {path.stem: notebook_records(path) for path in sorted(folder.glob("*.ipynb"))}
    return {name: records for name, records in chapters.items() if records}
