"""GitHub's workflows: without fault as far as actionlint sees, pinned, and naming only what there is."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TEXT = {path.stem: path.read_text("utf-8") for path in WORKFLOWS}


def actionlint(root):
    """Run actionlint on the workflows below `root`."""
    (root / ".git").mkdir(exist_ok=True)  # by which it knows a repository
    return run([str(Path(sys.executable).with_name("actionlint")), "-no-color"], cwd=root, check=False)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    return tmp_path


def test_actionlint_finds_no_fault(copy):
    assert {"checks", "edition", "weekly"} <= set(TEXT)
    done = actionlint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "old", "new", "named"),
    [
        ("checks", "runs-on: ubuntu-24.04", "runs-on: ubuntu-2404", "ubuntu-2404"),
        ("edition", "github.token", "github.tokn", "tokn"),
        ("weekly", "43 5 * * 1", "43 25 * * 1", "cron"),
        ("edition", "timeout-minutes", "timeout", "timeout"),
    ],
)
def test_actionlint_finds_a_fault(copy, name, old, new, named):
    path = copy / f".github/workflows/{name}.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = actionlint(copy)
    assert done.returncode != 0
    assert named in done.stdout


def test_every_action_is_pinned_to_a_commit():
    for name, text in TEXT.items():
        used = re.findall(r"uses: (.+)", text)
        assert used
        for action in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", action), f"{name}: {action}"


def test_every_target_that_they_make_is_there():
    for text in TEXT.values():
        for target in re.findall(r"\bmake ([\w./-]+)", text):
            made = run(["make", "-n", target, "TO=site"], check=False, MAKEFLAGS=None)
            assert made.returncode == 0, made.stderr


def test_every_test_that_they_run_is_there():
    for path in re.findall(r"tests/\w+\.py", "".join(TEXT.values())):
        assert (ROOT / path).is_file(), path


def test_only_the_edition_may_write_and_only_it_runs_on_our_own_machine():
    for name, text in TEXT.items():
        workflow = yaml.safe_load(text)
        assert (workflow["permissions"] == {"contents": "write"}) == (name == "edition")
        ours = any("self-hosted" in job["runs-on"] for job in workflow["jobs"].values())
        assert ours == (name == "edition")
        assert not ours or set(workflow[True]) == {"schedule", "workflow_dispatch"}, "nobody's pull request runs there"


def test_the_edition_goes_where_the_links_lead():
    launch = (ROOT / "book/_ext/book_launch.py").read_text("utf-8")
    (branch,) = re.findall(r'"launch_branch", "([\w-]+)"', launch)
    assert f"--initial-branch {branch}\n" in TEXT["edition"]
    assert TEXT["edition"].rstrip().endswith(f'" {branch}')
    assert f"ref: {branch}" in TEXT["weekly"]
