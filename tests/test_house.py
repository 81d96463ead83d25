"""The rules of the house that a file listing can check."""

import re
import subprocess
import sys

import yaml
from chapters import CHAPTERS, NAMES
from conftest import ROOT, run


def test_ruff_is_content():
    for command in (["check"], ["format", "--check"]):
        done = run([sys.executable, "-m", "ruff", *command, "."], check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_in_the_table_of_contents():
    text = (ROOT / "_toc.yml").read_text("utf-8")
    listed = set(re.findall(r"(?:root|file): book/(\w+)", text))
    assert listed == {path.stem for path in (ROOT / "book").glob("*.md")}
    assert set(NAMES) <= listed


def test_extensions_import_neither_keras_nor_tensorflow():
    for path in (ROOT / "book" / "_ext").glob("*.py"):
        assert not re.search(r"^\s*(import|from) (keras|tensorflow|jax)", path.read_text("utf-8"), re.M), path.name


def test_chapters_stay_backend_neutral():
    for name in NAMES:
        text = (ROOT / "code" / f"{name}.py").read_text("utf-8")
        for forbidden in ("tf.data", "tf.image", "from tensorflow import keras", "allow_pickle=True"):
            assert forbidden not in text, f"{name}: {forbidden}"


def test_chapters_show_their_figures_with_alt_text():
    for name in NAMES:
        text = (ROOT / "code" / f"{name}.py").read_text("utf-8")
        assert "plt.show(" not in text, f"{name}: use calipers.show(alt=...)"


PARTS = (
    *("Before you start", "From scratch", "The same in Keras", "The experiment", "What the lectures said"),
    *("Where it goes wrong", "## Exercises", "## Summary", "Further reading", "{provenance}"),
)


def test_chapters_have_all_parts_of_a_page():
    for name in CHAPTERS:
        text = (ROOT / "book" / f"{name}.md").read_text("utf-8")
        for part in PARTS:
            assert part in text, f"{name} lacks {part!r}"
        exercises = re.findall(r"\{exercise\}[^\n]*\n:label: ([\w-]+)", text)
        solutions = re.findall(r"\{solution-start\} ([\w-]+)", text)
        assert len(exercises) >= 5
        assert exercises == solutions, f"{name}: every exercise has its solution, in order"
        assert "show_interactive(" in text, f"{name} has no interactive figure"


def test_pins_and_constraints_agree():
    constraints = dict(
        line.strip().lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    for path in ROOT.glob("requirements-*.txt"):
        for name, version in re.findall(r"^([\w-]+)==([\w.]+)", path.read_text(), re.M):
            assert constraints.get(name.lower().replace("_", "-"), version) == version, f"{path.name}: {name}"


def test_nothing_that_building_makes_is_committed():
    tracked = run(["git", "ls-files"]).stdout.split()
    if not tracked:
        return  # a copy of the tree without its history
    for name in tracked:
        assert not re.search(r"\.(npz|gz|ipynb|pyc|html)$|^_build/|^\.venv", name) or name.startswith(
            "book/_templates/"
        )


def test_the_citation_file_and_the_package_agree_on_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'__version__ = "{citation["version"]}"' in (ROOT / "code/calipers/__init__.py").read_text("utf-8")


def test_the_licences_are_there():
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    assert "CC BY 4.0" in (ROOT / "LICENSE-TEXT").read_text()


def test_make_serve_serves_the_book(book):
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(book)]
    assert " ".join(command[1:3]) in run(["make", "-n", "serve"]).stdout
    server = subprocess.Popen([command[0], "-u", *command[1:]], stdout=subprocess.PIPE, text=True)
    try:
        assert "Serving HTTP on 127.0.0.1" in server.stdout.readline()
    finally:
        server.terminate()
        server.wait()


def test_the_readme_names_only_what_there_is():
    text = (ROOT / "README.md").read_text("utf-8") + (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    helped = run(["make", "help"]).stdout
    for target in set(re.findall(r"\bmake ([a-z]+)\b", text)):
        assert f"make {target} " in helped, target
    for path in re.findall(r"\]\(((?!http)[^)]+)\)|`((?:book|code|tests|tools|binder)/[\w./]*)`", text):
        assert (ROOT / max(path)).exists(), path
    code = "".join(path.read_text("utf-8") for path in [*ROOT.glob("code/calipers/*.py"), *ROOT.glob("tools/*.py")])
    for variable in set(re.findall(r"CALIPERS_\w+", text)):
        assert f'"{variable}"' in code, variable


def test_the_books_address_and_repository_are_the_same_everywhere():
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["url"] == config["html"]["baseurl"]
    assert citation["repository-code"] == config["repository"]["url"]
    assert f"<{config['html']['baseurl']}>" in (ROOT / "README.md").read_text("utf-8")
