"""The pages of the ledger: every row answered in two columns, the filters, the status of every page."""

import functools
import json
import re
import shutil
from collections import Counter

import pytest
import yaml
from book_claims import VERDICTS, answers, counted, how_text, judge, record_text, reference_records
from book_records import commit, provenance_text
from book_reference import NOT_RUN, quote
from breaks import reported
from conftest import ROOT, run
from records import executed_chapters

LEDGER = yaml.safe_load((ROOT / "book/claims.yml").read_text("utf-8"))
ENTRIES = LEDGER["claims"] + LEDGER["slips"]
PROVENANCE = {"profile": "quick", "device": "a machine, 2 cores", "seconds": 12.3, "date": "2026-11-22"}


def test_a_record_says_how_it_came_about():
    said = how_text({"seeds": [0, 1, 2], "provenance": PROVENANCE})
    assert said == "3 seeds; quick; a machine, 2 cores; after 12 s; 2026-11-22"
    assert how_text({"seeds": [0], "provenance": PROVENANCE}).startswith("1 seed; ")
    assert how_text({"seeds": [], "provenance": PROVENANCE}).startswith("nothing random; ")


def test_the_last_line_of_a_page_says_all_of_its_provenance():
    versions = {"python": "3.11", "keras": "3.8"}
    records = [{"seeds": seeds, "provenance": {**PROVENANCE, "versions": versions}} for seeds in ([1, 0], [2], [])]
    assert provenance_text(records, "abc1234") == (
        "How these numbers came about: profile quick; seeds 0, 1, 2; a machine, 2 cores; python 3.11, keras 3.8; "
        "2026-11-22; the last record came after 12 seconds; page written at commit abc1234."
    )
    assert "commit" not in provenance_text(records, None)


def test_the_commit_is_the_checkouts_and_none_where_there_is_none(tmp_path):
    head = run(["git", "rev-parse", "HEAD"], check=False).stdout.strip()
    found = commit(ROOT)
    assert head.startswith(found.removesuffix("-dirty")) if head else found is None
    assert commit(tmp_path) is None


def test_a_reference_run_that_was_brought_home_shows_its_numbers(tmp_path):
    """As `make results` writes them, with one provenance for all."""
    folder = tmp_path / "book/results/full"
    folder.mkdir(parents=True)
    content = json.loads((ROOT / "book/results/quick/regularisation.json").read_text("utf-8"))
    content["provenance"]["profile"] = "full"
    (folder / "regularisation.json").write_text(json.dumps(content))
    found = reference_records(tmp_path, {})
    assert len(found) == len(content["records"]) > 0
    for record in found.values():
        assert record_text(record)
        assert "; full; " in how_text(record)


def test_a_page_quotes_its_reference_run_or_says_that_there_is_none(tmp_path):
    content = json.loads((ROOT / "book/results/quick/regularisation.json").read_text("utf-8"))
    first = content["records"][0]
    assert quote(tmp_path, "regularisation", first["id"]) == NOT_RUN
    folder = tmp_path / "book/results/full"
    folder.mkdir(parents=True)
    (folder / "regularisation.json").write_text(json.dumps(content))
    assert quote(tmp_path, "regularisation", first["id"]) == record_text({"provenance": content["provenance"], **first})
    assert quote(tmp_path, "regularisation", f"{first['id']}.mean:.3f") == f"{first['mean']:.3f}"
    compared = next(record for record in content["records"] if (record["comparison"] or {}).get("difference", 0) < 0)
    id, comparison = compared["id"], compared["comparison"]
    difference = quote(tmp_path, "regularisation", f"{id}.difference:+.2f")
    assert difference == f"−{-comparison['difference']:.2f}", "a minus sign, not a hyphen"
    assert quote(tmp_path, "regularisation", f"{id}.noise:.2f") == f"{comparison['noise']:.2f}"
    assert quote(tmp_path, "regularisation", f"{id}.verdict") == comparison["verdict"]
    for lacking in ("no-such-record", f"{first['id']}.verdict", f"{first['id']}.colour"):
        with pytest.raises(ValueError, match=f"has no '{lacking}'"):
            quote(tmp_path, "regularisation", lacking)


def test_verdicts_are_counted_in_their_order():
    assert counted(Counter({"differs": 2, "reproduced": 3})) == "3 reproduced, 2 differs"


@pytest.mark.parametrize(
    ("entry", "verdict"),
    [
        ({"answer": {"record": "held", "verdict": "reproduced"}}, "reproduced"),
        ({"answer": {"record": "broken", "verdict": "reproduced"}}, "not confirmed in this build"),
        ({"answer": {"record": "smoke", "verdict": "differs"}}, "not claimed in smoke"),
        ({"answer": {"record": "missing", "verdict": "differs"}}, "not measured yet"),
        ({"answer": {"record": "held", "verdict": "differs", "profile": "full"}}, "not measured yet"),
        ({"answer": {"record": "reference", "verdict": "reproduced", "profile": "full"}}, "reproduced"),
        ({"untestable": "nobody has the machine"}, "not testable here"),
        ({}, "not measured yet"),
    ],
)
def test_a_verdict_follows_from_its_record(entry, verdict):
    records = {"held": {"holds": True}, "broken": {"holds": False}, "smoke": {"holds": None}}
    assert judge(entry, records, {"reference": {"holds": True}})[0] == verdict


def test_every_answered_row_belongs_to_the_page_whose_record_answers_it():
    for entry in ENTRIES:
        if "answer" in entry and "profile" not in entry["answer"]:
            record = reported()[entry["answer"]["record"]]
            assert answers(entry, [record])
            assert record["chapter"] in (entry["chapter"], "errata"), entry["id"]
    assert not answers({"untestable": "why"}, [])


@pytest.fixture(scope="module")
def page_of(book):
    """The HTML of a page of the ledger."""
    return functools.cache(lambda name: (book / "book" / f"{name}.html").read_text("utf-8"))


def rows_of(text):
    """The cells of every row of the ledger's tables, without their tags."""
    bodies = "".join(re.findall(r"<tbody>(.*?)</tbody>", text, re.S))
    rows = [re.findall(r"<td>(.*?)</td>", row, re.S) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", bodies, re.S)]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in cells] for cells in rows]


def test_the_claims_page_has_a_row_for_every_entry_with_two_runs_and_a_verdict(page_of):
    rows = rows_of(page_of("claims"))
    assert len(rows) == len(ENTRIES)
    for says, _, build, reference, verdict in rows:
        assert says.endswith(")"), says  # its lecture
        assert verdict in VERDICTS
        assert build
        assert re.match(r"(–|not run yet|[−\d].*; full; )", reference), (says, reference)


def test_each_measured_row_says_seeds_profile_device_seconds_and_date(page_of):
    known = {record["id"]: record for records in executed_chapters().values() for record in records}
    measured = [entry for entry in ENTRIES if judge(entry, known, {})[1]]
    found = [build for _, _, build, _, _ in rows_of(page_of("claims")) if re.search(r"; \d{4}-\d\d-\d\d$", build)]
    assert len(found) == len(measured) >= 60
    for build in found:
        assert re.search(r"(\d+ seeds?|nothing random); (smoke|quick|full); .+; after \d+ s; \d{4}-\d\d-\d\d$", build)


def test_the_front_page_says_how_many_of_each(page_of):
    numbers = re.search(r"Of (\d+) claims and (\d+) slips in the ledger, this build finds ([^.]+)\.", page_of("index"))
    assert [int(number) for number in numbers.groups()[:2]] == [len(LEDGER["claims"]), len(LEDGER["slips"])]
    assert sum(map(int, re.findall(r"\d+", numbers[3]))) == len(ENTRIES)


def test_the_status_page_has_a_line_for_every_executed_page(page_of):
    rows, executed = rows_of(page_of("status")), executed_chapters()
    assert len(rows) == len(executed)
    assert sorted(int(row[2]) for row in rows) == sorted(len(records) for records in executed.values())
    for _, seconds, _, _, _, made in rows:
        assert re.fullmatch(r"\d+ s", seconds)
        assert re.fullmatch(r"(smoke|quick|full); .+; \d{4}-\d\d-\d\d", made)
    listed = re.findall(r"file: book/(\w+)", (ROOT / "_toc.yml").read_text("utf-8"))
    links = re.findall(r'<td><p><a class="reference internal" href="(\w+)\.html"', page_of("status"))
    assert links == [name for name in listed if name in executed]


@pytest.fixture(scope="module")
def claims(book):
    """The claims page in a browser of a phone's width."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield lambda **settings: opened(browser, book, **settings)
        browser.close()


def opened(browser, book, **settings):
    page = browser.new_page(viewport={"width": 375, "height": 900}, **settings)
    page.goto((book / "book/claims.html").as_uri())
    return page


SHOWN = "table.ledger tbody tr >> visible=true"


def test_the_filters_work_by_keyboard_and_leave_only_what_was_asked_for(claims):
    page = claims()
    assert page.locator(SHOWN).count() == len(ENTRIES)
    page.get_by_label("Chapter").focus()
    page.keyboard.type("reg")  # as a reader does: the first option that begins so
    wanted = [entry for entry in ENTRIES if entry["chapter"] == "regularisation"]
    assert page.locator(SHOWN).count() == len(wanted) > 5
    assert page.locator("output").inner_text() == f"{len(wanted)} of {len(ENTRIES)} rows"
    assert page.locator("p.rubric >> visible=true").count() == 1
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("tri")
    both = [entry for entry in wanted if entry["source"] == "trinh2021"]
    assert page.locator(SHOWN).count() == len(both) > 0
    page.get_by_label("Chapter").select_option("")
    page.get_by_label("Lecture").select_option("")
    assert page.locator(SHOWN).count() == len(ENTRIES)
    for verdict in page.get_by_label("Verdict").locator("option").all_inner_texts()[1:]:
        page.get_by_label("Verdict").select_option(verdict)
        assert set(page.locator("table.ledger tbody tr:not([hidden]) td:last-child").all_inner_texts()) == {verdict}


def test_without_scripts_every_row_shows(claims):
    page = claims(java_script_enabled=False)
    assert page.locator(SHOWN).count() == len(ENTRIES)
    assert page.locator("form.ledger-filters").count() == 0
