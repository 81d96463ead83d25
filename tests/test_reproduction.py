"""The executed book against what it reports: each number within its band, each bound holding, none missing or extra."""

import json

import pytest
import yaml
from book_claims import ANSWERED, judge, reference_records, reference_runs
from conftest import ROOT

LEDGER = yaml.safe_load((ROOT / "book/claims.yml").read_text("utf-8"))


def reported(chapter, profile):
    path = ROOT / "book" / "results" / profile / f"{chapter}.json"
    if not path.exists():
        pytest.skip(f"nothing is reported for {chapter} in the profile {profile}: no {path.relative_to(ROOT)}")
    return {record["id"]: record for record in json.loads(path.read_text("utf-8"))["records"]}


def test_every_bound_holds(records):
    broken = [record["id"] for chapter in records.values() for record in chapter if record["holds"] is False]
    assert not broken


def test_every_chapter_reports_the_records_that_it_makes(records):
    for chapter, found in records.items():
        expected = reported(chapter, found[0]["provenance"]["profile"])
        assert {record["id"] for record in found} == set(expected), f"run `make results` for {chapter}"


def test_every_number_comes_back_within_its_band(records):
    outside = []
    for chapter, found in records.items():
        expected = reported(chapter, found[0]["provenance"]["profile"])
        for record in found:
            band = expected[record["id"]]["band"]
            if band and not band[0] <= record["mean"] <= band[1]:
                outside.append(f"{record['id']}: {record['mean']:.4g} is outside {band[0]:.4g} to {band[1]:.4g}")
    assert not outside, "\n".join(outside)


def test_a_chapter_has_enough_seeds(records):
    for record in (record for chapter in records.values() for record in chapter):
        least = {"quick": 3, "full": 5}[record["provenance"]["profile"]]
        assert not record["seeds"] or len(record["seeds"]) >= least, record["id"]


def test_claims_are_answered_by_records_that_exist(records):
    known = {record["id"]: record for chapter in records.values() for record in chapter}
    reference = reference_records(ROOT, known)
    for entry in LEDGER["claims"] + LEDGER["slips"]:
        answer = entry.get("answer")
        if not answer or ("profile" in answer and entry["chapter"] not in reference_runs(ROOT)):
            continue  # the latter waits for its chapter's reference run
        assert answer["verdict"] in ANSWERED, entry["id"]
        assert judge(entry, known, reference)[0] in ANSWERED, entry["id"]


def test_the_ledger_has_every_row_of_the_lectures_list():
    path = ROOT.parent / "shared" / "claims.yml"
    if not path.exists():
        pytest.skip("the list of the lectures' claims is not beside this checkout")
    source = yaml.safe_load(path.read_text("utf-8"))
    for part in ("claims", "slips"):
        assert {row["id"] for row in source[part]} <= {row["id"] for row in LEDGER[part]}
        assert all(row["source"] in LEDGER["sources"] for row in LEDGER[part])


def test_reported_results_hold_what_they_claim():
    for path in (ROOT / "book" / "results").rglob("*.json"):
        content = json.loads(path.read_text("utf-8"))
        assert content["provenance"]["profile"] == path.parent.name
        assert not [record["id"] for record in content["records"] if record["holds"] is False]


def test_every_answer_carries_a_bound():
    """Without one nothing could ever contradict the verdict."""
    bounds = {"quick": {}, "full": {}}
    for path in (ROOT / "book" / "results").rglob("*.json"):
        content = json.loads(path.read_text("utf-8"))
        bounds[path.parent.name] |= {record["id"]: record["bounds"] for record in content["records"]}
    answers = [entry["answer"] for entry in LEDGER["claims"] + LEDGER["slips"] if "answer" in entry]
    here = [answer["record"] for answer in answers if "profile" not in answer]
    assert here
    assert [answer for answer in here if not bounds["quick"].get(answer)] == []
    there = [answer["record"] for answer in answers if "profile" in answer]
    assert [answer for answer in there if bounds["full"].get(answer) == []] == []  # one not yet run is not there
