"""Scripts, pages and notebooks in smoke: in step, run from anywhere, with a display and without, on either backend.

On TensorFlow all three run in the offline edition: a machine that reaches no data set still gets a book, which says on
every page what it is. On JAX they read the data.
"""

import json
import shutil
import sys
from pathlib import Path

import format_pages
import pytest
import scripts
from chapters import NAMES
from conftest import ROOT, build, copy_tree, data_folder, processor_seconds, run
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


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A copy of the house on a machine without data and without a network; its folder and its environment."""
    root = copy_tree(tmp_path_factory.mktemp("offline") / "house")
    nowhere = "http://127.0.0.1:9"  # the discard port: nothing listens
    return root, {
        "HOME": str(tmp_path_factory.mktemp("home")),
        "CALIPERS_DATA": None,
        "CALIPERS_PROFILE": None,
        "PYTHONPATH": str(root / "code"),
        "CI": None,
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), None),
    }


def smoke(chapter, folder, root=ROOT, python=sys.executable, prefix=(), **environment):
    """Run a chapter's script in the smoke profile from `folder`; its output, records and processor seconds."""
    out = folder / "records.jsonl"
    out.unlink(missing_ok=True)
    start = processor_seconds()
    environment = {**environment, "CALIPERS_PROFILE": "smoke", "CALIPERS_RECORDS": str(out), "DISPLAY": None}
    done = run([*prefix, python, str(root / "code" / f"{chapter}.py")], cwd=folder, **environment)
    records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return done.stdout, records, processor_seconds() - start


@pytest.fixture(scope="module")
def smoked(offline, tmp_path_factory):
    """Give what `smoke` says of a chapter's script, which is run once for all tests of this file."""
    root, environment = offline
    done = {}

    def once(chapter):
        if chapter not in done:
            folder = tmp_path_factory.mktemp(chapter)
            done[chapter] = smoke(chapter, folder, root=root, **environment, CALIPERS_OFFLINE="1")
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
def lonely(offline):
    """The house without data, built; the environment, and what the build said."""
    root, environment = offline
    return root, environment, build(root, **environment)


@pytest.fixture(scope="module")
def notebooks(lonely):
    """The folder of the notebooks that are exported from the book."""
    root, environment, _ = lonely
    run([sys.executable, "tools/notebooks.py"], cwd=root, **environment)
    return root / "_build/notebooks"


RUN_NOTEBOOK = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
assert "%pip install" in notebook.cells.pop(0).source
nbclient.NotebookClient(notebook, timeout=600).execute()
"""


def records_of_notebook(path, folder, python=sys.executable, **environment):
    """Run an exported notebook, but for its set-up cell, in the smoke profile from `folder`; its records."""
    out = folder / "notebook.jsonl"
    environment = {**environment, "CALIPERS_PROFILE": "smoke", "CALIPERS_RECORDS": str(out)}
    run([python, "-c", RUN_NOTEBOOK, str(path)], cwd=folder, **environment)
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()]


@CHAPTERS
def test_page_script_and_notebook_give_the_same_records(chapter, smoked, lonely, notebooks, tmp_path):
    root, environment, _ = lonely
    _, by_script, _ = smoked(chapter)
    by_page = executed_chapters(root)[chapter]
    notebook = notebooks / f"{chapter}.ipynb"
    by_notebook = records_of_notebook(notebook, tmp_path, **environment, CALIPERS_OFFLINE="1")

    def values(records):
        return {record["id"]: record["values"] for record in records if record["unit"] not in ("s", "times")}

    assert values(by_page) == values(by_script) == values(by_notebook)
    assert len(by_page) == len(by_script) == len(by_notebook) > 0


@CHAPTERS
def test_notebook_runs_on_jax_without_tensorflow(chapter, notebooks, jax_python, jax_environment, tmp_path):
    environment = {"PYTHONPATH": str(ROOT / "code"), "CALIPERS_DATA": data_folder(), **jax_environment}
    records = records_of_notebook(notebooks / f"{chapter}.ipynb", tmp_path, jax_python, **environment)
    assert {record["provenance"]["backend"] for record in records} == {"jax"}


# The offline edition


def test_the_build_says_so_at_once(lonely):
    _, _, done = lonely
    assert "Building the OFFLINE EDITION" in done.stdout
    assert "mnist was not found and could not be downloaded" in done.stderr


def test_every_page_has_the_banner(lonely):
    root, _, _ = lonely
    pages = sorted((root / "_build/html/book").glob("*.html"))
    assert pages
    for page in pages:
        assert "Its numbers mean nothing" in page.read_text("utf-8"), page.name


def test_its_records_claim_nothing(lonely):
    root, _, _ = lonely
    for records in executed_chapters(root).values():
        for record in records:
            assert record["provenance"]["offline"]
            assert record["provenance"]["profile"] == "smoke"
            assert record["holds"] is None


def test_its_reproduction_tests_are_skipped_with_a_reason(lonely):
    root, environment, _ = lonely
    command = [sys.executable, "-m", "pytest", "tests/test_reproduction.py", "-rs", "-p", "no:cacheprovider"]
    done = run(command, cwd=root, **environment)
    assert "offline edition: no data set was found" in done.stdout
    assert "failed" not in done.stdout


def test_nothing_of_it_is_reported(lonely):
    root, environment, _ = lonely
    done = run([sys.executable, "tools/results.py"], cwd=root, check=False, **environment)
    assert done.returncode != 0
    assert "report nothing" in done.stderr


def seconds_of(root, environment):
    start = processor_seconds()
    build(root, **environment)
    return processor_seconds() - start


def test_a_warm_build_is_quick(lonely):
    """At most 10 s with nothing changed, and 15 s after a sentence, on a quiet machine; ours are shared: twice that.

    Five seconds was the goal, and the whole book misses it: with nothing changed it takes nine, a third of them for
    sphinxcontrib-bibtex, which formats all works anew, and a sixth for Sphinx, which numbers all figures anew.
    """
    root, environment, _ = lonely
    unchanged = min(seconds_of(root, environment) for _ in range(3))
    chapter = root / "book/convolutional_networks.md"
    text = chapter.read_text()
    assert "Nobody told the net about edges." in text
    chapter.write_text(text.replace("Nobody told the net about edges.", "Nobody had told the net about edges."))
    sentence = seconds_of(root, environment)
    print(f"nothing changed: {unchanged:.1f} s; a sentence changed: {sentence:.1f} s")
    assert unchanged < 20
    assert sentence < 30
