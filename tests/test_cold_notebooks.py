"""Notebooks run cold: in an environment that holds only what their set-up cell installs, in an empty folder.

Two chapters do so here; `make cold` runs all of them.
"""

import json
import os
import shutil
import sys
import zipfile

import nbclient
import nbformat
import notebooks
import pytest
from chapters import NAMES
from conftest import ROOT, copy_tree, data_folder, run

COLD = NAMES if os.environ.get("COLD") == "all" else ["data_augmentation", "first_network"]
NOWHERE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


def export(chapter, wheel):
    """A chapter's notebook, installing `calipers` from the wheel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALIPERS_INSTALL_FROM", wheel.as_uri())
        return notebooks.notebook(ROOT / "book" / f"{chapter}.md", notebooks.targets())


def execute(cells, environment, folder, **variables):
    """Run code cells from `folder` in the environment's kernel, without what this process has on its path."""
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(folder)}}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        for name, value in {"JUPYTER_PATH": str(environment / "share/jupyter"), **variables}.items():
            patch.setenv(name, value)
        nbclient.NotebookClient(notebook, timeout=600, kernel_name="cold", resources=resources).execute()
    return notebook


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that the checkout builds."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    run([*command, str(copy_tree(folder / "house"))])
    return next(folder.glob("*.whl"))


def test_the_package_is_calipers_alone(wheel):
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert "calipers" in names
    assert names == {"calipers", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}


@pytest.fixture(scope="module")
def environment(book, wheel, tmp_path_factory):
    """An environment with a kernel, and what the set-up cell adds to it."""
    folder = tmp_path_factory.mktemp("cold")
    python = folder / "bin/python"
    run([sys.executable, "-m", "venv", str(folder)])
    run([str(python), "-m", "pip", "install", "--quiet", "ipykernel"])
    spec = folder / "share/jupyter/kernels/cold/kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Cold", "language": "python"}))
    execute([export(COLD[0], wheel).cells[0]], folder, folder)
    yield folder
    shutil.rmtree(folder)  # two gigabytes


@pytest.mark.parametrize("chapter", COLD)
def test_notebook_runs_cold(chapter, environment, wheel, tmp_path):
    """It needs nothing that its set-up cell has not installed, no file of the checkout, and no network."""
    first, *cells = export(chapter, wheel).cells
    assert first.source == export(COLD[0], wheel).cells[0].source
    cells.append(nbformat.v4.new_code_cell("import sys; assert calipers.__file__.startswith(sys.prefix)"))
    variables = {"CALIPERS_PROFILE": "smoke", "CALIPERS_RECORDS": str(tmp_path / "records.jsonl"), **NOWHERE}
    if data_folder():
        variables["CALIPERS_DATA"] = data_folder()
    folder = tmp_path / "empty"
    folder.mkdir()
    execute(cells, environment, folder, **variables)
    assert (tmp_path / "records.jsonl").read_text().count("\n") > 0
