"""A measurement over seeds, and what may be said of the difference of two."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One measurement repeated over seeds.

    Attributes
    ----------
    values : ndarray, shape (seeds, ...)
        The measurement for every seed. A curve (one value an epoch) has a second axis.
    seeds : tuple of int
        The seeds, in the order of `values`.
    """

    values: np.ndarray
    seeds: tuple

    def __post_init__(self):
        if len(self.values) != len(self.seeds):
            raise ValueError(f"{len(self.values)} values for {len(self.seeds)} seeds: give one value for every seed.")

    @property
    def mean(self):
        """Mean over the seeds, shape (...)."""
        return np.mean(self.values, axis=0)

    @property
    def sd(self):
        """Sample standard deviation over the seeds (n - 1 in the denominator), NaN for a single seed."""
        if len(self.seeds) < 2:
            return np.full_like(self.mean, np.nan, dtype=float)
        return np.std(self.values, axis=0, ddof=1)

    def __sub__(self, other):
        """Difference seed by seed. Raises ValueError where the seeds differ, since nothing would be paired."""
        if self.seeds != other.seeds:
            raise ValueError(f"Seeds {self.seeds} and {other.seeds} differ: run both sides with the same seeds.")
        return Sample(self.values - other.values, self.seeds)

    def __truediv__(self, other):
        """Ratio seed by seed, for times measured in one run. Raises ValueError where the seeds differ."""
        if self.seeds != other.seeds:
            raise ValueError(f"Seeds {self.seeds} and {other.seeds} differ: run both sides with the same seeds.")
        return Sample(self.values / other.values, self.seeds)


@dataclass(frozen=True)
class Comparison:
    """A paired difference and its noise, in the unit of the two samples.

    Attributes
    ----------
    difference : float
        Mean over the seeds of (first - second).
    noise : float
        Half the width of the 95 % confidence interval of that mean; infinite for a single seed.
    """

    difference: float
    noise: float

    @property
    def verdict(self):
        """``"higher"``, ``"lower"`` or ``"no difference that we could measure"``."""
        if not abs(self.difference) > self.noise:  # also where either is NaN
            return "no difference that we could measure"
        return "higher" if self.difference > 0 else "lower"


def compare(first, second):
    """Compare two samples taken with the same seeds.

    The difference is taken seed by seed, so that what both sides share (the initial weights' luck, the order of the
    examples) cancels. Its noise is the half-width of Student's 95 % interval [Student, Biometrika 1908].

    Parameters
    ----------
    first, second : Sample
        Scalars over the same seeds.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the seeds of the two differ.
    """
    difference = first - second
    return Comparison(float(difference.mean), student_half_width(difference.values))


def student_half_width(values, confidence=0.95):
    """Half the width of the confidence interval of a mean.

    Parameters
    ----------
    values : ndarray, shape (seeds,)
    confidence : float
        Probability that the interval covers the true mean, for normally distributed values.

    Returns
    -------
    float
        In the unit of `values`; infinite for a single value.
    """
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return float("inf")
    return float(t.ppf(0.5 + confidence / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
