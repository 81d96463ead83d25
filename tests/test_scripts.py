"""Scripts: in step with their pages, run from anywhere, with a display and without, on either backend."""

import json
import shutil
import sys
from pathlib import Path

import format_pages
import pytest
import scripts
from chapters import NAMES
from conftest import ROOT, data_folder, processor_seconds, run
from records import executed_chapters

CHAPTERS = pytest.mark.parametrize("chapter", NAMES)


def test_scripts_are_written_from_their_pages():
    scripts.main(check=True)


def test_pages_are_formatted():
    format_pages.main(check=True)


def test_no_name_shadows_the_standard_library():
    assert not (ROOT / "code" / "__init__.py").exists()
    assert not {path.stem for path in (ROOT / "code").glob("*.py")} & sys.stdlib_module_names


@CHAPTERS
def test_out_of_step_is_noticed(chapter, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "book", tmp_path / "book", ignore=shutil.ignore_patterns("_*"))
    shutil.copytree(ROOT / "code", tmp_path / "code")
    with (tmp_path / "code" / f"{chapter}.py").open("a") as file:
        file.write("# edited by hand\n")
    monkeypatch.setattr(scripts, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=f"code/{chapter}.py.*make scripts"):
        scripts.main(check=True)


def smoke(chapter, folder, python=sys.executable, prefix=(), **environment):
    """Run a chapter's script in the smoke profile from `folder`; its output, records and processor seconds."""
    out = folder / "records.jsonl"
    out.unlink(missing_ok=True)
    start = processor_seconds()
    environment = {"CALIPERS_PROFILE": "smoke", "CALIPERS_RECORDS": str(out), "DISPLAY": None, **environment}
    done = run([*prefix, python, str(ROOT / "code" / f"{chapter}.py")], cwd=folder, **environment)
    records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return done.stdout, records, processor_seconds() - start


@pytest.fixture(scope="module")
def smoked(tmp_path_factory):
    """Give what `smoke` says of a chapter's script, which is run once for all tests of this file."""
    done = {}

    def once(chapter):
        if chapter not in done:
            done[chapter] = smoke(chapter, tmp_path_factory.mktemp(chapter))
        return done[chapter]

    return once


@CHAPTERS
def test_script_runs_anywhere_without_a_display_and_soon(chapter, smoked):
    out, records, seconds = smoked(chapter)
    for record in records:
        assert f"[{record['id']}]" in out
        assert record["holds"] is None, "the smoke profile claims nothing"
    assert seconds < 60, "30 s on a quiet machine; the machines here are shared, and slower when busy"
    print(f"{chapter}: {seconds:.1f} s in smoke")


def test_script_runs_with_a_display(tmp_path):
    """One chapter's does: all of them show their figures through calipers."""
    xvfb = shutil.which("xvfb-run")
    if not xvfb:
        pytest.skip("xvfb-run is not installed, so there is no display to try: apt-get install xvfb xauth")
    _, records, _ = smoke("first_network", tmp_path, prefix=(xvfb, "-a"), MPLBACKEND=None)
    assert records


@pytest.fixture(scope="module")
def jax_python():
    """The Python of the environment that has JAX and no TensorFlow."""
    environment = Path(sys.executable).parents[1]
    python = environment.with_name(f"{environment.name}-jax") / "bin/python"
    if not python.exists():
        pytest.skip(f"no JAX environment at {python}: `make test` makes it")
    assert run([python, "-c", "import tensorflow"], check=False).returncode != 0
    return str(python)


@pytest.fixture(scope="module")
def jax_environment(tmp_path_factory):
    """Variables that choose JAX, and let a chapter's notebook use what its script has compiled."""
    return {
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_THREEFRY_PARTITIONABLE": "0",  # JAX's own choice compiles seconds for every new shape of a kernel
    }


@CHAPTERS
def test_script_runs_on_jax_without_tensorflow(chapter, jax_python, jax_environment, tmp_path):
    _, records, _ = smoke(chapter, tmp_path, python=jax_python, **jax_environment)
    assert {record["provenance"]["backend"] for record in records} == {"jax"}


@pytest.fixture(scope="module")
def notebooks(smoke_book):
    """The folder of the notebooks that are exported from the book."""
    run([sys.executable, "tools/notebooks.py"], cwd=smoke_book)
    return smoke_book / "_build/notebooks"


RUN_NOTEBOOK = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
assert "%pip install" in notebook.cells.pop(0).source
nbclient.NotebookClient(notebook, timeout=600).execute()
"""


def records_of_notebook(path, folder, python=sys.executable, **environment):
    """Run an exported notebook, but for its set-up cell, in the smoke profile from `folder`; its records."""
    out = folder / "notebook.jsonl"
    environment = {"CALIPERS_PROFILE": "smoke", "CALIPERS_RECORDS": str(out), **environment}
    if data_folder():
        environment["CALIPERS_DATA"] = data_folder()
    run([python, "-c", RUN_NOTEBOOK, str(path)], cwd=folder, PYTHONPATH=str(ROOT / "code"), **environment)
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


@CHAPTERS
def test_page_script_and_notebook_give_the_same_records(chapter, smoked, smoke_book, notebooks, tmp_path):
    _, by_script, _ = smoked(chapter)
    by_page = executed_chapters(smoke_book)[chapter]
    by_notebook = records_of_notebook(notebooks / f"{chapter}.ipynb", tmp_path)

    def values(records):
        return {record["id"]: record["values"] for record in records if record["unit"] not in ("s", "times")}

    assert values(by_page) == values(by_script) == values(by_notebook)
    assert len(by_page) == len(by_script) == len(by_notebook) > 0


@CHAPTERS
def test_notebook_runs_on_jax_without_tensorflow(chapter, notebooks, jax_python, jax_environment, tmp_path):
    records = records_of_notebook(notebooks / f"{chapter}.ipynb", tmp_path, jax_python, **jax_environment)
    assert {record["provenance"]["backend"] for record in records} == {"jax"}
