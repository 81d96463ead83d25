"""Records: how a chapter states a number.

A record has an id, a value for every seed, a unit and the bound that the text relies on. It prints one line, shows
itself in a notebook, gives the page the values that its prose quotes (``{glue:text}`id```, ``{glue:text}`id.mean:.2f```)
and stays in the executed page, where the claims page, the tests and the results files read it.
"""

import html
import json
import math
import os
import platform
import re
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from calipers import profiles
from calipers.comparisons import Sample, compare

METADATA = "calipers"  # the key under which a glued value's metadata carries the whole record
TIMINGS = ("s", "times")  # units of times and of ratios of times: machines differ, so these get no band
MINIMUM_SEEDS = {"smoke": 1, "quick": 3, "full": 5}
_records = {}


@dataclass(frozen=True)
class Record:
    """A number that the book states.

    Attributes
    ----------
    id : str
    unit : str
    values : list of float
        One for every seed, or a single one where nothing is random.
    seeds : list of int
        Empty where nothing is random.
    mean, sd : float or None
        Over the seeds; `sd` is None where there is one value.
    bounds : list of dict
        What the text relies on: ``kind`` (``at_least``, ``at_most``, ``between``, ``equals``, ``greater_than``) and
        its ``value``.
    comparison : dict or None
        The paired difference from another record: ``with`` (its id), ``difference``, ``noise`` (None for one seed)
        and ``verdict``.
    holds : bool or None
        Whether all bounds hold; None without any, in the smoke profile and in the offline edition, which claim nothing.
    band : list of two floats, or None
        Where the mean of a repetition is expected; see :func:`reproduction_band`.
    title : str
        What was measured, in words.
    provenance : dict
        Profile, device, backend, versions, date, and the seconds since the chapter began.
    """

    id: str
    unit: str
    values: list
    seeds: list
    mean: float
    sd: float | None
    bounds: list
    comparison: dict | None
    holds: bool | None
    band: list | None
    title: str
    provenance: dict

    def _ipython_display_(self):
        """Show nothing as a cell's last value: the record showed itself when it was made."""

    @property
    def text(self):
        """The value as prose quotes it: mean, spread where there are seeds, unit."""
        digits = _digits(self)
        mean = round(self.mean, digits) + 0.0  # + 0.0: no minus before a zero
        number = f"{mean:,.{digits}f}".replace("-", "−")
        if self.sd is not None:
            number += f" ± {self.sd:,.{digits}f}"
        return f"{number} {self.unit}".strip()

    @property
    def line(self):
        """The record in one line, for a script's output."""
        parts = [f"{self.title}: {self.text}"]
        if self.seeds:
            parts.append(f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}")
        if self.comparison:
            noise = "unknown" if self.comparison["noise"] is None else f"{self.comparison['noise']:.2f}"
            difference = f"{self.comparison['difference']:+.2f}".replace("-", "−")
            parts.append(f"{difference} ± {noise} against {self.comparison['with']} ({self.comparison['verdict']})")
        if self.bounds:
            verdict = {True: "holds", False: "DOES NOT HOLD", None: "not claimed in this profile"}[self.holds]
            parts.append(f"{' and '.join(describe_bound(b, self.unit) for b in self.bounds)}: {verdict}")
        return f"[{self.id}] " + " | ".join(parts)


def record(
    id,
    values,
    unit="",
    *,
    title,
    at_least=None,
    at_most=None,
    between=None,
    equals=None,
    greater_than=None,
    compared_with=None,
    examples=None,
):
    """State a number.

    Parameters
    ----------
    id : str
        Lower-case words joined by hyphens, unique in the book: ``"mnist-conv-two-accuracy"``.
    values : Sample or float
        A value for every seed, or one number where nothing is random (a count of parameters).
    unit : str
        ``"%"`` for accuracies (99.06, not 0.9906), ``"points"`` for their differences, ``"s"`` for seconds, ``"times"``
        for ratios of times, a word or nothing for counts.
    title : str
        What was measured, in words.
    at_least, at_most, equals : float, optional
        The bound on the mean, in the unit of the values.
    between : tuple of two floats, optional
    greater_than : str, optional
        The id of an earlier record that this one has to exceed by more than the noise of their paired difference.
    compared_with : str, optional
        The id of an earlier record from which the paired difference is stated, without any bound on it.
    examples : int, optional
        The number of test examples behind an accuracy in %; its binomial error then widens the band.

    Returns
    -------
    Record

    Raises
    ------
    ValueError
        For a malformed id, an id used twice, a NaN, an unknown `greater_than` or `compared_with`, or too few seeds for
        the profile.
    """
    seeds = [int(seed) for seed in values.seeds] if isinstance(values, Sample) else []
    numbers = np.atleast_1d(np.asarray(values.values if seeds else values, dtype=float))
    asked = {"at_least": at_least, "at_most": at_most, "between": between, "equals": equals}
    asked = {kind: value for kind, value in asked.items() if value is not None}
    _check(id, numbers, seeds, greater_than or compared_with)

    profile = profiles.profile()
    bounds = [{"kind": kind, "value": np.asarray(value).tolist()} for kind, value in asked.items()]  # for JSON
    holds = [_within(kind, value, float(numbers.mean())) for kind, value in asked.items()]
    comparison = _compare(values, greater_than or compared_with)
    if greater_than:
        bounds.append({"kind": "greater_than", "value": greater_than})
        holds.append(comparison["verdict"] == "higher")
    entry = Record(
        id=id,
        unit=unit,
        values=numbers.tolist(),
        seeds=seeds,
        mean=float(numbers.mean()),
        sd=float(numbers.std(ddof=1)) if len(numbers) > 1 else None,
        bounds=bounds,
        comparison=comparison,
        holds=all(holds) if bounds and profile != "smoke" and not profiles.offline() else None,
        band=None if unit in TIMINGS else reproduction_band(numbers, seeds, examples),
        title=title,
        provenance=_provenance(profile),
    )
    _records[id] = (entry, values)
    _publish(entry)
    return entry


def reproduction_band(values, seeds, examples=None):
    """Say where the mean of a repetition on other hardware is expected.

    The band is Student's 95 % interval of the difference of two such means. The spread over the seeds is joined by
    the binomial error of a test set of so many examples, because three seeds alone estimate a spread badly. How badly,
    Satterthwaite's degrees of freedom say: where the test set's error, which is known, outweighs the spread they are
    many, and where it does not they are those of the seeds [Satterthwaite, Biometrics Bulletin 1946].

    Parameters
    ----------
    values : ndarray, shape (seeds,) or (1,)
    seeds : list of int
        Empty where nothing is random: the band then allows for rounding only.
    examples : int, optional
        Size of the test set behind an accuracy in %.

    Returns
    -------
    list of two floats, or None for a single seed without a test set
    """
    from scipy.stats import t

    mean, n = float(values.mean()), len(values)
    if not seeds:
        return [mean - 1e-6 * abs(mean), mean + 1e-6 * abs(mean)]
    if examples is None and n == 1:
        return None
    spread = float(values.var(ddof=1)) if n > 1 else 0.0
    binomial = _binomial_variance(mean, examples) if examples else 0.0
    freedom = (n - 1) * ((spread + binomial) / spread) ** 2 if spread else math.inf
    half = float(t.ppf(0.975, freedom)) * math.sqrt(2 / n * (spread + binomial))
    return [mean - half, mean + half]


def _binomial_variance(accuracy, examples):
    """Variance of an accuracy in % on so many examples; one without an error counts as having one."""
    share = min(max(accuracy / 100, 1 / examples), 1 - 1 / examples)
    return 100**2 * share * (1 - share) / examples


def describe_bound(bound, unit):
    """Put a bound into words: ``"at least 98.9 %"``."""
    kind, value = bound["kind"], bound["value"]
    if kind == "greater_than":
        return f"greater than {value}"
    number = " and ".join(_bound_text(v) for v in (value if kind == "between" else [value]))
    return f"{kind.replace('_', ' ')} {number} {unit}".strip()


def _bound_text(value):
    """Whole numbers in full, others to six digits: some bounds come from formulas."""
    text = f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"
    return text.replace("-", "−")


def _check(id, numbers, seeds, other):
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id):
        raise ValueError(f"Record id {id!r}: use lower-case words and digits joined by hyphens.")
    if id in _records and not _interactive():
        raise ValueError(f"Record id {id!r} is used twice: give each number of the book an id of its own.")
    if numbers.ndim != 1 or len(numbers) != max(1, len(seeds)):
        raise ValueError(f"Record {id!r} has values of shape {numbers.shape}: give one number for every seed.")
    if not np.isfinite(numbers).all():
        where = (
            [seed for seed, number in zip(seeds, numbers, strict=True) if not math.isfinite(number)] if seeds else []
        )
        raise ValueError(
            f"Record {id!r} is not a finite number{f' for the seeds {where}' if where else ''}: {numbers.tolist()}. A "
            "training that diverged is a finding: record how many seeds diverged, not their accuracy."
        )
    if other and other not in _records:
        known = ", ".join(_records) or "none so far"
        raise ValueError(f"Record {id!r} is compared with {other!r}, which is not recorded. Recorded: {known}.")
    needed = MINIMUM_SEEDS[profiles.profile()]
    if seeds and len(seeds) < needed:
        raise ValueError(
            f"Record {id!r} has {len(seeds)} seed(s), and the profile {profiles.profile()} asks for {needed} or more."
        )


def _compare(values, other):
    if not other:
        return None
    if not (isinstance(values, Sample) and isinstance(_records[other][1], Sample)):
        raise ValueError(f"Only numbers with seeds are compared by their noise, and {other!r} or its rival has none.")
    comparison = compare(values, _records[other][1])
    return {
        "with": other,
        "difference": comparison.difference,
        "noise": comparison.noise if math.isfinite(comparison.noise) else None,  # JSON knows no infinity
        "verdict": comparison.verdict,
    }


def _within(kind, value, mean):
    low, high = {
        "at_least": lambda: (value, math.inf),
        "at_most": lambda: (-math.inf, value),
        "between": lambda: value,
        "equals": lambda: (value, value),
    }[kind]()
    return low <= mean <= high


def _digits(entry):
    """Decimals to show: two for percentages and their differences, none for whole numbers, else two significant digits of the spread."""
    if entry.unit in ("%", "points"):
        return 2
    if all(value == int(value) for value in entry.values) and not entry.sd:
        return 0
    scale = entry.sd if entry.sd and entry.sd > 1e-9 * abs(entry.mean) else abs(entry.mean) / 10
    return max(0, 1 - math.floor(math.log10(scale))) if scale else 0


_start = time.perf_counter()


def _provenance(profile):
    keras = sys.modules.get("keras")  # what has not been imported has computed nothing, and importing it takes seconds
    backend = keras.backend.backend() if keras else "numpy"
    packages = {"numpy": "numpy", "calipers": "calipers", backend: backend} | ({"keras": "keras"} if keras else {})
    return {
        "profile": profile,
        "offline": profiles.offline(),
        "device": profiles.device(),
        "backend": backend,
        "versions": {"python": platform.python_version(), **{k: _version(p) for k, p in packages.items()}},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(time.perf_counter() - _start, 1),
    }


def _version(package):
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed as a package"


def _publish(entry):
    kernel = _kernel()
    if kernel:
        from IPython.display import display

        _, _, rest = entry.line.partition("] ")
        shown = (
            f'<div class="record" id="record-{entry.id}"><code>{entry.id}</code> <span>{html.escape(rest)}</span></div>'
        )
        display({"text/plain": entry.line, "text/html": shown}, raw=True)
        for key, value in _quotable(entry).items():
            _glue(display, key, value, {METADATA: asdict(entry)} if key == entry.id else {})
    else:
        print(entry.line, flush=True)
    path = os.environ.get("CALIPERS_RECORDS")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry)) + "\n")


def _quotable(entry):
    """The values that a page may quote, by glue key."""
    values = {entry.id: entry.text, f"{entry.id}.mean": entry.mean}
    values |= {f"{entry.id}.sd": math.nan if entry.sd is None else entry.sd}
    values |= {f"{entry.id}.min": min(entry.values), f"{entry.id}.max": max(entry.values)}
    if entry.comparison:
        noise = entry.comparison["noise"]
        values |= {f"{entry.id}.difference": entry.comparison["difference"]}
        values |= {f"{entry.id}.noise": math.nan if noise is None else noise}
        values |= {f"{entry.id}.verdict": entry.comparison["verdict"]}
    return values


def _glue(display, key, value, metadata):
    """Store a value in the executed page as MyST-NB's glue does, without needing MyST-NB (Colab has none)."""
    prefix = "application/papermill.record/"
    display(
        {f"{prefix}text/plain": repr(value)},
        raw=True,
        metadata={"scrapbook": {"name": key, "mime_prefix": prefix}, **metadata},
    )


def _kernel():
    """The IPython kernel that runs this code, or None in a script."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None)


def _interactive():
    """Say whether a reader runs cells by hand and may run one again; the book's own build is strict."""
    return _kernel() is not None and os.environ.get("CALIPERS_BUILD") != "1"
