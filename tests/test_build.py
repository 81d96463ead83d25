"""The build is strict, notices what it should, and says what to do. Each test breaks a small copy of the house."""

import re
import sys
from pathlib import Path

import pytest
from conftest import HEADER, ROOT, build, run
from records import executed_chapters


def executed(root, **environment):
    """Build, and say whether a page was executed."""
    return "Executed notebook in" in build(root, **environment).stdout


def page(root, name="tiny"):
    return root / "book" / f"{name}.md"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_build_without_fault_quotes_the_record(small_book):
    done = build(small_book)
    html = (small_book / "_build/html/book/tiny.html").read_text()
    assert "The book was built in" in done.stdout
    assert re.search(r'It measured <span class="pasted-text">42</span>', html)
    assert re.search(r'Below zero lies <span class="pasted-text">−0.5</span>', html), "a minus sign, not a hyphen"
    assert 'id="record-tiny-value"' in html


def test_a_number_stays_on_one_line_with_its_spread_and_its_percent_sign(small_book):
    glued = "{glue:text}`tiny-value` ± {glue:text}`tiny-value` %, `1 ± 1 %`, $1 % 2$"
    edit(page(small_book), "It measured", f"| a | b |\n| --- | --- |\n| 3 ± 4 % | 5 |\n\nBetween {glued}. It measured")
    build(small_book)
    html = (small_book / "_build/html/book/tiny.html").read_text()
    assert '42</span>\u00a0±\u00a0<span class="pasted-text">42</span>\u00a0%, <code' in html
    assert "1 ± 1 %" in re.sub("<[^>]+>", "", html), "code is shown as it is typed"
    assert "1 % 2" in html, "a formula too"
    assert "3 ± 4\u00a0%" in html, "a narrow table may break a line before the spread, not before the percent sign"


def test_only_what_changed_is_executed_again(small_book):
    assert executed(small_book)
    assert not executed(small_book), "nothing changed"
    edit(page(small_book), "It measured", "It has measured")
    assert not executed(small_book), "a sentence changed"
    ids = [record["id"] for record in executed_chapters(small_book)["tiny"]]
    assert ids == ["tiny-value", "tiny-below"], "from the cache too"
    assert "It has measured" in (small_book / "_build/html/book/tiny.html").read_text()
    with (small_book / "code/calipers/profiles.py").open("a") as file:
        file.write("# one line more\n")
    assert executed(small_book), "calipers changed"
    edit(small_book / "constraints.txt", "absl-py==", "absl-py===")
    assert executed(small_book), "a pin changed"
    assert executed(small_book, CALIPERS_PROFILE="full"), "the profile changed"


def test_a_work_more_leaves_the_links_of_other_pages_alone(small_book):
    """A page that is not built again must still find its works in a bibliography that is."""
    edit(page(small_book), "It measured", "After {cite}`student1908` it measured")
    page(small_book, "bibliography").write_text((ROOT / "book/bibliography.md").read_text())
    edit(small_book / "_toc.yml", "  - file: book/tiny", "  - file: book/tiny\n  - file: book/bibliography")
    build(small_book)
    work = "@misc{aaron2000, author = {Aaron, A.}, title = {A Work More}, year = {2000}}\n\n"
    edit(small_book / "book/references.bib", "@article{azulay2019", f"{work}@article{{azulay2019")
    build(small_book)
    html = small_book / "_build/html/book"
    (linked,) = re.findall(r'href="bibliography\.html#([^"]+)"', (html / "tiny.html").read_text())
    assert f'id="{linked}"' in (html / "bibliography.html").read_text()


FAULTS = {
    "failing cell": ("equals=42", "equals=1 / 0", "ZeroDivisionError"),
    "glue key that does not exist": ("`tiny-value`", "`tiny-valeu`", "tiny-valeu"),
    "dead reference": ("It measured", "See {ref}`nowhere`. It measured", "nowhere"),
    "dead link": ("It measured", "See [that](nowhere.md). It measured", "nowhere.md"),
    "word that the glossary lacks": ("It measured", "A {term}`kernel`. It measured", "kernel"),
    "citation that the bibliography lacks": ("It measured", "{cite}`nobody1999`. It measured", "nobody1999"),
    "record with NaN": ("42, equals=42", 'float("nan")', "not a finite number"),
    "record id used twice": ('An answer")', 'An answer"); calipers.record("tiny-value", 1, title="")', "used twice"),
    "figure without alt text": ('An answer")', 'An answer"); calipers.show(alt="")', "alt text"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_the_build_twice_in_a_row_and_is_named(small_book, fault):
    old, new, named = FAULTS[fault]
    edit(page(small_book), old, new)
    for attempt in ("first", "second"):
        done = build(small_book, check=False)
        assert done.returncode != 0, f"the {attempt} build passed over a {fault}"
        assert named in done.stdout + done.stderr
    edit(page(small_book), new, old)
    build(small_book)


def test_a_page_that_quotes_what_its_reference_run_lacks_fails(small_book):
    edit(page(small_book), "It measured", "In the reference run {reference}`no-such-record`. It measured")
    build(small_book)  # none has been made yet
    assert "In the reference run (not run yet)." in (small_book / "_build/html/book/tiny.html").read_text()
    results = small_book / "book/results/full/tiny.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text('{"records": []}')
    done = build(small_book, check=False)
    assert done.returncode != 0
    assert "has no 'no-such-record'" in done.stdout + done.stderr


def test_two_pages_with_one_label_fail(small_book):
    for name in ("one", "two"):
        page(small_book, name).write_text("(same-label)=\n# A page\n\nText.\n")
    edit(small_book / "_toc.yml", "  - file: book/tiny", "  - file: book/tiny\n  - file: book/one\n  - file: book/two")
    done = build(small_book, check=False)
    assert done.returncode != 0
    assert "duplicate label same-label" in done.stdout + done.stderr


def test_two_pages_with_one_record_id_fail(small_book):
    cell = '```{code-cell}\nimport calipers\ncalipers.record("tiny-value", 1, title="The same id")\n```\n'
    page(small_book, "other").write_text(f"{HEADER}# Other\n\n{cell}")
    edit(small_book / "_toc.yml", "  - file: book/tiny", "  - file: book/tiny\n  - file: book/other")
    done = build(small_book, check=False)
    assert done.returncode != 0
    assert "tiny-value" in done.stdout + done.stderr


def test_progress_names_the_page_and_what_is_left(small_book):
    out = build(small_book).stdout
    assert "1 page(s) with code" in out
    assert re.search(r"book/tiny \(.*\); 0 page\(s\) left after it", out)


def test_an_unknown_profile_is_one_sentence(small_book):
    done = build(small_book, check=False, CALIPERS_PROFILE="fast")
    assert done.returncode != 0
    assert "smoke" in done.stderr
    assert "quick" in done.stderr
    assert "Traceback" not in done.stderr


def test_make_shows_nothing_surprising():
    environment = Path(sys.executable).parents[1]
    dry = ["make", "-n", "--no-print-directory"]
    assert run([*dry, "clean"], MAKEFLAGS=None).stdout.strip() == "rm -rf _build"
    shown = run([*dry, "book", f"VENV={environment}"], MAKEFLAGS=None).stdout.strip()
    assert shown == f"{environment}/bin/python tools/build.py", "the environment is there: nothing else to do"
    targets = run(["make", "help"]).stdout
    for target in ("book", "serve", "test", "scripts", "results", "notebooks", "pdf", "publish", "cold", "clean"):
        assert f"make {target} " in targets
