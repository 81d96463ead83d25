"""The chapter's formulas against Keras and finite differences, and what happens when a cause is broken."""

import math

import calipers
import keras
import numpy as np
import pytest
from breaks import keeps, kills
from calipers import datasets
from chapters import definitions, records_of

NAME = "batch_normalisation"
EXAMPLES, UNITS, EPSILON = -2, -1, 1e-5
B, A = "batch before", "batch after"
SEEDS = (0, 1, 2)


@pytest.fixture
def chapter():
    """The page's functions and classes; a test may replace one of them, since all look each other up here."""
    namespace = definitions(NAME)
    namespace |= {"EXAMPLES": EXAMPLES, "UNITS": UNITS, "EPSILON": EPSILON, "B": B}
    return namespace


def slope(function, array, place, step=1e-6):
    """The derivative of a number along one entry of an array, by moving it both ways."""
    value = {}
    for sign in (1, -1):
        moved = array.copy()
        moved[place] += sign * step
        value[sign] = function(moved)
    return (value[1] - value[-1]) / (2 * step)


@pytest.mark.parametrize("shape", [(64, 5), (2, 3), (1, 4), (3, 8, 6)])
def test_normalising_over_the_batch_is_kerass(chapter, shape):
    z = np.random.default_rng(0).normal(2, 3, size=shape).astype("float32")
    ours, mean, variance = chapter["normalise"](z, EXAMPLES)
    for stack in np.ndindex(shape[:-2]):
        layer = keras.layers.BatchNormalization(momentum=0, epsilon=EPSILON)
        theirs = keras.ops.convert_to_numpy(layer(z[stack], training=True))
        np.testing.assert_allclose(ours[stack], theirs, atol=2e-3 if shape[-2] == 1 else 1e-4)
        np.testing.assert_allclose(mean[stack][0], keras.ops.convert_to_numpy(layer.moving_mean), rtol=1e-4, atol=1e-5)
        kept = keras.ops.convert_to_numpy(layer.moving_variance)
        np.testing.assert_allclose(variance[stack][0], kept, rtol=1e-4, atol=1e-5)


def test_normalising_over_the_units_is_kerass(chapter):
    z = np.random.default_rng(1).normal(2, 3, size=(5, 7)).astype("float32")
    theirs = keras.ops.convert_to_numpy(keras.layers.LayerNormalization(epsilon=EPSILON)(z))
    np.testing.assert_allclose(chapter["normalise"](z, UNITS)[0], theirs, atol=1e-4)


def test_a_unit_that_never_changes_becomes_nought(chapter):
    z = np.full((8, 1), 3.0)
    normal, mean, variance = chapter["normalise"](z, EXAMPLES)
    assert (normal == 0).all()
    assert mean.item() == 3
    assert variance.item() == 0
    backward = chapter["normalise_backward"](np.ones((8, 1)), normal, variance, EXAMPLES)
    assert np.allclose(backward, 0)


@pytest.mark.parametrize("axis", [EXAMPLES, UNITS])
@pytest.mark.parametrize("shape", [(16, 5), (2, 3), (1, 4)])
def test_the_way_back_is_what_finite_differences_say(chapter, axis, shape):
    rng = np.random.default_rng(2)
    z, delta = rng.normal(size=(2, *shape))
    z_hat, _, variance = chapter["normalise"](z, axis)
    gradient = chapter["normalise_backward"](delta, z_hat, variance, axis)
    for place in np.ndindex(shape):
        expected = slope(lambda moved: np.sum(delta * chapter["normalise"](moved, axis)[0]), z, place)
        assert gradient[place] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_cross_entropy_is_kerass_and_survives_huge_logits(chapter):
    logits, labels = np.array([[[1000.0, 0.0, -1000.0], [0.5, -0.5, 2.0]]]), np.array([1, 2])
    loss, gradient = chapter["cross_entropy"](logits, labels)
    theirs = keras.ops.sparse_categorical_crossentropy(labels, logits[0], from_logits=True)
    assert loss[0] == pytest.approx(float(keras.ops.mean(theirs)), rel=1e-6)
    assert np.isfinite(gradient).all()
    expected = slope(lambda z: chapter["cross_entropy"](z, labels)[0][0], logits, (0, 1, 0))
    assert gradient[0, 1, 0] == pytest.approx(expected)


def test_a_stack_of_nets_is_as_many_single_nets(chapter):
    x = np.random.default_rng(3).normal(size=(32, 20)).astype("float32")
    y = np.arange(32) % 10
    both = chapter["Net"]([20, 8, 8, 10], B, gains=[0.5, 2])
    losses = chapter["train"](both, x, y, [0.1, 0.5], 5, batch_size=16)
    for number, (gain, rate) in enumerate([(0.5, 0.1), (2, 0.5)]):
        one = chapter["train"](chapter["Net"]([20, 8, 8, 10], B, gains=[gain]), x, y, rate, 5, batch_size=16)
        np.testing.assert_allclose(losses[:, number], one[:, 0], rtol=1e-4)


def test_running_statistics_forget_at_the_rate_of_their_momentum(chapter):
    net = chapter["Net"]([6, 4, 10], B, momentum=0.9, dtype="float64")
    x = np.random.default_rng(4).normal(5, 2, size=(50, 6))
    net.forward(x, "batch")
    assert (net.running[0][0] == 0).all(), "looking at a batch must not move them"
    for _ in range(7):
        net.forward(x, "train")
    mean, variance = (x @ net.layers[0]["w"]).mean(axis=EXAMPLES), (x @ net.layers[0]["w"]).var(axis=EXAMPLES)
    left = 0.9**7
    np.testing.assert_allclose(net.running[0][0][:, 0], (1 - left) * mean)
    np.testing.assert_allclose(net.running[0][1][:, 0], left + (1 - left) * variance)


def test_inference_does_not_depend_on_the_company(chapter):
    net = chapter["Net"]([6, 8, 8, 10], B)
    x = np.random.default_rng(5).normal(size=(30, 6)).astype("float32")
    net.forward(x, "train")
    alone, together = net.forward(x[:1], "inference"), net.forward(x, "inference")[:, :1]
    np.testing.assert_allclose(alone, together, atol=1e-5)
    assert not np.allclose(net.forward(x[:4], "batch")[:, :1], net.forward(x, "batch")[:, :1], atol=1e-3)


@pytest.mark.parametrize("factor", [3.0, -2.0, 0.0])
def test_layer_normalisation_keeps_the_sign_of_a_factor(chapter, factor):
    z = np.random.default_rng(6).normal(size=(4, 9))
    expected = np.sign(factor) * chapter["normalise"](z, UNITS)[0]
    np.testing.assert_allclose(chapter["normalise"](factor * z, UNITS)[0], expected, atol=1e-4)


def test_folding_leaves_what_the_net_infers(chapter):
    net = chapter["Net"]([6, 8, 7, 10], B, seed=1)
    x = np.random.default_rng(7).normal(size=(40, 6)).astype("float32")
    chapter["train"](net, x, np.arange(40) % 10, 0.5, 20, batch_size=20)
    folded = chapter["folded"](net)
    np.testing.assert_allclose(folded.forward(x, "inference"), net.forward(x, "inference"), atol=1e-4)


def test_steps_are_counted_from_the_first_and_never_reached_is_all_of_them(chapter):
    assert chapter["steps_to"](np.array([1.0] * 30 + [0.0] * 30), 0.5) == 41
    assert chapter["steps_to"](np.zeros(60)) == 20
    assert chapter["steps_to"](np.ones(60)) == 60


# Break the formulas: the chapter's own checks, run as the page runs them, have to notice.

BREAKS = {
    "the way back forgets the variance": ("(centred - z_hat * along)", "(centred)"),
    "the way back forgets the mean": ("delta - delta.mean(axis, keepdims=True)", "delta"),
    "the way back forgets gamma": ('delta = layer["gamma"] * delta', "delta = delta"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_finite_differences_notice_that(what, tmp_path):
    old, new = BREAKS[what]
    records = records_of(NAME, tmp_path, upto="bn-gradient-disagreements", replace={old: new})
    kills("bn-gradient-disagreements", records["bn-gradient-disagreements"]["mean"])


def test_the_comparison_with_keras_notices_pytorchs_momentum(tmp_path):
    replace = {"old += (1 - self.momentum) * (new - old)": "old += self.momentum * (new - old)"}
    records = records_of(NAME, tmp_path, upto="bn-scratch-apart", replace=replace)
    kills("bn-scratch-apart", records["bn-scratch-apart"]["mean"])


# Break the causes: the bound that the book reports has to fail.


@pytest.fixture(scope="module")
def digits():
    try:
        (x, y), (x_test, y_test) = datasets.load("mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x, x_test = (values.reshape(len(values), -1) / np.float32(255) for values in (x, x_test))
    middle, spread = x.mean(), x.std()
    x, x_test = (x - middle) / spread, (x_test - middle) / spread
    return x, y.astype(int), x_test, y_test.astype(int)


def sample(values):
    return calipers.Sample(np.array(values, dtype=float), SEEDS)


def trains(chapter, digits, norm):
    """How many of the map's 30 settings train, seed 0, at quick's own length."""
    x, y, _, _ = digits
    pairs = np.array([(4.0**rate, 2.0**gain) for rate in range(-4, 2) for gain in range(-2, 3)])
    net = chapter["Net"]([784] + [50] * 10 + [10], norm, gains=pairs[:, 1])
    chapter["train"](net, x[:10_000], y[:10_000], pairs[:, 0], 60)
    return int((chapter["accuracy"](net, x[-2_000:], y[-2_000:]) > 50).sum())


def test_the_map_does_not_widen_when_only_the_mean_is_removed(chapter, digits):
    def centre(z, axis):
        mean = z.mean(axis, keepdims=True)
        return z - mean, mean, np.ones_like(mean)

    chapter["normalise"] = centre
    chapter["normalise_backward"] = lambda delta, z_hat, variance, axis: delta - delta.mean(axis, keepdims=True)
    ratio = trains(chapter, digits, B) / max(1, trains(chapter, digits, ""))
    kills("bn-map-ratio", ratio)


def test_gradients_do_not_explode_when_the_mean_is_left_in(chapter, digits):
    """The derivation blames the mean: divide the layer by its root mean square alone, and the growth has to go.

    One size for the whole layer: unit by unit, the few units that are small by chance would have huge factors.
    """

    def by_size(z, axis):
        square = (z**2).mean((-2, -1), keepdims=True)
        return z / np.sqrt(square + EPSILON), 0 * square, square

    def back(delta, z_hat, variance, axis):
        along = (delta * z_hat).mean((-2, -1), keepdims=True)
        return (delta - z_hat * along) / np.sqrt(variance + EPSILON)

    x, y, _, _ = digits
    factors = {}
    for what in ("as it is", "broken"):
        if what == "broken":
            chapter["normalise"], chapter["normalise_backward"] = by_size, back
        net = chapter["Net"]([784] + [100] * 20 + [10], B)
        _, delta = chapter["cross_entropy"](net.forward(x[:256]), y[:256])
        net.backward(delta)
        first, last = (np.linalg.norm(net.deltas[number]) for number in (0, -1))
        factors[what] = (first / last) ** (1 / 19)
    keeps("bn-explosion-batch", factors["as it is"])
    keeps("bn-explosion-batch", math.sqrt(math.pi / (math.pi - 1)))
    kills("bn-explosion-batch", factors["broken"])


def placed(chapter, digits, norm, rate, noise=0.0):
    x, y, x_test, y_test = digits
    reads = []
    for seed in SEEDS:
        net = chapter["Net"]([784] + [64] * 8 + [10], norm, seed=seed)
        net.noise = noise
        chapter["train"](net, x[:10_000], y[:10_000], rate, 400, seed=seed, decay=True)
        reads.append(chapter["accuracy"](net, x_test, y_test)[0])
    return sample(reads)


def test_after_is_not_better_than_nothing_at_ten_times_the_rate(chapter, digits):
    kills("bn-place-after-every-relu", placed(chapter, digits, A, 10), placed(chapter, digits, "", 1 / 8))


def test_enough_noise_makes_the_shaken_net_worse_than_the_plain_one(chapter, digits):
    kills("bn-place-before-noisy", placed(chapter, digits, B, 1, noise=2), placed(chapter, digits, "", 1 / 8))


def test_shuffled_labels_leave_nothing_to_regularise(chapter, digits):
    x, y, x_test, y_test = digits
    reads = {"": [], B: []}
    for seed in SEEDS:
        some = np.random.default_rng([seed, 3]).permutation(10_000)[:1000]
        labels = np.random.default_rng(seed).permutation(y[some])
        for norm, rate in (("", 1 / 4), (B, 2)):
            net = chapter["Net"]([784] + [100] * 4 + [10], norm, seed=seed)
            chapter["train"](net, x[some], labels, rate, 400, 50, seed, decay=True)
            reads[norm].append(chapter["accuracy"](net, x_test, y_test)[0])
    kills("bn-few-batch", sample(reads[B]), sample(reads[""]))


def test_without_its_normalisation_the_net_does_not_read_more_from_few_digits(chapter, digits, monkeypatch):
    """Scale and shift alone: nothing is centred, nothing divided."""
    x, y, x_test, y_test = digits
    monkeypatch.setitem(chapter, "normalise", lambda z, axis: (z, np.zeros((1, 1, 1)), np.ones((1, 1, 1))))
    monkeypatch.setitem(chapter, "normalise_backward", lambda delta, *_: delta)
    reads = {"": [], B: []}
    for seed in SEEDS:
        some = np.random.default_rng([seed, 3]).permutation(10_000)[:1000]
        for norm, rate in (("", 1 / 4), (B, 2)):
            net = chapter["Net"]([784] + [100] * 4 + [10], norm, seed=seed)
            chapter["train"](net, x[some], y[some], rate, 400, 50, seed, decay=True)
            reads[norm].append(chapter["accuracy"](net, x_test, y_test)[0])
    kills("bn-few-batch", sample(reads[B]), sample(reads[""]))


def test_at_a_quarter_of_the_rate_the_plain_gradients_stay_together(chapter, digits):
    x, y, _, _ = digits
    apart = {}
    for norm, rate in (("", 1 / 16), (B, 1 / 4)):
        apart[norm] = []
        for seed in SEEDS:
            ratios = []

            def watch(number, net, ratios=ratios):
                ratios.append(np.linalg.norm(net.deltas[0]) / np.linalg.norm(net.deltas[-1]))

            net = chapter["Net"]([784] + [50] * 20 + [10], norm, seed=seed)
            chapter["train"](net, x[:10_000], y[:10_000], rate, 150, seed=seed, watch=watch)
            apart[norm].append(100 * np.mean(np.abs(np.log10(ratios[75:])) > 1))
    kills("bn-late-apart-plain", sample(apart[""]), sample(apart[B]))
