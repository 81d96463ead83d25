"""The package as a whole: light to import, and plain about a Python that is too old."""

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import processor_seconds

ROOT = Path(__file__).resolve().parents[1]
PRETEND_PYTHON_3_9 = "import sys; sys.version_info = (3, 9, 0)"
IMPORT_CALIPERS = "import calipers"
CHECK_PYTHON = f"import runpy; runpy.run_path({str(ROOT / 'tools/check_python.py')!r})"


def run(code, python=sys.executable):
    return subprocess.run(
        [python, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "code"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def seconds(code):
    """The best of three runs of Python, in processor seconds: other tests keep the cores busy meanwhile."""
    best = float("inf")
    for _ in range(3):
        start = processor_seconds()
        assert run(code).returncode == 0
        best = min(best, processor_seconds() - start)
    return best


def test_import_takes_less_than_half_a_second():
    assert seconds(IMPORT_CALIPERS) - seconds("pass") < 0.5


def test_import_loads_no_heavy_library():
    code = "import sys, calipers; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(run(code).stdout.split())
    assert "calipers" in loaded
    assert not loaded & {"keras", "tensorflow", "jax", "matplotlib", "scipy", "joblib", "IPython"}


def real_python_3_9():
    """Find a Python 3.9 that runs, or skip."""
    for python in [*glob.glob(os.path.expanduser("~/.pyenv/versions/3.9*/bin/python")), shutil.which("python3.9")]:
        if python and run("pass", python).returncode == 0:
            return python
    pytest.skip("there is no Python 3.9 on this machine")


@pytest.mark.parametrize("pretended", [False, True], ids=["real Python 3.9", "pretended"])
def test_old_python_is_refused_by_the_package(pretended):
    refused = run(f"{PRETEND_PYTHON_3_9}; {IMPORT_CALIPERS}") if pretended else run(IMPORT_CALIPERS, real_python_3_9())
    assert refused.returncode == 1
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: calipers needs Python 3.11 or newer; this is Python 3.9.")


@pytest.mark.parametrize("pretended", [False, True], ids=["real Python 3.9", "pretended"])
def test_old_python_is_refused_by_the_makefile(pretended):
    refused = run(f"{PRETEND_PYTHON_3_9}; {CHECK_PYTHON}") if pretended else run(CHECK_PYTHON, real_python_3_9())
    assert refused.returncode == 1
    assert refused.stdout == ""
    line = refused.stderr.removesuffix("\n")
    assert "\n" not in line
    assert line.startswith("This book needs Python 3.11 or newer; ")
    assert "is Python 3.9." in line


def test_this_python_passes_the_check_in_silence():
    passed = run(CHECK_PYTHON)
    assert (passed.returncode, passed.stdout, passed.stderr) == (0, "", "")
