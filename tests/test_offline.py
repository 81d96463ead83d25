"""A machine that reaches no data set still gets a book, which says on every page what it is."""

import sys

import pytest
from conftest import build, copy_tree, processor_seconds, run
from records import executed_chapters


@pytest.fixture(scope="module")
def lonely(tmp_path_factory):
    """A copy of the house on a machine without data and without a network, built; the environment, and the output."""
    root = copy_tree(tmp_path_factory.mktemp("lonely") / "house")
    nowhere = "http://127.0.0.1:9"  # the discard port: nothing listens
    environment = {
        "HOME": str(tmp_path_factory.mktemp("home")),
        "CALIPERS_DATA": None,
        "CALIPERS_PROFILE": None,
        "PYTHONPATH": str(root / "code"),
        "CI": None,
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), None),
    }
    return root, environment, build(root, **environment)


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
    """At most 5 s with nothing changed, and 15 s after a sentence, on a quiet machine; ours are shared: twice that."""
    root, environment, _ = lonely
    unchanged = min(seconds_of(root, environment) for _ in range(3))
    chapter = root / "book/convolutional_networks.md"
    text = chapter.read_text()
    assert "Nobody told the net about edges." in text
    chapter.write_text(text.replace("Nobody told the net about edges.", "Nobody had told the net about edges."))
    sentence = seconds_of(root, environment)
    print(f"nothing changed: {unchanged:.1f} s; a sentence changed: {sentence:.1f} s")
    assert unchanged < 10
    assert sentence < 30
