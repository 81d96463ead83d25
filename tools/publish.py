"""Put the built book into one folder that any static host can serve: the HTML, and one clean notebook a chapter."""

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def publish(folder):
    """Replace `folder` by this edition; anything but an earlier edition in it is refused."""
    mark = folder / ".nojekyll"  # which also tells GitHub Pages to serve _static and _sources
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        sys.exit(f"{folder} holds something else than an edition of this book. Name an empty folder or a new one.")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "_build/html", folder)
    for notebooks in ("notebooks", "_sources/book"):  # for Colab, and for the page's download button
        shutil.copytree(ROOT / "_build/notebooks", folder / notebooks, dirs_exist_ok=True)
    mark.touch()
    print(f"Published to {folder}")


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
