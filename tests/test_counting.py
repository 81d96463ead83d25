"""The counting of breaks: what breaks a bound, what does not, and that too few killed claims fail the tests."""

import sys

import breaks
import numpy as np
import pytest
from breaks import holds, judged, keeps, kills, reported, share
from calipers import Sample
from conftest import ROOT, run

BOUNDS = [
    ("at_least", 2, 2.0, 1.99),
    ("at_most", 2, 2.0, 2.01),
    ("between", [1, 2], 1.0, 2.01),
    ("between", [1, 2], 2.0, 0.99),
    ("equals", 4, 4.0, 4.5),
    ("at_least", 2, 3.0, float("nan")),
]


def sample(*values):
    return Sample(np.array(values, dtype=float), tuple(range(len(values))))


@pytest.fixture
def ledger(monkeypatch):
    """Report these records, each with its bounds; what is killed in this test is not counted."""

    def report(holds=True, **bounds):
        found = {id: {"id": id, "holds": holds, "bounds": [dict(zip(("kind", "value"), b, strict=True)) for b in some]}
                 for id, some in bounds.items()}  # fmt: skip
        monkeypatch.setattr(breaks, "reported", lambda: found)
        monkeypatch.setattr(breaks, "_killed", [])

    return report


@pytest.mark.parametrize(("kind", "bound", "good", "bad"), BOUNDS)
def test_a_value_beyond_the_bound_kills_and_any_other_does_not(ledger, kind, bound, good, bad):
    ledger(some=[(kind, bound)])
    keeps("some", good)
    kills("some", bad)
    assert breaks._killed == ["some"]
    with pytest.raises(AssertionError, match="survives the break"):
        kills("some", good)
    with pytest.raises(AssertionError, match="falls without a break"):
        keeps("some", bad)
    assert breaks._killed == ["some"]


def test_one_of_two_bounds_is_enough_and_a_sample_counts_by_its_mean(ledger):
    ledger(some=[("at_least", 1), ("at_most", 2)])
    assert holds("some", sample(0, 1.5, 2.9))
    kills("some", sample(2, 3, 4))


def test_a_rival_is_exceeded_by_more_than_the_noise_of_three_seeds_or_by_anything_of_one(ledger):
    ledger(some=[("greater_than", "other")])
    keeps("some", sample(2, 3, 4), sample(1, 2, 3))
    kills("some", sample(2, 3, 4), sample(2, 1, 5))
    kills("some", sample(2, 3, 4), sample(2, 3, 4))
    keeps("some", 2, 1)
    kills("some", 1, 1)


@pytest.mark.parametrize(("bounds", "rival"), [([], None), ([("at_least", 1)], 2.0), ([("greater_than", "a")], None)])
def test_what_has_no_such_bound_cannot_be_killed(ledger, bounds, rival):
    ledger(some=bounds)
    with pytest.raises(AssertionError, match="has no such bound"):
        kills("some", 0.0, rival)


def test_a_record_that_does_not_hold_unbroken_cannot_be_killed(ledger):
    ledger(holds=False, some=[("at_least", 1)])
    with pytest.raises(AssertionError, match="even unbroken"):
        kills("some", 0.0)


def test_the_share_is_that_of_the_answered_rows():
    claims, verdicts = judged()
    assert len(claims) >= 69
    assert sum(verdicts.values()) > len(claims)
    assert share(claims, set()) == 0
    assert share(claims, set(reported())) == 1


SMALL = """
import breaks
from breaks import kills, pytest_runtest_makereport, pytest_sessionfinish, pytest_terminal_summary
breaks.whole = lambda *_: {whole}
breaks.LEAST_SHARE = {least}
"""


@pytest.mark.parametrize(("whole", "least", "status"), [(True, 0.9, 1), (True, 0.01, 0), (False, 0.9, 0)])
def test_workers_tell_what_they_killed_and_too_little_fails_the_session(whole, least, status, tmp_path):
    (tmp_path / "conftest.py").write_text(SMALL.format(whole=whole, least=least))
    for name, id in (("a", "mnist-dense-accuracy"), ("b", "vg-lost-20-before")):
        test = f"from breaks import kills\ndef test_{name}_breaks(): kills('{id}', 5.0)\n"
        (tmp_path / f"test_{name}.py").write_text(test)
    path = ":".join(str(ROOT / part) for part in ("tests", "code", "book/_ext"))
    done = run(
        [sys.executable, "-m", "pytest", "--numprocesses=2", "--rootdir=."], cwd=tmp_path, check=False, PYTHONPATH=path
    )
    assert done.returncode == status, done.stdout
    assert done.stdout.count("Claims that at least one break kills: 2 of ") == 1
    assert "a: a breaks -> mnist-dense-100" in done.stdout
    assert "b: b breaks -> vanishing" in done.stdout
    assert "none kills mnist-dense-100" not in done.stdout
    assert "none kills mnist-conv-1\n" in done.stdout
