"""The chapter's formulas against Keras and finite differences, and what happens when a cause is broken."""

import keras
import numpy as np
import pytest
from breaks import keeps, kills
from calipers import datasets
from chapters import definitions, measured_by_cell, records_of

NAME = "variation_and_ensembles"


@pytest.fixture
def chapter():
    return definitions(NAME)


def some(nets=4, pictures=50, classes=10, seed=0, sharp=1.0):
    """Probabilities of some nets and labels."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, sharp), size=(nets, pictures)), rng.integers(classes, size=pictures)


def test_the_pictures_that_the_page_calls_a_coat_and_a_boot_are():
    labels = datasets.load("fashion_mnist")[1][1]
    assert (labels[17], labels[23]) == (4, 9)


# The formulas


def test_softmax_is_kerass_and_survives_huge_logits(chapter):
    logits = np.array([[1000.0, 0.0, -1000.0], [0.5, -0.5, 2.0]])
    theirs = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    np.testing.assert_allclose(chapter["softmax"](logits), theirs, atol=1e-6)


@pytest.mark.parametrize(("nets", "batch"), [(1, 1), (1, 7), (3, 5)])
def test_the_stacks_gradient_is_what_finite_differences_say(chapter, nets, batch):
    rng = np.random.default_rng(3)
    stack = chapter["random_stack"](range(nets), [6, 5, 4], "float64")
    stack = [array + rng.normal(0, 0.1, array.shape) for array in stack]
    x, y = rng.normal(size=(nets, batch, 6)), rng.integers(4, size=(nets, batch))

    def losses(moved):
        return chapter["cross_entropy"](chapter["softmax"](chapter["stack_logits"](moved, x)), y)

    slopes = chapter["stack_slopes"](stack, x, y)
    for number, array in enumerate(stack):
        for place in range(0, array.size, 3):
            there, value = np.unravel_index(place, array.shape), []
            for sign in (1, -1):
                moved = [a.copy() for a in stack]
                moved[number][there] += sign * 1e-6
                value.append(losses(moved)[there[0]])
            assert slopes[number][there] == pytest.approx((value[0] - value[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_the_nets_of_a_stack_do_not_know_of_each_other(chapter):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(40, 6)).astype("float32"), rng.integers(4, size=40)
    dealt = chapter["deal"]([5, 6], 40, 8, 10)
    both = chapter["random_stack"]([1, 2], [6, 5, 4])
    copies = chapter["train_stack"](both, x, y, dealt, cycles=[1, 4])
    assert len(copies) == 4
    for net, cycles in ((0, 1), (1, 4)):
        alone = chapter["random_stack"]([net + 1], [6, 5, 4])
        chapter["train_stack"](alone, x, y, dealt[net : net + 1], cycles=cycles)
        for mine, array in zip(alone, both, strict=True):
            np.testing.assert_allclose(mine[0], array[net], atol=1e-6)


def test_every_picture_is_dealt_once_an_epoch(chapter):
    dealt = chapter["deal"]([7, 8], 30, 6, 10)
    assert dealt.shape == (2, 6, 10)
    for net in dealt:
        for epoch in (net[:3], net[3:]):
            assert sorted(epoch.ravel()) == list(range(30))
    assert (dealt[0] != dealt[1]).any()


def test_votes_ties_and_averages(chapter):
    p = np.array([[[0.9, 0.1, 0.0]], [[0.0, 0.6, 0.4]], [[0.3, 0.1, 0.6]]])
    assert chapter["votes"](p).tolist() == [[1, 1, 1]]
    assert chapter["vote"](p).tolist() == [0]  # a tie goes to the larger average
    sure = np.array([[[1.0, 0.0]], [[0.45, 0.55]], [[0.45, 0.55]]])
    assert chapter["vote"](sure).tolist() == [1]
    assert chapter["average"](sure).argmax(-1).tolist() == [0]


def test_the_scores_are_kerass(chapter):
    p, y = some()
    for one in p:
        theirs = keras.ops.mean(keras.ops.sparse_categorical_crossentropy(y, one))
        assert chapter["cross_entropy"](one, y) == pytest.approx(float(theirs), rel=1e-5)
        theirs = keras.ops.convert_to_numpy(keras.losses.mean_squared_error(np.eye(10)[y], one))
        np.testing.assert_allclose(chapter["brier"](one, y), 10 * theirs, rtol=1e-5)
        assert chapter["accuracy"](one, y) == pytest.approx(100 * np.mean(one.argmax(-1) == y))


@pytest.mark.parametrize(("nets", "sharp"), [(1, 1.0), (2, 0.05), (9, 1.0), (5, 100.0)])
def test_the_ensemble_gains_its_ambiguity_and_never_loses(chapter, nets, sharp):
    p, y = some(nets, sharp=sharp)
    together = chapter["brier"](chapter["average"](p), y)
    np.testing.assert_allclose(together, chapter["brier"](p, y).mean(0) - chapter["ambiguity"](p), atol=1e-12)
    for picture in range(len(y)):
        one, label = p[:, picture : picture + 1], y[picture : picture + 1]
        mean = chapter["cross_entropy"](one, label).mean()
        assert chapter["cross_entropy"](chapter["average"](one), label) <= mean + 1e-12


def test_the_calibration_error_bin_by_bin(chapter):
    p, y = some(1, 300, 3)
    p = p[0]
    p[:2] = np.eye(3)[:2]  # a confidence of exactly 1
    sure, right, expected = p.max(-1), p.argmax(-1) == y, 0
    for low in np.arange(15) / 15:
        inside = (sure >= low) & (sure < low + 1 / 15) | ((low > 0.93) & (sure == 1))
        if inside.any():
            expected += 100 * inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    assert chapter["calibration_error"](p, y) == pytest.approx(expected)
    certain = np.eye(3)[y]
    assert chapter["calibration_error"](certain, y) == 0


def test_the_rejection_curve_ends_at_the_accuracy(chapter):
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.55, 0.45]])
    curve = chapter["rejection_curve"](p, np.array([0, 0, 1, 0]))
    np.testing.assert_allclose(curve, [100, 100, 200 / 3, 75])
    assert curve[-1] == chapter["accuracy"](p, np.array([0, 0, 1, 0]))


def test_the_forecast_is_right_on_average(chapter):
    rng = np.random.default_rng(1)
    middle, y = rng.dirichlet(np.ones(4), size=400), rng.integers(4, size=400)
    p = np.array([[rng.dirichlet(5 * m) for m in middle] for _ in range(30)])
    law = ((middle - np.eye(4)[y]) ** 2).sum(-1).mean() + (1 - (middle**2).sum(-1)).mean() / 6 / 10
    forecasts = [chapter["forecast"](p[k : k + 3], y, 10) for k in range(0, 30, 3)]
    assert np.mean(forecasts) == pytest.approx(law, rel=0.01)


def test_a_temperature_is_found_where_it_is_known(chapter):
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 4, size=(6000, 5))
    honest = chapter["softmax"](logits / 2)
    y = (honest.cumsum(-1) > rng.random((6000, 1))).argmax(-1)
    assert chapter["best_temperature"](chapter["softmax"](logits), y) == pytest.approx(2, abs=0.15)
    np.testing.assert_allclose(chapter["tempered"](chapter["softmax"](logits), 2), honest, atol=1e-6)


def test_values_between_pixels_are_bilinear_and_zero_outside(chapter):
    x = np.random.default_rng(0).random((3, 28, 28)).astype("float32")
    i, j = np.broadcast_to(np.mgrid[:28, :28].astype("float32")[:, None], (2, 3, 28, 28))
    np.testing.assert_array_equal(chapter["between"](x, i, j), x)
    np.testing.assert_allclose(
        chapter["between"](x, i + 0.25, j)[:, :-1], 0.75 * x[:, :-1] + 0.25 * x[:, 1:], atol=1e-6
    )
    np.testing.assert_allclose(chapter["between"](x, i, j - 2)[:, :, 2:], x[:, :, :-2], atol=1e-6)
    assert not chapter["between"](x, i, j - 2)[:, :, :1].any()
    assert not chapter["between"](x, i + 99, j).any()


def test_a_moved_digit_is_moved_a_little_and_none_like_another(chapter):
    x = np.zeros((600, 28, 28, 1), "float32")  # more than two blocks
    x[:, 10:18, 12:16] = 1
    out = chapter["moved"](x, np.random.default_rng(0))
    assert out.dtype == x.dtype
    assert len(np.unique(out, axis=0)) == 600
    weight = out.sum((1, 2, 3))
    middle = np.einsum("nijc,kij->kn", out, np.mgrid[:28, :28]) / weight
    assert abs(weight.mean() / 32 - 1) < 0.05
    assert np.abs(middle - [[13.5], [13.5]]).max() < 5
    assert (middle.std(axis=1) > 0.5).all()
    assert np.abs(middle.mean(axis=1) - 13.5).max() < 0.2


def test_the_net_for_digits_has_the_parameters_that_its_layers_add_up_to(chapter):
    convolutions = 25 * 24 + 25 * 24 * 64
    dense = 4 * 4 * 64 * 128 + 128 * 10 + 10
    assert chapter["digit_net"]().count_params() == convolutions + dense + 4 * (24 + 64 + 128)


def test_keras_nets_one_after_the_other_say_what_each_would_say_alone(chapter):
    x, y = np.random.default_rng(0).random((125, 28, 28, 1)).astype("float32"), np.arange(125) % 10
    both = chapter["one_by_one"]([3, 4], x, y, 2, [x[:7], x[:5]], change=chapter["moved"])
    assert [p.shape for p in both] == [(2, 7, 10), (2, 5, 10)]
    (alone,) = chapter["one_by_one"]([4], x, y, 2, [x[:7]], change=chapter["moved"])
    np.testing.assert_allclose(both[0][1], alone[0], atol=1e-5)
    assert np.abs(both[0][0] - both[0][1]).max() > 1e-3


def test_the_expected_maximum_where_it_is_known(chapter):
    assert chapter["expected_maximum"](1) == pytest.approx(0, abs=1e-9)
    assert chapter["expected_maximum"](2) == pytest.approx(1 / np.sqrt(np.pi), rel=1e-6)


def test_a_restart_forgets_everything(chapter):
    rng = np.random.default_rng(0)
    x, y = rng.random((250, 28, 28, 1)).astype("float32"), rng.integers(10, size=250)
    layers = [keras.layers.Conv2D(2, 9, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(10)]
    layers.append(keras.layers.BatchNormalization())
    model = chapter["compiled"](keras.Sequential([keras.Input((28, 28, 1)), *layers]), 250, 1)
    kept, fresh = [], model.get_weights()
    for seed in (1, 2, 1):
        chapter["train"](model, fresh, seed, x, y, 1)
        kept.append([array.copy() for array in model.get_weights()])
    for first, second, again in zip(*kept, strict=True):
        np.testing.assert_allclose(first, again, atol=1e-6)
        assert first.ndim == 1 or np.abs(first - second).max() > 1e-3  # weights, not biases


# Break the formulas: the chapter's own checks have to notice.

BREAKS = {
    "the gradient forgets the bend": ("* (hidden > 0)", "* (hidden > -1)", "ens-gradient-disputed"),
    "every net is trained on the first one's pictures": ("x_few[batch], y_few[batch])):", "x_few[batch[::-1]], "
     "y_few[batch[::-1]])):", "ens-keras-apart"),
    "the ambiguity is measured from the first net": ("((p - average(p)) ** 2)", "((p - p[0]) ** 2)",
     "ens-ambiguity-fails"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_the_page_notices_that(what, tmp_path):
    old, new, noticed = BREAKS[what]
    kills(noticed, records_of(NAME, tmp_path, upto=noticed, replace={old: new})[noticed]["mean"])


# Break the causes: the bounds that the book reports have to fail.


def pictures(chapter, count, data="fashion_mnist"):
    """Some halved pictures to train on and some to test on."""
    try:
        (x, y), (x_test, y_test) = datasets.load(data)
    except datasets.DatasetError as error:
        pytest.skip(f"no pictures, so nothing can be trained: {str(error).splitlines()[0]}")
    x, x_test = ((p[..., None] / 255).astype("float32") for p in (x[:count], x_test))
    return chapter["halved"](x), y[:count].astype(int), chapter["halved"](x_test), y_test.astype(int)


def said_by(chapter, weight_seeds, order_seeds, x, y, x_test, steps=200):
    stack = chapter["random_stack"](weight_seeds, [196, 32, 10])
    chapter["train_stack"](stack, x, y, chapter["deal"](order_seeds, len(x), steps, 50))
    return chapter["softmax"](chapter["stack_logits"](stack, x_test).astype("float64")), stack


@pytest.fixture(scope="module")
def trained():
    """Five nets of five seeds, and five of one and the same."""
    chapter = definitions(NAME)
    x, y, x_test, y_test = pictures(chapter, 4000)
    different = said_by(chapter, range(5), range(5), x, y, x_test)
    same = said_by(chapter, [0] * 5, [0] * 5, x, y, x_test)
    return {"different": different, "same": same, "x": x_test, "y": y_test}


def gain(chapter, p, y):
    return chapter["accuracy"](chapter["average"](p), y) - chapter["accuracy"](p, y).mean()


def test_nets_of_one_seed_gain_nothing(chapter, trained):
    kills("ens-gain", gain(chapter, trained["same"][0], trained["y"]))
    assert gain(chapter, trained["different"][0], trained["y"]) > 0.1


def test_weights_of_nets_that_are_the_same_can_be_averaged(chapter, trained):
    for group, judge in (("same", kills), ("different", keeps)):
        mean = [array.mean(axis=0, keepdims=True) for array in trained[group][1]]
        score = chapter["accuracy"](chapter["softmax"](chapter["stack_logits"](mean, trained["x"])), trained["y"])[0]
        judge("ens-weights-merged", score)


def test_without_easy_pictures_all_the_binomial_error_is_luck(chapter, trained):
    rng = np.random.default_rng(0)
    p, y = trained["different"][0], trained["y"]
    shuffled = np.array([net[rng.permutation(len(y))] for net in p])
    for said, judge in ((p, keeps), (shuffled, kills)):
        _, predicted, binomial = chapter["kinds_of_luck"](said, y)
        judge("ens-luck-share", (predicted / binomial) ** 2)


def test_nets_of_different_quality_spread_by_more_than_luck(chapter, trained):
    p, y = trained["different"][0].copy(), trained["y"]
    for net, share in enumerate((0.0, 0.01, 0.02, 0.03, 0.04)):
        p[net, : int(share * len(y))] = np.eye(10)[(y[: int(share * len(y))] + 1) % 10]
    spread, predicted, _ = chapter["kinds_of_luck"](p, y)
    kills("ens-spread-ratio", spread / predicted)


def test_the_forecast_fails_for_nets_that_are_no_strangers(chapter, trained):
    p, y = trained["different"][0], trained["y"]
    more = np.concatenate([p[:3], np.repeat(p[:1], 97, axis=0)])
    for nets, judge in ((p, keeps), (more, kills)):
        ratio = chapter["forecast"](nets[:3], y, len(nets)) / chapter["brier"](chapter["average"](nets), y).mean()
        judge("ens-forecast", ratio)


def test_nets_taught_from_shuffled_labels_miss_the_figure(chapter):
    try:
        chapter["tested"] = 10_000
        x, y, x_test, y_test = chapter["load"]("fashion_mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no pictures, so nothing can be trained: {str(error).splitlines()[0]}")
    rng = np.random.default_rng(0)
    wrong = np.where(rng.random(len(y)) < 0.5, rng.permutation(y), y)
    for labels, judge in ((y, keeps), (wrong, kills)):
        (p,) = chapter["side_by_side"]([0], x[:50_000], labels[:50_000], 8, [x_test])
        judge("ens-member", chapter["accuracy"](p, y_test)[0])


def test_at_ten_times_the_rate_a_net_misses_the_figure(chapter):
    try:
        chapter["tested"] = 10_000
        x, y, x_test, y_test = chapter["load"]("fashion_mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no pictures, so nothing can be trained: {str(error).splitlines()[0]}")
    train_stack = chapter["train_stack"]
    chapter["train_stack"] = lambda *arguments: train_stack(*arguments, peak=2.0)
    (p,) = chapter["side_by_side"]([0], x[:50_000], y[:50_000], 8, [x_test])
    kills("ens-member", chapter["accuracy"](p, y_test)[0])


@pytest.mark.parametrize(("leaked", "judge"), [(0, keeps), (0.03, kills)])
def test_validation_spreads_as_the_test_does_unless_it_leaks_into_training(leaked, judge, chapter):
    """Ten nets that are right nine times in ten; net number k was also shown k times `leaked` of the validation set."""
    rng = np.random.default_rng(0)
    y = {"val": rng.integers(10, size=10_000), "test": rng.integers(10, size=10_000)}
    said = {part: np.eye(10)[np.where(rng.random((3, 10, 10_000)) < 0.9, y[part], 9 - y[part])] for part in y}
    for net in range(10):
        known = int(net * leaked * 10_000)
        said["val"][:, net, :known] = np.eye(10)[y["val"][:known]]
    given = {"p_test": said["test"], "p_val": said["val"], "y_test": y["test"], "y_val": y["val"], "x_val": y["val"]}
    chapter |= given | {"members": 10, "tested": 10_000, "seeds": [0, 1, 2]}
    judge("ens-spread-val-excess", measured_by_cell(NAME, "ens-spread-val-excess", chapter)["ens-spread-val-excess"])
