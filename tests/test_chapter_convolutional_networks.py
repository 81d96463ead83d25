"""The chapter's formulas against Keras, SciPy and finite differences, and what happens when a cause is broken."""

import json

import keras
import numpy as np
import pytest
import scipy.signal
from calipers import datasets
from chapters import definitions, records_of
from conftest import ROOT

NAME = "convolutional_networks"


@pytest.fixture(scope="module")
def chapter():
    return definitions(NAME)


def slope(function, array, place, step=1e-5):
    """The derivative of a number along one entry of an array, by moving it both ways."""
    value = {}
    for sign in (1, -1):
        moved = array.copy()
        moved[place] += sign * step
        value[sign] = function(moved)
    return (value[1] - value[-1]) / (2 * step)


SHAPES = [(6, 6, 1, 3, 2), (9, 7, 3, 5, 4), (5, 5, 2, 1, 3), (4, 4, 2, 4, 1)]  # ... a 1x1 kernel, one that just fits


@pytest.mark.parametrize(("height", "width", "channels", "size", "maps"), SHAPES)
class TestConvolution:
    @pytest.fixture(autouse=True)
    def draw(self, height, width, channels, size, maps):
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(2, height, width, channels))
        self.kernels = rng.normal(size=(size, size, channels, maps))
        self.bias = rng.normal(size=maps)
        self.delta = rng.normal(size=(2, height - size + 1, width - size + 1, maps))

    def test_forward_is_what_keras_computes(self, chapter):
        expected = keras.ops.convert_to_numpy(keras.ops.conv(self.images, self.kernels)) + self.bias
        np.testing.assert_allclose(chapter["convolve"](self.images, self.kernels, self.bias), expected, atol=1e-5)

    def test_backward_is_what_finite_differences_say(self, chapter):
        def loss(images, kernels, bias):
            return np.sum(self.delta * chapter["convolve"](images, kernels, bias))

        arrays = self.images, self.kernels, self.bias
        gradients = chapter["convolve_backward"](self.images, self.kernels, self.delta)
        for number, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
            for place in (0, array.size // 2, array.size - 1):
                place = np.unravel_index(place, array.shape)
                expected = slope(lambda moved, n=number: loss(*arrays[:n], moved, *arrays[n + 1 :]), array, place)
                assert gradient[place] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_one_kernel_by_hand_is_scipys_correlation(chapter):
    rng = np.random.default_rng(1)
    image, kernel = rng.normal(size=(8, 9)), rng.normal(size=(3, 3))
    expected = scipy.signal.correlate2d(image, kernel, mode="valid")
    np.testing.assert_allclose(chapter["convolve_one"](image, kernel), expected)


def test_max_pooling_is_what_keras_computes(chapter):
    maps = np.random.default_rng(2).normal(size=(2, 6, 8, 3))
    expected = keras.ops.convert_to_numpy(keras.ops.max_pool(maps, 2))
    np.testing.assert_allclose(chapter["max_pool"](maps), expected, atol=1e-6)


def test_max_pooling_sends_the_gradient_to_the_largest_and_shares_it_among_equals(chapter):
    maps = np.array([[1.0, 2.0, 5.0, 5.0], [4.0, 3.0, 0.0, 5.0]])[None, :, :, None]
    delta = np.array([[8.0, 6.0]])[None, :, :, None]
    expected = [[0, 0, 2, 2], [8, 0, 0, 2]]
    np.testing.assert_allclose(chapter["max_pool_backward"](maps, delta)[0, :, :, 0], expected)


def test_cross_entropy_is_kerass_and_survives_huge_logits(chapter):
    logits = np.array([[1000.0, 0.0, -1000.0], [0.5, -0.5, 2.0]])
    labels = np.array([1, 2])
    loss, gradient = chapter["cross_entropy"](logits, labels)
    per_example = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert loss == pytest.approx(float(keras.ops.mean(per_example)), rel=1e-6)
    assert gradient[1, 0] == pytest.approx(slope(lambda z: chapter["cross_entropy"](z, labels)[0], logits, (1, 0)))
    assert np.isfinite(gradient).all()


def test_cost_agrees_with_keras_on_every_net_of_the_chapter(chapter):
    for net in (chapter["dense_net"](), chapter["conv_one_net"](), chapter["conv_two_net"]()):
        assert chapter["cost"](net)[0] == net.count_params()


@pytest.mark.parametrize(
    ("net", "parameters"), [("dense_net", 79_510), ("conv_one_net", 289_630), ("conv_two_net", 85_670)]
)
def test_the_nets_are_the_lectures(chapter, net, parameters):
    assert chapter[net]().count_params() == parameters


# Break the formulas: the chapter's own checks, run as the page runs them, have to notice.

BREAKS = {
    "the kernels' gradient has the wrong sign": ("(rows.T @ delta_rows)", "(-rows.T @ delta_rows)"),
    "the kernels are flipped on the way back": ("delta_rows @ kernels.reshape", "delta_rows @ kernels[::-1].reshape"),
    "pooling forgets where the largest was": ("return (largest * share)", "return (np.ones_like(largest) * share)"),
    "ReLU lets every gradient through": ("* (z2 > 0)", "* (z2 > -np.inf)"),
    "the loss is summed, its gradient averaged": ("log_probabilities[true].mean()", "log_probabilities[true].sum()"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_finite_differences_notice_that(what, tmp_path):
    old, new = BREAKS[what]
    records = records_of(NAME, tmp_path, upto="conv-gradient-disagreements", replace={old: new})
    assert records["conv-gradient-disagreements"]["mean"] > 0


def test_the_comparison_with_keras_notices_another_learning_rate(tmp_path):
    replace = {"def descend(parameters, images, labels, learning_rate=0.1": "def descend(parameters, images, labels, "
               "learning_rate=0.11"}  # fmt: skip
    records = records_of(NAME, tmp_path, upto="conv-scratch-apart", replace=replace)
    assert records["conv-scratch-apart"]["mean"] > 0


# Break the cause of the accuracy: the bound that the book reports has to fail. One seed each, at quick's own length.


@pytest.fixture(scope="module")
def digits():
    try:
        (x_train, y_train), (x_test, y_test) = datasets.load("mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x_train, x_test = ((x[..., np.newaxis] / 255).astype("float32") for x in (x_train, x_test))
    return x_train, y_train.astype(int), x_test, y_test.astype(int)


@pytest.fixture(scope="module")
def bound():
    path = ROOT / "book" / "results" / "quick" / f"{NAME}.json"
    found = {record["id"]: record for record in json.loads(path.read_text("utf-8"))["records"]}
    return found["mnist-conv-two-accuracy"]["bounds"][0]["value"]


def shuffled_labels(x, y):
    """Half of the labels are dealt out anew. (A tenth would not do: in one run that still reached 99.19 %.)"""
    y = y.copy()
    some = np.random.default_rng(0).permutation(len(y))[: len(y) // 2]
    y[some] = np.roll(y[some], 1)
    return x, y


CAUSES = {
    "half of the labels are shuffled": (shuffled_labels, 0.005),
    "the learning rate is ten times larger": (None, 0.05),
    "the learning rate is ten times smaller": (None, 0.0005),
}


@pytest.mark.parametrize("what", CAUSES)
def test_the_claim_fails_when(what, chapter, digits, bound):
    x_train, y_train, x_test, y_test = digits
    spoil, peak = CAUSES[what]
    if spoil:
        x_train, y_train = spoil(x_train, y_train)
    keras.utils.set_random_seed(0)
    model = chapter["train"](chapter["conv_two_net"](), x_train, y_train, epochs=3, peak=peak)
    reached = chapter["accuracy"](model, x_test, y_test)
    print(f"{what}: {reached:.2f} % against the bound of {bound} %")
    assert reached < bound
