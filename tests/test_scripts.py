"""Scripts: in step with their pages, run from anywhere, with a display and without, on either backend."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import format_pages
import nbclient
import nbformat
import pytest
import scripts
from chapters import NAMES
from conftest import ROOT, data_folder, run
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
    """Run a chapter's script in the smoke profile from `folder`; its output, records and seconds."""
    out = folder / "records.jsonl"
    out.unlink(missing_ok=True)
    start = time.monotonic()
    environment = {"CALIPERS_PROFILE": "smoke", "CALIPERS_RECORDS": str(out), "DISPLAY": None, **environment}
    done = run([*prefix, python, str(ROOT / "code" / f"{chapter}.py")], cwd=folder, **environment)
    records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return done.stdout, records, time.monotonic() - start


@CHAPTERS
def test_script_runs_anywhere_without_a_display_and_soon(chapter, tmp_path):
    out, records, seconds = smoke(chapter, tmp_path)
    for record in records:
        assert f"[{record['id']}]" in out
        assert record["holds"] is None, "the smoke profile claims nothing"
    assert seconds < 60, "30 s on a quiet machine; the machines here are shared"
    print(f"{chapter}: {seconds:.1f} s in smoke")


@CHAPTERS
def test_script_runs_with_a_display(chapter, tmp_path):
    xvfb = shutil.which("xvfb-run")
    if not xvfb:
        pytest.skip("xvfb-run is not installed, so there is no display to try: apt-get install xvfb xauth")
    _, records, _ = smoke(chapter, tmp_path, prefix=(xvfb, "-a"), MPLBACKEND=None)
    assert records


@CHAPTERS
def test_script_runs_on_jax_without_tensorflow(chapter, tmp_path):
    python = Path(sys.executable).parents[1].with_name(Path(sys.executable).parents[1].name + "-jax") / "bin/python"
    if not python.exists():
        pytest.skip(f"no JAX environment at {python}: `make test` makes it")
    assert run([python, "-c", "import tensorflow"], check=False).returncode != 0
    _, records, _ = smoke(chapter, tmp_path, python=str(python), KERAS_BACKEND="jax")
    assert {record["provenance"]["backend"] for record in records} == {"jax"}


@CHAPTERS
def test_page_script_and_notebook_give_the_same_records(chapter, smoke_book, tmp_path):
    _, by_script, _ = smoke(chapter, tmp_path)
    by_page = executed_chapters(smoke_book)[chapter]

    run([sys.executable, "tools/notebooks.py"], cwd=smoke_book)
    notebook = nbformat.read(smoke_book / "_build/notebooks" / f"{chapter}.ipynb", as_version=4)
    assert "%pip install" in notebook.cells.pop(0).source
    out = tmp_path / "notebook.jsonl"
    environment = {**os.environ, "CALIPERS_PROFILE": "smoke", "CALIPERS_RECORDS": str(out)}
    if data_folder():
        environment["CALIPERS_DATA"] = data_folder()
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute(env=environment)
    by_notebook = [json.loads(line) for line in out.read_text("utf-8").splitlines()]

    def values(records):
        return {record["id"]: record["values"] for record in records if record["unit"] not in ("s", "times")}

    assert values(by_page) == values(by_script) == values(by_notebook)
    assert len(by_page) == len(by_script) == len(by_notebook) > 0
