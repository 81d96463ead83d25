"""The schedules and gradients against Keras and finite differences; the claims with their causes broken."""

import keras
import numpy as np
import pytest
from breaks import keeps, kills, reported
from calipers import datasets
from chapters import definitions, records_of
from keras.optimizers import schedules

NAME = "learning_rates"


@pytest.fixture(scope="module")
def chapter():
    return definitions(NAME)


def by_keras(schedule, steps):
    return np.array([float(keras.ops.convert_to_numpy(schedule(int(step)))) for step in steps])


STEPS = np.arange(35)  # beyond the end, too


@pytest.mark.parametrize("end", [1, 7, 30])
@pytest.mark.parametrize("peak", [0.003, 0.5, 2.0])
class TestSchedules:
    def test_power(self, chapter, peak, end):
        expected = by_keras(schedules.InverseTimeDecay(peak, end, 1), STEPS)
        np.testing.assert_allclose(chapter["power"](STEPS, peak, end), expected, rtol=1e-5)

    def test_exponential(self, chapter, peak, end):
        expected = by_keras(schedules.ExponentialDecay(peak, end, 0.1), STEPS)
        np.testing.assert_allclose(chapter["exponential"](STEPS, peak, end), expected, rtol=1e-4, atol=1e-12)

    def test_piecewise(self, chapter, peak, end):
        arguments = [end, end + 3], [peak, peak / 10, peak / 100]
        expected = by_keras(schedules.PiecewiseConstantDecay(*arguments), STEPS)
        np.testing.assert_allclose(chapter["piecewise"](STEPS, *arguments), expected, rtol=1e-6)

    def test_linear(self, chapter, peak, end):
        expected = by_keras(schedules.PolynomialDecay(peak, end, 0), STEPS)
        np.testing.assert_allclose(chapter["linear"](STEPS, peak, end), expected, atol=1e-6 * peak)

    def test_cosine(self, chapter, peak, end):
        expected = by_keras(schedules.CosineDecay(peak, end), STEPS)
        np.testing.assert_allclose(chapter["cosine"](STEPS, peak, end), expected, atol=1e-6 * peak)

    @pytest.mark.parametrize("m", [1, 5])
    def test_warm_up(self, chapter, peak, end, m):
        expected = by_keras(schedules.CosineDecay(0.0, end, warmup_target=peak, warmup_steps=m), STEPS)
        ours = chapter["warm_up"](STEPS, peak, m, lambda k: chapter["cosine"](k, peak, end))
        np.testing.assert_allclose(ours, expected, atol=1e-6 * peak)

    def test_a_table_of_rates_as_a_keras_schedule(self, chapter, peak, end):
        rates = chapter["one_cycle"](STEPS, peak, end)
        table = chapter["FromFormula"](rates)
        np.testing.assert_allclose(by_keras(table, STEPS), rates, rtol=1e-6)
        assert float(table(10_000)) == pytest.approx(rates[-1])
        again = chapter["FromFormula"](**table.get_config())
        assert again.rates == table.rates


def test_one_cycle_rises_falls_and_ends_at_a_thousandth(chapter):
    rates = chapter["one_cycle"](np.arange(101), 2.0, 100)
    assert rates.argmax() == 45
    np.testing.assert_allclose(rates[[0, 45, 90, 100]], [0.2, 2.0, 0.2, 0.002])
    assert (np.diff(rates[:46]) > 0).all()
    assert (np.diff(rates[45:]) < 0).all()


@pytest.mark.parametrize("name", ["power", "exponential", "piecewise", "linear", "cosine", "warm", "one-cycle"])
def test_no_compared_schedule_exceeds_its_peak_and_each_falls(chapter, name):
    rates = chapter["schedule"](name, np.arange(780), 0.4, 780)
    assert rates.max() == pytest.approx(0.4, rel=0.01)
    assert rates[-1] < 0.1 * rates.max()


@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_plateau_is_kerass_callback(chapter, patience, seed):
    rng = np.random.default_rng(seed)
    told = np.round(1 / np.arange(1, 31) + 0.1 * rng.normal(size=30), 3)  # rounded, so that some looks are equal
    ours = chapter["Plateau"](factor=0.5, patience=patience)
    callback = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=patience)
    theirs = chapter["rates_by_callback"](callback, list(map(float, told)))
    np.testing.assert_allclose(0.5 * np.cumprod([ours.look(loss) for loss in told]), theirs, rtol=1e-5)


def test_plateau_takes_a_loss_that_overflowed_for_no_progress(chapter):
    plateau = chapter["Plateau"](factor=0.5)
    assert [plateau.look(loss) for loss in (np.nan, 1.0, np.inf)] == [0.5, 1.0, 0.5]


def test_noisy_valley_is_what_dice_say(chapter):
    """The recursion against 20,000 weights with noise of their own, under a schedule."""
    rates = chapter["cosine"](np.arange(60), 0.8, 60)
    v, w, rng = 1.0, np.ones(20_000), np.random.default_rng(0)
    for rate in rates:
        w = w - rate * (0.5 * w + rng.normal(size=len(w)) * np.sqrt(0.05))
        v = (1 - rate * 0.5) ** 2 * v + rate**2 * 0.05
    assert np.mean(w**2) == pytest.approx(v, rel=0.05)


def test_constant_rate_stops_at_its_floor(chapter):
    chapter["curvatures"] = np.array([2.0])
    losses = chapter["valley"](np.full(500, 0.3))
    variance = 0.1 * 2.0
    assert losses[-1] == pytest.approx(0.3 * variance / (2.0 * (2 - 0.3 * 2.0)))  # curvature / 2 times the floor
    assert chapter["valley"](np.full(500, 0.99))[-1] < 100 < chapter["valley"](np.full(500, 1.01))[-1]


def test_nets_side_by_side_learn_what_they_would_alone(chapter):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(96, 196)).astype("float32"), rng.integers(0, 10, 96)
    rates = np.array([[0.1] * 5, [0.0] * 5, [0.5, 0.4, 0.3, 0.2, 0.1]])
    together, losses = chapter["train"](3, rates, x, y, 32)
    for row in range(3):
        alone, loss = chapter["train"](3, rates[row : row + 1], x, y, 32)
        for ours, other in zip(chapter["only"](together, [row]), alone, strict=True):
            np.testing.assert_allclose(ours, other, atol=1e-5)
        np.testing.assert_allclose(losses[row], loss[0], rtol=1e-5)
    for array, first in zip(chapter["only"](together, [1]), chapter["first_weights"](3), strict=True):
        np.testing.assert_array_equal(array.reshape(first.shape), first)


def test_adam_is_kerass(chapter):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(160, 196)).astype("float32"), rng.integers(0, 10, 160)
    ours, _ = chapter["train"](0, np.full((1, 5), 0.01), x, y, 32, None, True)
    model = keras.Sequential([keras.Input((196,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10)])
    model.set_weights(chapter["first_weights"](0))
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    order = np.random.default_rng([0, 1]).permutation(160)
    model.fit(x[order], y[order], batch_size=32, shuffle=False, verbose=0)
    for mine, yours in zip(ours, model.get_weights(), strict=True):
        np.testing.assert_allclose(mine.reshape(yours.shape), yours, atol=2e-4)


def test_sharpness_is_the_largest_eigenvalue(chapter):
    """Against the whole matrix of second derivatives of a net small enough to have one."""
    rng = np.random.default_rng(3)
    shapes = (4, 1, 2), (1, 2), (1, 2, 3), (1, 3)
    parameters = [rng.normal(size=shape) for shape in shapes]
    x, y = rng.normal(size=(12, 4)), rng.integers(0, 3, 12)

    def slope(flat):
        cut = np.split(flat, np.cumsum([np.prod(shape) for shape in shapes])[:-1])
        arrays = [part.reshape(shape) for part, shape in zip(cut, shapes, strict=True)]
        return np.concatenate([g.ravel() for g in chapter["gradients"](arrays, x, y)[1]])

    at = np.concatenate([array.ravel() for array in parameters])
    steps = 1e-5 * np.eye(len(at))
    hessian = np.array([(slope(at + step) - slope(at - step)) / 2e-5 for step in steps])
    largest = np.abs(np.linalg.eigvalsh((hessian + hessian.T) / 2)).max()
    assert chapter["sharpness"](parameters, x, y, rounds=200) == pytest.approx(largest, rel=1e-3)


def test_give_back_and_the_largest_calm_rate(chapter):
    looks = np.array([[4.0, 1.0, 2.0], [3.0, 2.0, 1.0], [2.0, 1.0, 2.0], [1.0, 2.0, 1.0]])
    np.testing.assert_allclose(chapter["give_back"](looks), [0, 2, 0.5])
    calm = chapter["largest_calm"]
    assert calm([0.8, 0.4, 0.2, 0.1], [0.9, 0.2, 0.1, 0.0]) == 0.4
    assert calm([0.8, 0.4, 0.2, 0.1], [0.0, 0.9, 0.1, 0.0]) == 0.2  # what lies beyond an oscillation does not count
    assert calm([0.2, 0.1], [np.nan, 0.0]) == 0.1
    assert calm([0.2, 0.1], [0.9, 0.9]) == 0.1


# Break the formulas: the page's own checks, run as the page runs them, have to notice.

FORMULAS = {
    "piecewise changes a step early": (
        "np.searchsorted(boundaries, n)]", "np.searchsorted(boundaries, n, side='right')]", "lr-keras-disagreements"
    ),
    "warm-up counts its steps twice": ("then(np.maximum(n - m, 0))", "then(n)", "lr-keras-disagreements"),
    "plateau forgets that it waited": ("        self.waited += 1\n", "", "lr-plateau-piecewise"),
    "ReLU lets every slope through": ("* (a > 0)", "* (a > -1)", "lr-gradient-disagreements"),
    "a step too late": ("rate = rates[:, n, np.newaxis]", "rate = rates[:, n - 1, np.newaxis]", "lr-training-apart"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORMULAS)
def test_the_pages_checks_notice_that(what, tmp_path):
    old, new, name = FORMULAS[what]
    kills(name, records_of(NAME, tmp_path, upto=name, replace={old: new})[name]["mean"])


# Break the causes: at quick's own size, one seed, against the bounds that the book reports.


@pytest.fixture(scope="module")
def ready(chapter):
    """The chapter's definitions with quick's data and budgets in their globals."""
    try:
        (x_train, y_train), (x_test, y_test) = datasets.load("fashion_mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no Fashion-MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x_train, x_test = chapter["rows"](x_train), chapter["rows"](x_test)
    middle, spread = x_train.mean(), x_train.std()
    x_train, x_test = (x_train - middle) / spread, (x_test - middle) / spread
    chapter["x_train"], chapter["y_train"] = x_train[:10_000], y_train[:10_000].astype(int)
    chapter["x_test"], chapter["y_test"] = x_test, y_test.astype(int)
    return chapter


def reached(ready, rates, batch_size=64, seed=0):
    nets, _ = ready["train"](seed, rates, ready["x_train"], ready["y_train"], batch_size)
    return ready["evaluate"](nets, ready["x_test"], ready["y_test"])


def test_decay_gains_nothing_where_there_is_no_noise_floor(ready):
    """The gain's cause is the noise of a large rate: at a hundredth of the peak the falling rate loses instead."""
    n = np.arange(780)
    names = ("constant", "linear")
    _, (constant, falling) = reached(ready, [ready["schedule"](name, n, 0.004, 780) for name in names])
    kills("lr-test-linear", falling, constant)
    kills("lr-procedure-falling", falling, constant)  # as if the procedure had chosen that rate


def test_a_schedule_that_never_falls_gains_nothing_at_the_large_peak(ready):
    """Linear decay at the chosen peak with its fall taken out: below the mean that the book reports by its gain."""
    n = np.arange(780)
    flat = [ready["schedule"]("constant", n, 0.4, 780)]
    hits = [reached(ready, flat, seed=seed)[1][0] for seed in range(3)]
    linear = reported()["lr-test-linear"]
    assert np.mean(hits) < linear["mean"] - linear["comparison"]["difference"] / 2


def test_the_distance_rule_fails_at_another_distance(ready):
    small = reached(ready, np.full((1, 900), 1e-3))[0][0]
    same, twice = (reached(ready, np.full((1, count), 1e-2))[0][0] for count in (90, 180))
    keeps("lr-distance-rule", 100 * (small / same - 1))
    kills("lr-distance-rule", 100 * (small / twice - 1))


def test_the_start_is_not_that_flat_when_the_weights_are_ten_times_smaller(ready):
    """The limit 2 / sharpness comes from the scale of the first weights."""
    x, y = ready["x_train"][:1000].astype(float), ready["y_train"][:1000]
    parameters = ready["side_by_side"](ready["first_weights"](0), 1)
    keeps("lr-start-limit", 2 / ready["sharpness"](parameters, x, y))
    small = [array / 10 for array in parameters]
    kills("lr-start-limit", 2 / ready["sharpness"](small, x, y))


def test_the_lectures_slow_rate_is_not_almost_there_when_it_is_ten_times_smaller(ready):
    """Its distance, in the lecture's 20 epochs of 60,000 pictures, is that of our 0.001 in 20 epochs of 6,000."""
    steps = 20 * (6_000 // 32)
    assert steps * 1e-3 == pytest.approx(20 * 60_000 / 32 * 1e-4, rel=0.01)
    rates = np.repeat([[1e-1], [1e-3]], steps, axis=1)
    nets, _ = ready["train"](0, rates, ready["x_train"][:6_000], ready["y_train"][:6_000], 32)
    fast, slow = ready["evaluate"](nets, ready["x_test"][:2_000], ready["y_test"][:2_000])[1]
    kills("lr-sgd-almost", fast - slow)
