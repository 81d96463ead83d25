"""Publishing: what is published hangs together, and every launch link of it leads to something that is there."""

import json
import re
import sys
import tomllib
from pathlib import Path

import nbformat
import notebooks
import publish as publishing
import pytest
import yaml
from chapters import NAMES
from conftest import ROOT, run

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
COLAB = re.compile(r"https://colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/([^/]+)/(.+)")
BINDER = re.compile(r"https://mybinder\.org/v2/gh/([^/]+/[^/]+)/([^/?]+)\?urlpath=lab/tree/(.+)")
PAGES_BRANCH = "gh-pages"


def launch_faults(site, root):
    """Name every launch link of a published site that leads to nothing.

    Colab opens a notebook of the pages branch, which is the site itself; Binder a page of the repository, `root`.
    """
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))["repository"]
    repository = config["url"].removeprefix("https://github.com/")
    faults = []
    for path in sorted((root / "code").glob("*.py")):
        page = (site / "book" / f"{path.stem}.html").read_text("utf-8")
        for pattern, branch, tree in ((COLAB, PAGES_BRANCH, site), (BINDER, config["branch"], root)):
            found = {match.groups() for match in map(pattern.fullmatch, re.findall(r'href="([^"]+)"', page)) if match}
            ours = [link for link in found if link[:2] == (repository, branch) and Path(link[2]).stem == path.stem]
            if len(found) != 1 or found != set(ours) or not (tree / ours[0][2]).is_file():
                faults.append(f"{path.stem}: {sorted(found)}")
    return faults


@pytest.fixture(scope="module")
def site(book, tmp_path_factory):
    """The whole book as it is published."""
    folder = tmp_path_factory.mktemp("published") / "site"
    run([sys.executable, "tools/notebooks.py"])
    run([sys.executable, "tools/publish.py", str(folder)])
    return folder


def test_every_launch_link_leads_to_a_file(site):
    assert not launch_faults(site, ROOT)


def test_links_follow_the_repository_and_lead_to_nothing_when_a_file_is_gone(small_book, tmp_path):
    """One setting names the repository; make publishes; and a missing notebook or page is noticed."""
    config = small_book / "_config.yml"
    config.write_text(config.read_text().replace(CONFIG["repository"]["url"], "https://github.com/someone/fork"))
    for script in (small_book / "code").glob("*.py"):
        script.unlink()
    run([sys.executable, "tools/scripts.py"], cwd=small_book)
    environment = Path(sys.executable).parents[1]
    make = ["make", "publish", f"TO={tmp_path / 'site'}", f"VENV={environment}", "-o", f"{environment}/.book"]
    run(make, cwd=small_book, MAKEFLAGS=None, PYTHONPATH=str(small_book / "code"), CALIPERS_PROFILE="smoke")
    site = tmp_path / "site"
    assert "https://colab.research.google.com/github/someone/fork/blob/" in (site / "book/tiny.html").read_text()
    assert "git+https://github.com/someone/fork" in (site / "notebooks/tiny.ipynb").read_text()
    assert not launch_faults(site, small_book)

    (site / "notebooks/tiny.ipynb").rename(site / "notebooks/moved.ipynb")
    assert [fault[:5] for fault in launch_faults(site, small_book)] == ["tiny:"]
    (site / "notebooks/moved.ipynb").rename(site / "notebooks/tiny.ipynb")
    (small_book / "book/tiny.md").rename(small_book / "book/moved.md")
    assert [fault[:5] for fault in launch_faults(site, small_book)] == ["tiny:"]


def test_an_edition_replaces_the_one_before_and_nothing_else(tmp_path, monkeypatch):
    built = tmp_path / "_build"
    for name in ("html/book/old.html", "html/_sources/book/old.ipynb", "notebooks/old.ipynb"):
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text(name)
    monkeypatch.setattr(publishing, "ROOT", tmp_path)
    site = tmp_path / "site"
    publishing.publish(site)
    assert (site / "_sources/book/old.ipynb").read_text() == "notebooks/old.ipynb", "the clean one is downloaded"
    (built / "html/book/old.html").rename(built / "html/book/new.html")
    publishing.publish(site)
    assert [path.name for path in (site / "book").iterdir()] == ["new.html"]

    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("Three years' work")
    with pytest.raises(SystemExit, match="something else"):
        publishing.publish(home)
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]


def test_make_publish_asks_where_to():
    done = run(["make", "-n", "publish"], check=False, MAKEFLAGS=None)
    assert done.returncode != 0
    assert "make publish TO=folder" in done.stderr


MYST = """\
(sec-here)=
## Here
$$ a = b $$ (eq-ab)

By {eq}`eq-ab`, {math}`x` is {glue:text}`x.mean:.1f` ({glue:text}`x`) in [there](sec-there), {ref}`sec-there`,
{ref}`that place <sec-there>`, {numref}`ex-one`, the [glossary](glossary.md); {term}`ReLUs <ReLU>` {cite:t}`glorot2011`.

```{exercise} One
:label: ex-one

Solve {term}`it`.
```
"""

PLAIN = r"""## Here
$$ a = b \tag{1}$$

By (1), $x$ is 1.2 (1.23 ± 0.4) in [there](S/p.html#sec-there), [There](S/p.html#sec-there),
[that place](S/p.html#sec-there), [One](S/p.html#ex-one), the [glossary](S/glossary.html); ReLUs [glorot2011].

> **Exercise: One**
>
> Solve it."""


def test_myst_becomes_plain_markdown():
    values = {"x": "1.23 ± 0.4", "x.mean": "1.23"}
    known = {
        "sec-there": ("S/p.html#sec-there", "There"),
        "ex-one": ("S/p.html#ex-one", "One"),
        "glossary.md": ("S/glossary.html", "glossary"),
    }
    assert notebooks.plain(MYST, values, {"eq-ab": 1}, known) == PLAIN
    with pytest.raises(KeyError):
        notebooks.plain("{glue:text}`y`", values, {}, known)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_clean(site, name):
    """It is valid, begins with the set-up, asks for a GPU, holds no output, and reads and leads where the page does."""
    notebook = nbformat.read(site / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells[0].source.splitlines()[1].startswith('%pip install -q "calipers[chapters] @ git+https://')
    assert notebook.metadata.accelerator == "GPU"
    assert not any(cell.get("outputs") for cell in notebook.cells)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert not re.findall(r"\{[\w:-]+\}`|^[`:]{3,}\{|^\([\w-]+\)=$|^:label:", text, re.M), "MyST was left"
    assert not re.findall(r"!\[[^]]*\]\((?!https?:)", text), "an image that the notebook does not carry"
    for address, anchor in re.findall(rf"\]\({CONFIG['html']['baseurl']}([^)#]+)#?([^)]*)\)", text):
        assert not anchor or f'id="{anchor}"' in (site / address).read_text("utf-8"), f"{address}#{anchor}"
        assert (site / address).is_file()


def test_a_notebook_whose_set_up_is_broken_is_noticed(book, tmp_path, monkeypatch):
    """By the test above."""
    monkeypatch.setattr(notebooks, "setup_source", lambda: "# Install nothing.\n%pip list")
    (tmp_path / "notebooks").mkdir()
    broken = notebooks.notebook(ROOT / "book/first_network.md", notebooks.targets())
    nbformat.write(broken, tmp_path / "notebooks/first_network.ipynb")
    with pytest.raises(AssertionError, match="pip list"):
        test_notebook_is_clean(tmp_path, "first_network")


def test_what_a_notebook_installs_has_floors_and_ceilings_and_no_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for need in project["dependencies"] + project["optional-dependencies"]["chapters"]:
        assert re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", need), need


def test_binder_installs_the_processors_tensorflow_and_opens_pages_as_notebooks(tmp_path):
    listed = (ROOT / "binder/requirements.txt").read_text().splitlines()
    assert listed[1:] == ["-r ../requirements.txt", "-e ."]
    assert re.search(r"^tensorflow-cpu==.*linux", (ROOT / "requirements.txt").read_text(), re.M)
    assert re.search(r"^jupytext==", (ROOT / "requirements-base.txt").read_text(), re.M)
    assert (ROOT / "binder/runtime.txt").read_text().strip() == "python-3.11"

    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    run([str(ROOT / "binder/postBuild")], cwd=tmp_path, HOME=str(tmp_path), PATH=path)
    (settings,) = (tmp_path / ".jupyter/labconfig").glob("*.json")
    viewers = json.loads(settings.read_text())["@jupyterlab/docmanager-extension:plugin"]["defaultViewers"]
    assert viewers == {"markdown": "Jupytext Notebook", "myst": "Jupytext Notebook"}
