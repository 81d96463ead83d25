"""Comparisons: paired by seed, judged against Student's interval, and modest where nothing can be said."""

import numpy as np
import pytest
from calipers import Comparison, Sample, compare
from calipers.comparisons import student_half_width
from scipy.stats import ttest_1samp

NO_DIFFERENCE = "no difference that we could measure"


def sample(*values, seeds=None):
    return Sample(np.array(values, dtype=float), tuple(range(len(values)) if seeds is None else seeds))


def test_pairing_cancels_what_both_sides_share():
    """A spread of points between seeds hides a tenth of a point, until each seed is compared with itself."""
    first = sample(95.1, 90.2, 99.1, 93.1, 97.2)
    second = sample(95.0, 90.0, 99.0, 93.0, 97.0)
    comparison = compare(first, second)
    assert comparison.difference == pytest.approx(0.14)
    assert comparison.noise < 0.1 < first.sd
    assert comparison.verdict == "higher"
    assert compare(second, first).verdict == "lower"


def test_pairing_goes_by_seed_not_by_rank():
    """The same numbers, paired otherwise, say nothing."""
    first = sample(95.1, 90.2, 99.1, 93.1, 97.2)
    shuffled = sample(90.0, 99.0, 97.0, 95.0, 93.0)
    assert compare(first, shuffled).difference == pytest.approx(0.14)
    assert compare(first, shuffled).verdict == NO_DIFFERENCE


@pytest.mark.parametrize("seeds", [(0, 1, 3), (2, 1, 0), (0, 1)])
@pytest.mark.parametrize("operation", [compare, lambda a, b: a - b, lambda a, b: a / b], ids=["compare", "-", "/"])
def test_different_seeds_are_not_compared(operation, seeds):
    first, second = sample(1, 2, 3), sample(*range(1, len(seeds) + 1), seeds=seeds)
    with pytest.raises(ValueError, match=r"differ: run both sides with the same seeds"):
        operation(first, second)


@pytest.mark.parametrize("confidence", [0.95, 0.5])
@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_half_width_is_students(n, confidence):
    values = np.random.default_rng(n).normal(3, 2, n)
    low, high = ttest_1samp(values, 0).confidence_interval(confidence)
    assert student_half_width(values, confidence) == pytest.approx((high - low) / 2)


def test_noise_is_the_half_width_of_the_paired_differences():
    comparison = compare(sample(4, 6, 9), sample(1, 2, 3))  # differences 3, 4, 6
    low, high = ttest_1samp([3, 4, 6], 0).confidence_interval()
    assert comparison.difference - comparison.noise == pytest.approx(low)
    assert comparison.difference + comparison.noise == pytest.approx(high)


def test_single_seed_decides_nothing():
    comparison = compare(sample(99), sample(10))
    assert comparison.difference == 89
    assert comparison.noise == float("inf")
    assert comparison.verdict == NO_DIFFERENCE


@pytest.mark.parametrize(
    ("difference", "noise", "verdict"),
    [
        (0.3, 0.2, "higher"),
        (-0.3, 0.2, "lower"),
        (0.2, 0.3, NO_DIFFERENCE),
        (-0.2, 0.3, NO_DIFFERENCE),
        (0.2, 0.2, NO_DIFFERENCE),
        (0.0, 0.0, NO_DIFFERENCE),
        (float("nan"), float("nan"), NO_DIFFERENCE),
    ],
)
def test_verdict(difference, noise, verdict):
    assert Comparison(difference, noise).verdict == verdict


def test_sample_of_curves_has_a_mean_and_a_spread_for_each_epoch():
    curves = Sample(np.array([[1.0, 10.0], [3.0, 14.0]]), (0, 1))
    np.testing.assert_allclose(curves.mean, [2, 12])
    np.testing.assert_allclose(curves.sd, [2**0.5, 8**0.5])


def test_spread_of_a_single_seed_is_unknown():
    np.testing.assert_array_equal(sample(5).sd, np.nan)
    np.testing.assert_array_equal(Sample(np.ones((1, 2)), (0,)).sd, [np.nan, np.nan])


def test_ratio_is_taken_seed_by_seed():
    np.testing.assert_allclose((sample(2, 9) / sample(1, 3)).values, [2, 3])


def test_sample_needs_a_value_for_every_seed():
    with pytest.raises(ValueError, match="2 values for 3 seeds"):
        sample(1, 2, seeds=(0, 1, 2))
