"""Breaks: what a test spoils, which bounds of the book fall with it, and the table of both that ends the tests.

A test breaks one cause, measures again and calls :func:`kills`. Pytest's reports carry what it killed from the workers
to the process that prints.
"""

import json
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest
import yaml
from book_claims import judge
from calipers import Sample, compare

ROOT = Path(__file__).resolve().parents[1]
LEAST_SHARE = 0.9  # of the claims that quick answers, so many have to fall by a break
WITHIN = {
    "at_least": lambda value, bound: value >= bound,
    "at_most": lambda value, bound: value <= bound,
    "between": lambda value, bound: bound[0] <= value <= bound[1],
    "equals": lambda value, bound: value == bound,
}
_killed = []  # the records that the running test has killed


@cache
def reported():
    """Every record that the book reports in quick, by id, with its chapter."""
    found = {}
    for path in sorted((ROOT / "book/results/quick").glob("*.json")):
        content = json.loads(path.read_text("utf-8"))
        found |= {record["id"]: {"chapter": path.stem, **record} for record in content["records"]}
    return found


def holds(id, value, rival=None):
    """Whether a value keeps the bounds that the book reports for a record.

    Parameters
    ----------
    id : str
    value : float or Sample
        The mean counts, except against a rival.
    rival : float or Sample, optional
        What the record claims to exceed, measured in the same way. Samples of three seeds are compared by their noise,
        as the book does; of fewer the noise is unknown, and the value need only be the higher one.
    """
    bounds = [bound for bound in reported()[id]["bounds"] if (bound["kind"] == "greater_than") == (rival is not None)]
    assert bounds, f"{id} has no such bound"
    if rival is not None:
        if isinstance(value, Sample) and len(value.seeds) >= 3:
            return compare(value, rival).verdict == "higher"
        return mean(value) > mean(rival)
    return all(WITHIN[bound["kind"]](mean(value), bound["value"]) for bound in bounds)


def mean(value):
    return value.mean if isinstance(value, Sample) else value


def keeps(id, value, rival=None):
    """Assert that a control, nothing being broken, keeps the reported bounds."""
    assert holds(id, value, rival), f"{id} falls without a break: {value} against {reported()[id]['bounds']}"


def kills(id, value, rival=None):
    """Assert that the reported record holds its bounds and that a broken run's value does not, and count the break."""
    record = reported()[id]
    assert record["holds"] is True, f"{id} does not hold even unbroken"
    against = [f"{bound['kind']} {bound['value']}" for bound in record["bounds"]]
    print(f"{id}: {value} {'' if rival is None else f'over {rival} '}against {', '.join(against)}")
    assert not holds(id, value, rival), f"{id} survives the break: {value} against {', '.join(against)}"
    _killed.append(id)


# The table


def judged():
    """The ledger's claims and slips that a record of quick answers, by id."""
    ledger = yaml.safe_load((ROOT / "book/claims.yml").read_text("utf-8"))
    entries = ledger["claims"] + ledger["slips"]
    answered = [entry for entry in entries if "profile" not in entry.get("answer", {"profile": None})]
    verdicts = Counter(judge(entry, reported(), {})[0] for entry in entries)
    return {entry["id"]: entry for entry in answered}, verdicts


def share(claims, killed):
    """The part of the claims whose record some break kills."""
    return sum(claim["answer"]["record"] in killed for claim in claims.values()) / len(claims)


def summary(breaks, seconds):
    """The lines of the table.

    Parameters
    ----------
    breaks : dict
        The records that each test has killed, by the test's name ``file::test``.
    seconds : dict
        Seconds of all tests by chapter.
    """
    claims, verdicts = judged()
    killed = {id for ids in breaks.values() for id in ids}
    by_record = defaultdict(list)
    for name, claim in claims.items():
        by_record[claim["answer"]["record"]].append(name)
    yield "Claims and slips by verdict (of the reported results)"
    yield from (f"  {count:4} {verdict}" for verdict, count in verdicts.most_common())
    yield "Breaks, and the claims that they killed"
    others = 0
    for test, ids in sorted(breaks.items()):
        names = [name for id in ids for name in by_record[id]]
        others += not names
        if names:
            file, _, what = test.rpartition("::")
            what = what.removeprefix("test_").replace("_", " ").encode("ascii", "replace").decode()
            yield f"  {Path(file).stem.removeprefix('test_').removeprefix('chapter_')}: {what} -> {', '.join(names)}"
    bounded = sum(bool(record["bounds"]) for record in reported().values())
    yield f"  and {others} breaks of bounds that no claim rests on; {len(killed)} of {bounded} bounds fell"
    fell = sum(claim["answer"]["record"] in killed for claim in claims.values())
    yield f"Claims that at least one break kills: {fell} of {len(claims)}, {share(claims, killed):.0%}"
    yield from (f"  none kills {name}" for name, claim in claims.items() if claim["answer"]["record"] not in killed)
    yield "Seconds by chapter (the page in quick, as reported; its tests)"
    for path in sorted((ROOT / "book/results/quick").glob("*.json")):
        page = json.loads(path.read_text("utf-8"))["seconds"]
        yield f"  {path.stem:24} {page:6.0f} {seconds.get(path.stem, 0):6.0f}"


def chapter_of(report):
    """The chapter (or page of the ledger) whose tests a report's file holds."""
    return re.sub(r"^test_(chapter_)?", "", Path(report.nodeid.partition("::")[0]).stem)


def whole(config, reports):
    """Whether every test that breaks something has run and passed."""
    narrowed = config.option.keyword or config.option.markexpr or any("::" in name for name in config.args)
    files = {
        path.stem
        for path in Path(__file__).parent.glob("test_*.py")
        if re.search(r"\bkills\b", path.read_text("utf-8"))
    }
    ran = {Path(report.nodeid.partition("::")[0]).stem for report in reports["passed"]}
    spoilt = {Path(report.nodeid.partition("::")[0]).stem for kind in ("failed", "error", "skipped")
              for report in reports[kind]}  # fmt: skip
    return not narrowed and files <= ran and not files & spoilt


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item, call):
    """Let the report of a test carry what it killed."""
    if call.when == "call":
        item.user_properties += [("kills", id) for id in _killed]
        _killed.clear()


def counted(reporter):
    """What each passed test killed, and the seconds of all tests by chapter."""
    breaks = {report.nodeid: [id for name, id in report.user_properties if name == "kills" and id in reported()]
              for report in reporter.stats.get("passed", [])}  # fmt: skip
    seconds = Counter()
    for report in (report for reports in reporter.stats.values() for report in reports):
        if hasattr(report, "duration"):
            seconds[chapter_of(report)] += report.duration
    return {name: ids for name, ids in breaks.items() if ids}, seconds


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    """Fail the session when all breaks have run and kill too few claims."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(session.config, "workerinput") or not whole(session.config, defaultdict(list, reporter.stats)):
        return
    killed = {id for ids in counted(reporter)[0].values() for id in ids}
    if share(judged()[0], killed) < LEAST_SHARE:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    """Print the table, once, where anything was broken."""
    breaks, seconds = counted(terminalreporter)
    if breaks:
        terminalreporter.section("The ledger")
        for line in summary(breaks, seconds):
            terminalreporter.write_line(line)
        reports = defaultdict(list, terminalreporter.stats)
        verdict = (
            f"at least {LEAST_SHARE:.0%} are asked for" if whole(config, reports) else "not judged: not all breaks"
        )
        terminalreporter.write_line(f"The share of claims: {verdict}")
