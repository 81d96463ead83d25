"""What the tests share: the executed book, copies of the tree to break, and the chapters' own code."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "book" / "_ext")]

from breaks import (  # noqa: E402, F401  the hooks that count the breaks and print the ledger
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from records import executed_chapters  # noqa: E402

# The tests run side by side, and threads of NumPy that wait for a busy core make it many times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def run(command, cwd=ROOT, check=True, timeout=3600, **environment):
    """Run a command and return it with its output; None removes a variable from its environment."""
    merged = {**os.environ, **environment}
    merged = {key: value for key, value in merged.items() if value is not None}
    done = subprocess.run(command, cwd=cwd, env=merged, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        pytest.fail(f"{command} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


def processor_seconds():
    """Seconds of processor time of all commands that were run so far: other tests keep the cores busy meanwhile."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def copy_tree(target):
    """Copy what git would commit (and what is new and not ignored) to a folder; times are kept for make's sake."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"]).stdout.split("\n")
    for name in filter(None, listed):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def build(root, check=True, **environment):
    """Build the book that lies in `root` with this environment's Python and the code that lies there."""
    environment = {"PYTHONPATH": str(root / "code"), **environment}
    return run([sys.executable, "tools/build.py"], cwd=root, check=check, **environment)


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """The book itself, built in place (what is executed already comes from the cache); its output folder.

    Once for all workers: a second build would write style sheets anew while the browser of another worker reads them.
    """
    built = tmp_path_factory.getbasetemp().parent / f"book-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    with FileLock(f"{built}.lock"):
        if not built.exists():
            print(run([sys.executable, "tools/build.py"]).stdout)
            built.touch()
    return ROOT / "_build" / "html"


@pytest.fixture(scope="session")
def records(book):
    """The executed book's records by chapter, skipping where they claim nothing."""
    chapters = executed_chapters()
    provenance = next(iter(chapters.values()))[0]["provenance"]
    if provenance["offline"]:
        pytest.skip("offline edition: no data set was found, so nothing can be reproduced")
    if provenance["profile"] == "smoke":
        pytest.skip("the smoke profile claims nothing: unset CALIPERS_PROFILE to reproduce the book's numbers")
    return chapters


@pytest.fixture
def small_book(tmp_path):
    """A copy of the house with one tiny executed page in it, to build and to break in seconds."""
    root = copy_tree(tmp_path / "house")
    for page in (root / "book").glob("*.md"):
        page.unlink()
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: book/tiny\n")
    (root / "book/index.md").write_text("# A small book\n\nIt has one page.\n")
    (root / "book/tiny.md").write_text(TINY)
    return root


HEADER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""

TINY = (
    HEADER
    + """\
# Tiny

It measured {glue:text}`tiny-value`. Below zero lies {glue:text}`tiny-below.mean:.1f`.

```{code-cell}
import calipers
calipers.record("tiny-value", 42, equals=42, title="An answer")
calipers.record("tiny-below", -0.5, title="A negative number")
```
"""
)


def data_folder():
    """The data sets beside the checkout, for copies of the tree that lie elsewhere; None where there are none."""
    folder = os.environ.get("CALIPERS_DATA") or str(ROOT.parent / "shared" / "datasets")
    return folder if Path(folder).is_dir() else None
