"""The chapter's formulas against Keras and finite differences, and what happens when a cause is broken."""

import keras
import numpy as np
import pytest
from breaks import keeps, kills, reported
from calipers import datasets
from chapters import definitions, measured_by_cell, records_of

NAME = "activations"
KINDS = ["sigmoid", "tanh", "relu", "relu6", "leaky", "elu", "selu", "gelu", "swish", "softplus"]


@pytest.fixture(scope="module")
def chapter():
    return definitions(NAME)


def keras_function(kind):
    if kind == "leaky":
        return lambda z: keras.activations.leaky_relu(z, negative_slope=0.1)
    return getattr(keras.activations, kind)


@pytest.mark.parametrize("kind", KINDS)
class TestActivation:
    def test_slope_is_what_finite_differences_say(self, chapter, kind):
        function = chapter["bends"]()[kind]
        z = np.concatenate([np.linspace(-8, 8, 333) + 1e-3, [-40.0, 40.0]])
        difference = (function(z + 1e-6)[0] - function(z - 1e-6)[0]) / 2e-6
        np.testing.assert_allclose(function(z)[1], difference, rtol=1e-6, atol=2e-8)

    def test_value_is_kerass_out_to_a_thousand_and_at_zero(self, chapter, kind):
        z = np.array([-1000, -88, -30, -6, -1, -1e-4, 0, 1e-4, 1, 6, 30, 88, 1000], "float32")
        expected = keras.ops.convert_to_numpy(keras_function(kind)(keras.ops.convert_to_tensor(z)))
        for dtype in ("float32", "float64"):
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                value, slope = chapter["bends"]()[kind](z.astype(dtype))
            np.testing.assert_allclose(value, expected, rtol=2e-6, atol=1e-7)
            assert np.isfinite(slope).all()

    def test_single_precision_stays_single(self, chapter, kind):
        value, slope = chapter["bends"]()[kind](np.linspace(-3, 3, 7, dtype="float32"))
        assert value.dtype == slope.dtype == np.float32

    def test_slope_at_zero_lies_between_the_two_sides(self, chapter, kind):
        function = chapter["bends"]()[kind]
        left, at, right = function(np.array([-1e-9, 0.0, 1e-9]))[1]
        assert min(left, right) - 1e-8 <= at <= max(left, right) + 1e-8


def test_the_tails_keep_their_digits(chapter):
    """e^-30 below the largest value: the textbook forms 1 - tanh^2, log(1 + e^z), z (1 - erfc / 2) give 0 or noise."""
    bends = chapter["bends"]()
    assert bends["tanh"](np.array([30.0]))[1][0] == pytest.approx(4 * np.exp(-60), rel=1e-9)
    assert bends["softplus"](np.array([-40.0]))[0][0] == pytest.approx(np.exp(-40), rel=1e-9)
    assert bends["elu"](np.array([-1e-9]))[0][0] == pytest.approx(-1e-9, rel=1e-6)
    assert bends["gelu"](np.array([-10.0]))[0][0] == pytest.approx(-10 * 7.61985302416e-24, rel=1e-6)


def test_softmax_survives_huge_logits_and_its_way_back_is_right(chapter):
    z = np.array([[1000.0, 0.0, -1000.0], [0.5, -0.5, 2.0]])
    p = chapter["softmax"](z)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    np.testing.assert_allclose(p, keras.ops.convert_to_numpy(keras.activations.softmax(z.astype("float32"))), atol=1e-6)
    delta = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
    back = chapter["softmax_backward"](p, delta)
    for place in np.ndindex(2, 3):
        nudge = np.zeros_like(z)
        nudge[place] = 1e-6
        change = np.sum(delta * (chapter["softmax"](z + nudge) - chapter["softmax"](z - nudge))) / 2e-6
        assert back[place] == pytest.approx(change, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("kind", [*KINDS, "prelu", "rrelu"])
def test_every_entry_of_a_nets_gradient(chapter, kind):
    rng = np.random.default_rng(3)
    net = chapter["DenseNet"]([5, 4, 4, 3], kind, rng, "float64")
    for bias in net.biases:
        bias[:] = rng.normal(0, 0.1, bias.shape)
    x, y = rng.normal(size=(6, 5)), rng.integers(0, 3, 6)
    net.loss(x, y)
    gradient = net.gradient.copy()
    for place in range(len(gradient)):
        loss = {}
        for sign in (1, -1):
            net.parameters[place] += sign * 1e-6
            loss[sign] = net.loss(x, y)
            net.parameters[place] -= sign * 1e-6
        assert gradient[place] == pytest.approx((loss[1] - loss[-1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_rrelu_draws_while_training_and_takes_the_mean_afterwards(chapter):
    layer, z = chapter["RandomisedLeakyReLU"](), -np.ones((400, 50), "float32")
    drawn = -keras.ops.convert_to_numpy(layer(z, training=True))
    assert 1 / 8 <= drawn.min() < 0.13
    assert 0.32 < drawn.max() <= 1 / 3 + 1e-6
    assert drawn.mean() == pytest.approx(11 / 48, abs=2e-3)
    np.testing.assert_allclose(-keras.ops.convert_to_numpy(layer(z, training=False)), 11 / 48, rtol=1e-6)


@pytest.mark.parametrize(("kind", "other"), [("tanh", "sigmoid"), ("sigmoid", "tanh")])
def test_a_translated_net_computes_the_same_and_translates_back(chapter, kind, other):
    rng = np.random.default_rng(0)
    net = chapter["DenseNet"]([20, 16, 16, 16, 5], kind, rng, "float64")
    for bias in net.biases:
        bias[:] = rng.normal(0, 0.3, bias.shape)
    x = rng.normal(size=(30, 20))
    there = chapter["translated"](net)
    assert there.kind == other
    np.testing.assert_allclose(there.forward(x), net.forward(x), atol=1e-10)
    np.testing.assert_allclose(chapter["translated"](there).parameters, net.parameters, atol=1e-10)


def test_views_share_memory_with_the_parameters(chapter):
    net = chapter["DenseNet"]([4, 3, 2], "prelu", np.random.default_rng(0))
    net.parameters[:] = 7
    assert all((part == 7).all() for part in (*net.weights, *net.biases, *net.alphas))


# Break the formulas: the chapter's own checks, run as the page runs them, have to notice.

BREAKS = {
    "sigmoid's slope forgets a factor": ("e / (1 + e) ** 2", "e / (1 + e)", "act-slope-disagreements"),
    "swish's slope forgets the gate": ("gate + z * slope", "z * slope", "act-slope-disagreements"),
    "gelu is the approximation": (
        "below = erfc(-z / math.sqrt(2)) / 2",
        "below = (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2",
        "act-keras-disagreements",
    ),
    "PReLU learns nothing": ("below = delta * np.minimum", "below = 0 * np.minimum", "act-gradient-disagreements"),
}  # fmt: skip


@pytest.mark.parametrize("what", BREAKS)
def test_the_pages_checks_notice_that(what, tmp_path):
    old, new, record = BREAKS[what]
    kills(record, records_of(NAME, tmp_path, upto=record, replace={old: new})[record]["mean"])


# Break the cause of each claim: the bound that the book reports has to fail. One seed each.


@pytest.fixture(scope="module")
def data(chapter):
    """Fashion-MNIST as the page uses it, and the digits."""
    try:
        (x, y), (x_test, y_test) = chapter["images"]("fashion_mnist")
        (digits, names), (digits_test, names_test) = chapter["images"]("mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no data, so nothing can be trained: {str(error).splitlines()[0]}")
    centre, scale = x.mean(), x.std()
    fashion = (x[:5_000] - centre) / scale, y[:5_000], (x_test - centre) / scale, y_test
    return fashion, (digits[:7_500], names[:7_500], digits_test, names_test)


FOUR = [784, 64, 64, 64, 64, 10]
SIX = [784, *[64] * 6, 10]


def fashion_accuracy(chapter, data, net, rate, optimiser="adam", spoil=False):
    x, y, x_test, y_test = data[0]
    y = np.roll(y, 1) if spoil else y
    chapter["train"](net, x, y, 3, rate, optimiser)
    return net.accuracy(x_test, y_test)


@pytest.fixture(scope="module")
def relu_accuracy(chapter, data):
    net = chapter["DenseNet"](FOUR, "relu", np.random.default_rng(0))
    return fashion_accuracy(chapter, data, net, 0.008)


def test_sigmoid_is_not_behind_when_it_starts_like_tanh(chapter, data, relu_accuracy):
    net = chapter["translated"](chapter["DenseNet"](FOUR, "tanh", np.random.default_rng(0)))
    behind = relu_accuracy - fashion_accuracy(chapter, data, net, 0.004)
    kills("act-sigmoid-behind", behind)


@pytest.mark.parametrize("what", ["ten times the learning rate", "labels that are shifted by one"])
def test_the_spread_is_large_when_one_of_them_has(what, chapter, data, relu_accuracy):
    net = chapter["DenseNet"](FOUR, "tanh", np.random.default_rng(0))
    spoil = what != "ten times the learning rate"
    reached = fashion_accuracy(chapter, data, net, 0.002 if spoil else 0.02, spoil=spoil)
    kills("act-spread", relu_accuracy - reached)


def test_relu_does_not_lead_at_ten_times_its_rate(chapter, data):
    nets = {kind: chapter["DenseNet"](FOUR, kind, np.random.default_rng(0)) for kind in ("relu", "sigmoid")}
    relu, sigmoid = (
        fashion_accuracy(chapter, data, nets[kind], rate) for kind, rate in (("relu", 0.08), ("sigmoid", 0.016))
    )
    kills("act-relu-accuracy", relu, sigmoid)


def test_no_rate_of_adam_kills_half_of_leaky_units(chapter, data):
    page = definitions(NAME)
    digits, names, digits_test, names_test = data[1]
    page |= {"x_digits": digits, "y_digits": names, "digits": 7_500}
    page |= {"x_digits_test": digits_test[:1000], "y_digits_test": names_test[:1000]}
    page |= {"seeds": [0], "sgd_rates": [0.1], "adam_rates": [0.01, 0.03, 0.1]}
    found = measured_by_cell(NAME, "act-dead-half", page, {'digit_net("relu"': 'digit_net("leaky"'})
    kills("act-half-adam", found["act-half-adam"])


@pytest.mark.parametrize("what", ["the weights stay tanh's", "the biases stay tanh's"])
def test_the_rescue_fails_when(what, chapter, data):
    tanh_net = chapter["DenseNet"](SIX, "tanh", np.random.default_rng(0))
    net = chapter["translated"](tanh_net)
    for kept, original in zip(net.weights, tanh_net.weights, strict=True):
        if "weights" in what:
            kept[:] = original
    for kept in net.biases:
        kept[:] = 0
    x_test = data[0][2][:200]
    apart = np.abs(net.forward(x_test) - tanh_net.forward(x_test)).max()
    assert apart > 1e-2
    if "weights" in what:
        kills("act-deep-rescued-accuracy", fashion_accuracy(chapter, data, net, 1, "sgd"))


def dead_share(chapter, data, kind, rate):
    x, y = data[1][:2]
    net = chapter["DenseNet"]([784, 100, 100, 10], kind, np.random.default_rng(0))
    chapter["train"](net, x, y, 2, rate, decay=False)
    net.forward(x)
    return 100 * (1 - (net.zs[0] > 0).any(axis=0).mean())


@pytest.mark.parametrize(("kind", "rate"), [("relu", 0.003), ("leaky", 0.03)])
def test_half_do_not_die_at_a_tenth_of_the_rate_or_with_a_leak(kind, rate, chapter, data):
    kills("act-dead-half", dead_share(chapter, data, kind, rate))


def test_cosines_do_not_collapse_without_the_bend_that_cuts(chapter):
    cosines = chapter["propagate"](chapter["tanh"], 1.5, 51, np.random.default_rng(0), inputs=40)[1]
    for layer in (10, 50):
        kills(f"act-cosine-{layer}", cosines[layer])


def test_selu_does_not_stay_near_one_with_relus_weights(chapter):
    kills("act-selu-lecun", chapter["selu_walk"](0, variance=2))
    keeps("act-selu-lecun", chapter["selu_walk"](1))


def test_the_speed_up_of_tanh_on_the_convolutional_net_fails_at_fifty_times_its_rate(chapter, data):
    """Too large a rate saturates tanh, and sigmoid, at its own best rate, needs no more than 1.5 times its passes."""
    x, y, x_test, y_test = data[1]
    x, x_test = (part.reshape(-1, 28, 28, 1)[:, 4:24, 4:24] for part in (x[:4000], x_test[:1000]))
    keras.utils.set_random_seed(0)
    model = chapter["conv_net"]("tanh")
    model.compile(
        keras.optimizers.Adam(0.2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=20,
    )
    model.fit(x, y[:4000], batch_size=50, epochs=1, verbose=0)
    reached = 100 * model.evaluate(x_test, y_test[:1000], batch_size=1000, verbose=0)[1]
    passes = (80 - 10) / max(reached - 10, 1)
    kills("act-conv-speedup", reported()["act-conv-sigmoid-passes"]["mean"] / passes)
