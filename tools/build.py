"""Build the book: look for the data, choose the edition, run Jupyter Book strictly, say which page to open."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def missing_datasets():
    """Name the data sets that the pages load and that are neither here nor to be had, and print why."""
    from calipers import datasets

    text = "".join(page.read_text("utf-8") for page in sorted((ROOT / "book").glob("*.md")))
    missing = []
    for name in sorted(set(re.findall(r'datasets\.load\("(\w+)"\)', text))):
        if datasets.is_here(name):
            continue
        try:
            datasets.load(name)
        except datasets.DatasetError as error:
            print(error, file=sys.stderr)
            missing.append(name)
    return missing


def main():
    start = time.monotonic()
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, "CALIPERS_BUILD": "1"}
    if environment.get("CALIPERS_OFFLINE") != "1" and (missing := missing_datasets()):
        print(f"\nNot found: {', '.join(missing)}. Building the OFFLINE EDITION: smoke profile, stand-in data.\n")
        environment |= {"CALIPERS_OFFLINE": "1"}
    if environment.get("CALIPERS_OFFLINE") == "1":
        environment |= {"CALIPERS_PROFILE": "smoke"}
    jupyter_book = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", jupyter_book, "build", str(ROOT), "-W", "-n", "--keep-going"]
    status = subprocess.run(command, env=environment, check=False).returncode
    if status:
        # Sphinx would not read an unchanged page again, so a second build would pass in silence.
        (ROOT / "_build/.doctrees/environment.pickle").unlink(missing_ok=True)
        sys.exit(f"The book was NOT built (status {status}): mend what is named above and run `make book` again.")
    page = ROOT / "_build/html/index.html"
    print(f"\nThe book was built in {time.monotonic() - start:.0f} s. Open {page.as_uri()}")


if __name__ == "__main__":
    main()
