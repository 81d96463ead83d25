"""The chapter's formulas against Keras and finite differences, and what happens when a cause is broken."""

import calipers
import keras
import numpy as np
import pytest
from breaks import keeps, kills
from calipers import datasets
from chapters import definitions, measured_by_cell, records_of

NAME = "regularisation"


@pytest.fixture
def chapter():
    """The page's functions, with quick's budgets; a test may replace one of them."""
    namespace = definitions(NAME)
    namespace["per_epoch"] = 20
    return namespace


def some(count, seed=0, dtype="float64", inputs=20):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, inputs)).astype(dtype), rng.integers(10, size=count)


def small(chapter, copies=1, seed=1):
    """Nets whose biases keep them away from ReLU's kinks."""
    rng = np.random.default_rng(seed)
    net = chapter["random_net"](seed, [20, 8, 10], copies, alike=False, dtype="float64")
    return [array + rng.normal(0, 0.1, array.shape) for array in net]


EXTRAS = {
    "nothing": {},
    "a penalty": {"omega": 0.07},
    "a penalty for each net": {"omega": np.array([0.0, 0.2]).reshape(-1, 1, 1)},
    "smoothing": {"smooth": 0.3},
    "a mask": {"mask": np.where(np.random.default_rng(5).random((1, 6, 8)) < 0.4, 0, 1 / 0.6)},
    "everything": {
        "omega": 0.07, "smooth": 0.3, "mask": np.where(np.random.default_rng(6).random((1, 6, 8)) < 0.5, 0, 2.0),
    },
    "nothing left": {"mask": np.zeros((1, 6, 8))},
}  # fmt: skip


@pytest.mark.parametrize("what", EXTRAS)
def test_the_gradient_is_what_finite_differences_say(chapter, what):
    x, y = some(6)
    net, extras = small(chapter, copies=2), EXTRAS[what]
    slopes = chapter["gradient"](net, x, y, **extras)[1]
    for number, array in enumerate(net):
        for place in range(0, array.size, 11):
            there, losses = np.unravel_index(place, array.shape), {}
            for sign in (1, -1):
                moved = [a.copy() for a in net]
                moved[number][there] += sign * 1e-6
                losses[sign] = chapter["gradient"](moved, x, y, **extras)[0][there[0]]
            expected = (losses[1] - losses[-1]) / 2e-6
            assert slopes[number][there] == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_the_gradient_is_kerass(chapter):
    x, y = some(7, dtype="float32")
    net = [array.astype("float32") for array in small(chapter)]
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(10)])
    model.set_weights([net[0][0], net[1][0, 0], net[2][0], net[3][0, 0]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs = calipers.layer_gradients(model, loss, x, y)
    for mine, other in zip(chapter["gradient"](net, x, y)[1], theirs.values(), strict=True):
        np.testing.assert_allclose(mine.squeeze(0).reshape(other.shape), other, atol=1e-5)


def test_huge_logits_leave_cost_and_gradient_finite(chapter):
    x, y = some(5)
    net = [1e4 * array for array in small(chapter)]
    loss, slopes = chapter["gradient"](net, x, y, smooth=0.1)
    assert np.isfinite(loss).all()
    assert all(np.isfinite(slope).all() for slope in slopes)
    assert chapter["cost"](np.array([[1000.0] + [0.0] * 9]), np.array([1])) == pytest.approx(1000)


def test_the_soft_threshold_at_its_edges(chapter):
    values = np.array([-2.0, -0.5, -0.3, 0.0, 0.5, 0.50001, 3.0])
    expected = [-1.5, 0, 0, 0, 0, 0.00001, 2.5]
    np.testing.assert_allclose(chapter["soft_threshold"](values, 0.5), expected, atol=1e-12)
    np.testing.assert_array_equal(chapter["soft_threshold"](values, 0), values)


@pytest.mark.parametrize("rate", [0, 0.1, 0.5, 0.9])
def test_a_mask_is_zero_or_scaled_and_one_on_average(chapter, rate):
    mask = chapter["draw_mask"](np.random.default_rng(0), (300, 400), rate)
    assert np.allclose(np.unique(mask), [0, 1 / (1 - rate)] if rate else [1])
    assert mask.mean() == pytest.approx(1, abs=5 * np.sqrt(max(rate, 1e-9) / (1 - rate) / mask.size))


def test_max_norm_is_kerass_and_zero_is_no_cap(chapter):
    weights = np.random.default_rng(1).normal(size=(6, 8)).astype("float32")
    theirs = keras.ops.convert_to_numpy(keras.constraints.MaxNorm(1.5)(weights))
    np.testing.assert_allclose(chapter["cap_norms"](weights, 1.5), theirs, atol=1e-5)
    np.testing.assert_array_equal(chapter["cap_norms"](weights, np.zeros((1, 1))), weights)
    assert not chapter["cap_norms"](np.zeros((6, 8), "float32"), 1.0).any()


def test_the_parts_of_the_error_add_up(chapter):
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.ones(10), size=(5, 30))
    labels = rng.integers(10, size=30)
    error, bias, variance = chapter["decompose"](p, labels)
    assert bias + variance == pytest.approx(error)
    error, bias, variance = chapter["decompose"](np.repeat(p[:1], 4, axis=0), labels)
    assert variance == pytest.approx(0, abs=1e-12)
    assert bias == pytest.approx(error)


def test_bias_and_variance_are_found_where_they_are_known(chapter):
    rng = np.random.default_rng(3)
    middle = np.full((2000, 10), 0.1)
    p = middle + rng.normal(0, 0.2, size=(4, 2000, 10))
    _, bias, variance = chapter["decompose"](p, rng.integers(10, size=2000))
    assert variance == pytest.approx(10 * 0.04, rel=0.03)
    assert bias == pytest.approx(0.9, rel=0.03)


@pytest.mark.parametrize(("examples", "features"), [(30, 8), (8, 30), (12, 12)])
def test_the_ridge_fits_are_the_normal_equations(chapter, examples, features):
    rng = np.random.default_rng(4)
    f, targets = rng.normal(size=(examples, features)), rng.normal(size=(examples, 3))
    free, ridge = chapter["ridge_fits"](f, targets, [0, 0.3])
    np.testing.assert_allclose(free, np.linalg.lstsq(f, targets, rcond=None)[0], atol=1e-8)
    np.testing.assert_allclose(ridge, np.linalg.solve(f.T @ f + 0.3 * np.eye(features), f.T @ targets), atol=1e-8)


def test_the_calibration_error_by_hand(chapter):
    p = np.array([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.35, 0.65]])
    # Bin of 0.95: one of two right, 0.45 apart. Bin of 0.65: both right, 0.35 apart.
    assert chapter["calibration_error"](p, np.array([0, 1, 0, 1])) == pytest.approx(100 * (0.45 + 0.35) / 2)
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert chapter["calibration_error"](sure, np.array([0, 1])) == 0


def test_the_temperature_is_found(chapter):
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, size=(20_000, 10))
    labels = (np.exp(chapter["log_softmax"](logits)).cumsum(-1) > rng.random((len(logits), 1))).argmax(-1)
    assert chapter["temperature_for"](2 * logits, labels) == pytest.approx(2, rel=0.06)


@pytest.mark.parametrize("patience", [1, 3, 10])
def test_patience_is_kerass(chapter, patience):
    for seed in range(20):
        scores = np.random.default_rng(seed).integers(0, 12, size=30) + np.arange(30) // 6
        ended, best, left = chapter["keras_stop"](scores, patience=patience, restore_best_weights=True)
        assert chapter["patient_stop"](scores, patience) == (ended, best)
        assert left == best
        assert chapter["keras_stop"](scores, patience=patience)[2] == ended  # as it comes: the last weights
    assert chapter["patient_stop"]([1, 2, 3], patience) == (2, 2)


def test_powers_of_ten_climb_the_right_hill(chapter):
    grid = [0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100]

    def found(peak):
        return chapter["by_powers_of_ten"]({s: -abs(np.log(s / peak)) if s else -50 for s in grid})

    assert [found(peak) for peak in (0.2, 1, 2, 20)] == [0.2, 1, 2, 10]
    assert chapter["by_powers_of_ten"]({s: -s for s in grid}) == 0


def test_a_stack_is_as_many_single_nets_and_no_dropout_is_none(chapter):
    x, y = some(120, dtype="float32")
    both = chapter["random_net"](0, [20, 8, 10], 3)
    chapter["fit"](both, x, y, 0.3, 9, 4, l2=[0, 5, 0], l1=[0, 0, 1], smooth=[0, 0.1, 0], cap=[0, 0, 2])
    plain = chapter["random_net"](0, [20, 8, 10], 2)
    chapter["fit"](plain, x, y, 0.3, 9, 4, drop=[0, 0.5])
    settings = ({}, {"l2": 5, "smooth": 0.1}, {"l1": 1, "cap": 2})
    for number, extras in enumerate(settings):
        one = chapter["random_net"](0, [20, 8, 10])
        chapter["fit"](one, x, y, 0.3, 9, 4, **extras)
        for stacked, single in zip(both, one, strict=True):
            np.testing.assert_allclose(stacked[number], single[0], rtol=1e-4, atol=1e-6)
        if not extras:
            for stacked, single in zip(plain, one, strict=True):
                np.testing.assert_allclose(stacked[0], single[0], rtol=1e-4, atol=1e-6)
    assert not np.allclose(plain[0][0], plain[0][1])


def test_the_keras_layer_drops_values_or_maps_and_rests_at_test_time(chapter):
    maps = np.ones((40, 5, 5, 8), "float32")
    for whole in (False, True):
        layer = chapter["Thinning"](whole_maps=whole)
        layer(maps)
        layer.rate.assign(0.25)
        dropped = keras.ops.convert_to_numpy(layer(maps, training=True))
        assert np.allclose(np.unique(dropped), [0, 4 / 3])
        assert dropped.mean() == pytest.approx(1, abs=0.2 if whole else 0.05)
        mixed = dropped.min(axis=(1, 2)) != dropped.max(axis=(1, 2))
        assert mixed.mean() == 0 if whole else mixed.mean() > 0.9
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(maps)), maps)


def test_windows_move_a_digit_by_up_to_a_pixel_each_way(chapter):
    digits = np.zeros((2, 28, 28), "uint8")
    digits[1, 10, 20] = 7
    moved = chapter["windows"](digits)
    np.testing.assert_array_equal(moved[:, 1, 1], digits)
    places = {tuple(np.argwhere(digit)[0]) for digit in moved[1].reshape(9, 28, 28)}
    assert places == {(row, column) for row in (9, 10, 11) for column in (19, 20, 21)}


def test_the_lectures_net_is_the_lectures_with_a_scale_and_a_shift_for_each_bias(chapter):
    dense = 641_000 + 1_001_000 + 10_010
    statistics = 2 * (20 + 40)
    assert chapter["lecture_net"](0.2, 0.5).count_params() == 500 + 2 * 20 + 20_000 + 2 * 40 + dense + statistics


def test_peeking_leads_on_pure_luck_and_not_without_a_choice(chapter):
    rng = np.random.default_rng(6)
    right = rng.random((40, 2000)) < 0.9
    lead, control = chapter["peek"](right, 100, rng)
    assert lead > 2
    assert abs(control) < 1
    assert abs(chapter["peek"](right[:1], 100, rng)[0]) < 1


# Break the formulas: the chapter's own checks, run as the page runs them, have to notice.

BREAKS = {
    "no gate": ("@ w2.swapaxes(-1, -2) * mask * (hidden > 0)", "@ w2.swapaxes(-1, -2) * mask",
                "reg-gradient-disagreements"),
    "half the penalty's slope": ("slopes[place] + omega * net[place]", "slopes[place] + omega / 2 * net[place]",
                                 "reg-gradient-disagreements"),
    "a threshold that jumps": ("weights - np.clip(weights, -amount, amount)", "weights - amount * np.sign(weights)",
                               "reg-threshold-disagreements"),
    "dropout of maps drops values": ("layers.SpatialDropout2D(0.3, seed=2)", "layers.Dropout(0.3, seed=2)",
                                     "reg-spatial-mixed"),
    "Keras's factor": ("keras.regularizers.L2(1.0 / (2 * few))", "keras.regularizers.L2(20.0 / few)",
                       "reg-keras-apart"),
    "a mask that is not inverted": ('kept.astype("float32") / (1 - rate)', 'kept.astype("float32")',
                                    "reg-keras-disagreements"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_the_page_notices_wrong_formulas(what, tmp_path):
    old, new, id = BREAKS[what]
    upto = "reg-{word}-mixed" if id == "reg-spatial-mixed" else id  # as the cell spells it
    kills(id, records_of(NAME, tmp_path, upto=upto, replace={old: new})[id]["mean"])


# Break the causes: what the book reports has to fail, at quick's own length, on one or two seeds.


@pytest.fixture
def digits(chapter):
    """The page's arrays, put where its functions look for them."""
    try:
        (x_train, y_train), (x_test, y_test) = datasets.load("mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    halved = chapter["halved"]
    chapter["x_pool"], chapter["y_pool"] = halved(x_train[:20_000]), y_train[:20_000].astype(int)
    chapter["few"] = 1000
    chapter["x_few"], chapter["y_few"] = chapter["few_of"](0)
    chapter["x_new"], chapter["y_new"] = halved(x_test), y_test.astype(int)
    chapter["x_val"], chapter["y_val"] = halved(x_train[-5000:]), y_train[-5000:].astype(int)
    return chapter


def trained(digits, learning_rate=1.0, **settings):
    net = digits["random_net"](0, [196, 100, 10], len(next(iter(settings.values()))))
    digits["fit"](net, digits["x_few"], digits["y_few"], learning_rate, 800, 0, **settings)
    return net


def test_without_the_proximal_step_no_weight_is_zero(digits):
    digits["soft_threshold"] = lambda weights, amount: weights - amount * np.sign(weights)
    live = digits["x_few"].any(axis=0)
    kills("reg-zeros-l1", 100 * np.mean(trained(digits, l1=[1])[0][0][live] == 0))


def test_dropout_that_always_drops_the_same_units_loses(digits):
    net, honest = trained(digits, drop=[0]), digits["draw_mask"]
    digits["draw_mask"] = lambda rng, shape, rate: honest(np.random.default_rng(1), (1, 1, shape[-1]), rate)
    broken = trained(digits, drop=[0.1, 0.5])
    new = digits["x_new"], digits["y_new"]
    gains = digits["accuracy"](broken, *new) - digits["accuracy"](net, *new)
    kills("reg-rates-least", gains.min())


def test_at_ten_times_the_rate_the_gain_of_a_large_rate_is_a_loss(digits):
    held = digits["x_val"], digits["y_val"]
    slow, right, wrong = (
        digits["accuracy"](trained(digits, learning_rate=rate, drop=[0]), *held).item() for rate in (0.1, 1.0, 10.0)
    )
    keeps("reg-rate-gain", right - slow)
    kills("reg-rate-gain", wrong - slow)


def test_a_net_trained_without_dropout_does_not_agree_with_its_thinned_nets(digits):
    digits["thinned_counts"] = [1, 100]
    result = digits["thin"](trained(digits, drop=[0]), 0)
    kills("reg-thin-agree", result["agree"])
    kills("reg-thin-with-damage", result["whole"] - result["single"])


def test_a_penalty_takes_the_peak_away(digits):
    digits |= {"ridge_sizes": [200], "ridges": [1e-2], "ratios": [1]}
    error = digits["descend_twice"](0)["errors"].item()
    kills("reg-descent-peak", error)


def test_equal_training_sets_and_starts_have_no_variance_to_lose(digits):
    honest = digits["random_net"]
    digits |= {"sets": 3, "refit_steps": 400, "widths": [4, 256]}
    digits["x_pool"], digits["y_pool"] = digits["x_pool"][:1], digits["y_pool"][:1]
    digits["random_net"] = lambda seed, sizes, copies, alike: honest(seed, sizes, copies, alike=True)
    parts = digits["refit"](0)["parts"]
    kills("reg-variance-falls", parts[0, 2] - parts[1, 2])


def test_more_of_the_same_digits_is_no_treatment(digits):
    digits |= {"patient_steps": 1000, "seeds": [0]}
    digits["x_pool"], digits["y_pool"] = digits["x_pool"][:100], digits["y_pool"][:100]
    untreated, more, units = (
        digits["patient"](width, count)["new"].mean for width, count in ((32, 300), (32, 1200), (256, 300))
    )
    print(f"untreated {untreated:.1f}, more of the same {more:.1f}, units {units:.1f} %")
    kills("reg-patient-b-right", units - more)


def test_a_net_that_hardly_learns_has_no_rising_cost(digits):
    costs, x, y = [], digits["x_new"][:2000], digits["y_new"][:2000]
    net = digits["random_net"](0, [196, 64, 10])
    digits["fit"](net, digits["x_few"], digits["y_few"], 0.003, 1500, 0, fall=False, every=20,
                  look=lambda net: costs.append(digits["cost"](digits["forward"](net, x)[0], y)[0]))  # fmt: skip
    kills("reg-stop-rise", costs[-1] - min(costs))


def test_a_strength_chosen_by_its_errors_loses(digits):
    """The procedure climbs, so what it climbs has to be the accuracy."""
    strengths = [0, 0.1, 0.5, 1, 2, 10, 100]
    net = trained(digits, l2=strengths)
    held, new = (digits["accuracy"](net, digits[f"x_{part}"], digits[f"y_{part}"]) for part in ("val", "new"))
    digits |= {"grids": {"l2": strengths}, "seeds": [0]}
    for scores, judge in ((held, keeps), (100 - held, kills)):
        digits["swept"] = {"l2 held": Swept([scores]), "l2 test": Swept([new])}
        judge("reg-powers-lost", measured_by_cell(NAME, "reg-powers-lost", digits)["reg-powers-lost"])


class Swept:
    """What `over_seeds` returns, of one seed."""

    def __init__(self, values):
        self.values = np.array(values)


def stopped(digits, replace=None, **given):
    """The long run of one seed, in a cell of its own, and what the two cells on stopping record of it."""
    digits |= {"seeds": [0], "long_epochs": 120, "watched": 5_000} | given
    found = measured_by_cell(NAME, "held cost", digits, replace, records=False)
    found = measured_by_cell(NAME, "reg-stop-gained", digits)
    return found | measured_by_cell(NAME, "reg-ten-lost", digits)


def test_at_a_tenth_of_the_rate_the_end_is_as_well_calibrated(digits):
    found = stopped(digits, {"fit(net, x, y, 0.3,": "fit(net, x, y, 0.03,"})
    kills("reg-stop-end-gap", found["reg-stop-end-gap"], found["reg-stop-cost-gap"])


def test_a_cost_that_takes_logits_for_far_surer_than_they_are_stops_too_early(digits):
    found = stopped(digits, {"cost(logits, y_val)": "cost(20 * logits, y_val)"})
    kills("reg-stop-gained", found["reg-stop-gained"])


def test_a_patience_of_one_loses_what_ten_do_not(digits):
    stopped(digits)
    found = measured_by_cell(NAME, "reg-ten-lost", digits, {"patient_stop(scores, 10)": "patient_stop(scores, 1)"})
    kills("reg-ten-lost", found["reg-ten-lost"])


def test_dropout_that_rests_in_training_saves_nothing(digits):
    """All arms are then one and the same, after any number of epochs."""
    digits |= {"seeds": [0], "conv_epochs": 1, "few": 200, "tested": 2_000, "titles": {"test": "", "cost": ""}}
    digits |= {"x_new": digits["x_new"][:2_000], "y_new": digits["y_new"][:2_000]}
    digits["loss"] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = measured_by_cell(NAME, "reg-conv-saves", digits, {"if not training:": "if training:"})
    kills("reg-conv-saves", found["reg-conv-saves"])
