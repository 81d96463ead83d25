"""The chapter's formulas against Keras, SciPy and finite differences, and what happens when a cause is broken."""

import ast

import keras
import numpy as np
import pytest
import scipy.signal
from breaks import keeps, kills, reported
from calipers import datasets
from chapters import cells_of, definitions, records_of, source

NAME = "convolutional_networks"
PEAK = 0.01  # the page's, for the dense net and the convolutional one


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


# height, width, channels, size of the kernel, maps, stride, padding: a 1x1 kernel, one that just fits, lopsided zeros
SHAPES = [
    (6, 6, 1, 3, 2, 1, (0, 0)),
    (9, 7, 3, 5, 4, 1, (0, 0)),
    (5, 5, 2, 1, 3, 1, (0, 0)),
    (4, 4, 2, 4, 1, 1, (0, 0)),
    (8, 9, 2, 3, 2, 2, (0, 1)),
    (7, 8, 3, 3, 2, 3, (2, 1)),
    (6, 6, 2, 2, 2, 2, (0, 0)),
]


@pytest.mark.parametrize(("height", "width", "channels", "size", "maps", "stride", "padding"), SHAPES)
class TestConvolution:
    @pytest.fixture(autouse=True)
    def draw(self, chapter, height, width, channels, size, maps, stride, padding):
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(2, height, width, channels))
        self.kernels = rng.normal(size=(size, size, channels, maps))
        self.bias = rng.normal(size=maps)
        self.setting = stride, padding
        outputs = chapter["convolve"](self.images, self.kernels, self.bias, *self.setting)
        side = (height + sum(padding) - size) // stride + 1
        assert outputs.shape[:2] == (2, side)
        self.delta = rng.normal(size=outputs.shape)

    def test_forward_is_what_keras_computes(self, chapter):
        stride, padding = self.setting
        padded = np.pad(self.images, ((0, 0), padding, padding, (0, 0)))
        expected = keras.ops.convert_to_numpy(keras.ops.conv(padded, self.kernels, stride)) + self.bias
        by_hand = chapter["convolve"](self.images, self.kernels, self.bias, *self.setting)
        np.testing.assert_allclose(by_hand, expected, atol=1e-5)

    def test_backward_is_what_finite_differences_say(self, chapter):
        def loss(images, kernels, bias):
            return np.sum(self.delta * chapter["convolve"](images, kernels, bias, *self.setting))

        arrays = self.images, self.kernels, self.bias
        gradients = chapter["convolve_backward"](self.images, self.kernels, self.delta, *self.setting)
        for number, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
            assert gradient.shape == array.shape
            for place in (0, array.size // 2, array.size - 1):
                place = np.unravel_index(place, array.shape)
                expected = slope(lambda moved, n=number: loss(*arrays[:n], moved, *arrays[n + 1 :]), array, place)
                assert gradient[place] == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    ("side", "size", "stride"), [(28, 3, 1), (28, 3, 2), (27, 3, 2), (12, 4, 1), (9, 2, 3), (5, 1, 2)]
)
def test_same_padding_is_kerass(chapter, side, size, stride):
    rng = np.random.default_rng(0)
    images, kernels = rng.normal(size=(1, side, side, 2)), rng.normal(size=(size, size, 2, 3))
    expected = keras.ops.convert_to_numpy(keras.ops.conv(images, kernels, stride, "same"))
    by_hand = chapter["convolve"](images, kernels, 0, stride, chapter["same_padding"](side, size, stride))
    np.testing.assert_allclose(by_hand, expected, atol=1e-5)


def test_one_kernel_by_hand_is_scipys_correlation(chapter):
    rng = np.random.default_rng(1)
    image, kernel = rng.normal(size=(8, 9)), rng.normal(size=(3, 3))
    expected = scipy.signal.correlate2d(image, kernel, mode="valid")
    np.testing.assert_allclose(chapter["convolve_one"](image, kernel), expected)


KINDS = ("max", "min", "average", "L2")


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_is_what_keras_computes(chapter, kind):
    maps = np.random.default_rng(2).normal(size=(2, 6, 8, 3))
    expected = {
        "max": lambda: keras.ops.max_pool(maps, 2),
        "min": lambda: -keras.ops.max_pool(-maps, 2),
        "average": lambda: keras.ops.average_pool(maps, 2, strides=2),
        "L2": lambda: keras.ops.sqrt(keras.ops.average_pool(maps**2, 2, strides=2)),
    }[kind]()
    np.testing.assert_allclose(chapter["pool"](maps, kind), keras.ops.convert_to_numpy(expected), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_pooling_backward_is_what_finite_differences_say(chapter, kind):
    rng = np.random.default_rng(3)
    maps, delta = rng.normal(size=(1, 4, 6, 2)), rng.normal(size=(1, 2, 3, 2))
    gradient = chapter["pool_backward"](maps, delta, kind)
    for place in np.ndindex(maps.shape):
        expected = slope(lambda moved: np.sum(delta * chapter["pool"](moved, kind)), maps, place)
        assert gradient[place] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_pooling_sends_the_gradient_to_the_largest_or_smallest_and_shares_it_among_equals(chapter):
    maps = np.array([[1.0, 2.0, 5.0, 5.0], [4.0, 3.0, 0.0, 5.0]])[None, :, :, None]
    delta = np.array([[8.0, 6.0]])[None, :, :, None]
    for kind, expected in (("max", [[0, 0, 2, 2], [8, 0, 0, 2]]), ("min", [[8, 0, 0, 0], [0, 0, 6, 0]])):
        np.testing.assert_allclose(chapter["pool_backward"](maps, delta, kind)[0, :, :, 0], expected)


def test_l2_pooling_of_a_blank_block_has_no_slope(chapter):
    gradient = chapter["pool_backward"](np.zeros((1, 2, 2, 1)), np.ones((1, 1, 1, 1)), "L2")
    np.testing.assert_array_equal(gradient, np.zeros((1, 2, 2, 1)))


def test_an_image_moves_by_at_most_a_pixel_and_in_all_nine_ways(chapter):
    images = np.zeros((200, 28, 28, 1), "float32")
    images[:, 10, 20] = 1
    moved = chapter["moved"](images, np.random.default_rng(0))
    assert moved.dtype == images.dtype
    places = np.argwhere(moved[..., 0] == 1)
    assert len(places) == 200
    assert {tuple(place) for place in places[:, 1:]} == {(10 + i, 20 + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}


def test_the_recipe_is_thirty_lines_that_need_nothing_else_of_the_page(digits):
    (cell,) = (cell for cell in cells_of(NAME) if "def recipe(" in cell)
    assert sum(bool(line.strip()) for line in cell.splitlines()) <= 30
    alone = {}
    exec(cell, alone)
    x, y, x_test, y_test = digits
    model = alone["recipe"](x[:4000], y[:4000], epochs=3)
    assert model.count_params() == 98_066
    guesses = model.predict(x_test[:2000], verbose=0).argmax(axis=1)
    assert np.mean(guesses == y_test[:2000]) > 0.9


def test_cross_entropy_is_kerass_and_survives_huge_logits(chapter):
    logits = np.array([[1000.0, 0.0, -1000.0], [0.5, -0.5, 2.0]])
    labels = np.array([1, 2])
    loss, gradient = chapter["cross_entropy"](logits, labels)
    per_example = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert loss == pytest.approx(float(keras.ops.mean(per_example)), rel=1e-6)
    assert gradient[1, 0] == pytest.approx(slope(lambda z: chapter["cross_entropy"](z, labels)[0], logits, (1, 0)))
    assert np.isfinite(gradient).all()


# name, the call that builds it, parameters, multiplications: the latter by hand from the shapes
NETS = {
    "dense": (lambda c: c["conv_net"]([]), 79_510, 79_400),
    "dense-three": (lambda c: c["conv_net"]([], (100, 100, 100)), 99_710, 99_400),
    "conv-one": (lambda c: c["conv_net"]([20]), 289_630, 577_000),
    "conv-two": (lambda c: c["conv_net"]([20, 40]), 85_670, 1_633_000),
    "fashion-small": (lambda c: c["fashion_small"](), 25_034, 248_608),
    "fashion-big": (lambda c: c["fashion_big"](), 437_026, 2_281_216),
}


@pytest.mark.parametrize("name", NETS)
def test_the_nets_are_the_lectures_and_cost_what_keras_counts(chapter, name):
    build, parameters, multiplications = NETS[name]
    net = build(chapter)
    assert net.count_params() == parameters
    assert chapter["totals"](net) == (parameters, multiplications)
    assert sum(chapter["counted_by_ones"](layer) for layer in net.layers) == multiplications


# Break the formulas: the chapter's own checks, as the page runs them, have to notice.


def broken(old, new):
    """The chapter's definitions with one piece of text replaced; `old` has to occur."""
    text = source(NAME)
    assert old in text, f"{NAME} has no {old!r} to break"
    keep = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    module = ast.parse(text.replace(old, new))
    module.body = [node for node in module.body if isinstance(node, keep)]
    namespace = {"__name__": NAME}
    exec(compile(module, f"{NAME}.py", "exec"), namespace)
    return namespace


def disputed(chapter):
    """What the page's two records of finite differences would count."""
    rng = np.random.default_rng(0)
    images, labels = rng.random((8, 28, 28, 1)), rng.integers(0, 10, 8)
    return chapter["layers_disputed"](rng), chapter["net_disputed"](images, labels, rng)


BREAKS = {
    "the kernels' gradient has the wrong sign": ("(rows.T @ delta_rows)", "(-rows.T @ delta_rows)"),
    "the kernels are flipped on the way back": ("delta_rows @ kernels.reshape", "delta_rows @ kernels[::-1].reshape"),
    "pooling forgets where the largest was": ("chosen = (cut == pooled)", "chosen = (cut > -np.inf)"),
    "ReLU lets every gradient through": ("* (a2 > 0)", "* (a2 > -np.inf)"),
    "the loss is summed, its gradient averaged": ("log_probabilities[true].mean()", "log_probabilities[true].sum()"),
    "the way back forgets the stride": ("u + stride * height, stride)", "u + height)"),
    "the way back forgets the padding": ("slice(padding[0], padding[0] + side)", "slice(0, side)"),
    "L2 pooling's slope lacks the quarter": ("4 * pooled, 1)", "pooled, 1)"),
    "the average hands out the whole": ("np.full_like(cut, 1 / 4)", "np.full_like(cut, 1)"),
}


def test_finite_differences_are_content(chapter):
    assert disputed(chapter) == (0, 0)


@pytest.mark.parametrize("what", BREAKS)
def test_finite_differences_notice_that(what):
    try:
        found = disputed(broken(*BREAKS[what]))
    except ValueError:  # the shapes no longer fit: noticed louder still
        return
    assert sum(found) > 0


def test_counting_by_ones_notices_a_wrong_formula():
    wrong = broken("height * width * k * k * channels * filters", "height * width * k * channels * filters")
    net = wrong["conv_net"]([20])
    assert wrong["totals"](net)[1] != sum(wrong["counted_by_ones"](layer) for layer in net.layers)


def test_the_comparison_with_keras_notices_another_learning_rate(tmp_path):
    replace = {"def descend(parameters, images, labels, learning_rate=0.1": "def descend(parameters, images, labels, "
               "learning_rate=0.11"}  # fmt: skip
    records = records_of(NAME, tmp_path, upto="conv-scratch-apart", replace=replace)
    kills("conv-scratch-apart", records["conv-scratch-apart"]["mean"])


# Break the cause: the bound that the book reports has to fail. One seed each.


@pytest.fixture(scope="module")
def digits():
    try:
        (x_train, y_train), (x_test, y_test) = datasets.load("mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x_train, x_test = ((x[..., np.newaxis] / 255).astype("float32") for x in (x_train, x_test))
    return x_train, y_train.astype(int), x_test, y_test.astype(int)


def trained(chapter, maps, x, y, epochs, peak, dense=(100,)):
    """Train one net as the page does."""
    chapter["builders"] = {"net": lambda: chapter["conv_net"](maps, dense)}
    chapter["peaks"], chapter["eager"] = {"net": peak}, False
    chapter["learner"].cache_clear()
    return chapter["learner"]("net", len(x), epochs)(0, x, y)


def shuffled(y):
    """Half of the labels are dealt out anew."""
    y = y.copy()
    some = np.random.default_rng(0).permutation(len(y))[: len(y) // 2]
    y[some] = np.roll(y[some], 1)
    return y


def test_the_dense_nets_claim_fails_when_half_of_the_labels_are_shuffled(chapter, digits):
    x_train, y_train, x_test, y_test = digits
    model = trained(chapter, [], x_train, shuffled(y_train), 5, PEAK)
    kills("mnist-dense-accuracy", chapter["accuracy"](model, x_test, y_test))


def test_the_dense_nets_claim_fails_when_the_learning_rate_is_ten_times_larger(chapter, digits):
    x_train, y_train, x_test, y_test = digits
    model = trained(chapter, [], x_train, y_train, 5, 10 * PEAK)
    kills("mnist-dense-accuracy", chapter["accuracy"](model, x_test, y_test))


def test_the_convolutions_claims_fail_on_few_digits_and_on_labels_half_shuffled(chapter, digits):
    x_train, y_train, x_test, y_test = digits
    x, y = x_train[:4_000], y_train[:4_000]
    plain = chapter["accuracy"](trained(chapter, [20, 40], x, y, 3, PEAK), x_test, y_test)
    spoilt = chapter["accuracy"](trained(chapter, [20, 40], x, shuffled(y), 3, PEAK), x_test, y_test)
    assert spoilt < plain
    kills("mnist-conv-two-accuracy", plain)
    # The control: nothing but the scrambled pixels makes the net lose what the page says that it loses.
    keeps("control-conv-change", spoilt - plain)


def test_the_control_fails_when_pixels_stay_in_place(chapter, digits):
    x_train, y_train, x_test, y_test = digits
    same = np.arange(28 * 28)
    np.testing.assert_array_equal(chapter["scramble"](x_train[:10], same), x_train[:10])
    turned = same[::-1]  # upside down and left to right: neighbours stay neighbours
    scores = [
        chapter["accuracy"](
            trained(chapter, [20, 40], chapter["scramble"](x_train[:4_000], order), y_train[:4_000], 3, PEAK),
            chapter["scramble"](x_test, order),
            y_test,
        )
        for order in (same, turned)
    ]
    kills("control-conv-change", scores[1] - scores[0])


def test_three_dense_layers_miss_their_figure_at_ten_times_the_rate(chapter, digits):
    x_train, y_train, x_test, y_test = digits
    model = trained(chapter, [], x_train, y_train, 5, 0.05, dense=(100, 100, 100))
    kills("mnist-dense-three-accuracy", chapter["accuracy"](model, x_test, y_test))


def test_three_dense_layers_pass_their_ceiling_when_the_test_digits_leak_into_training(chapter, digits):
    x_train, y_train, x_test, y_test = digits
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    model = trained(chapter, [], x, y, 5, 0.005, dense=(100, 100, 100))
    kills("mnist-dense-three-accuracy", chapter["accuracy"](model, x_test, y_test))


def test_one_convolution_misses_its_figure_on_few_digits(chapter, digits):
    x_train, y_train, x_test, y_test = digits
    model = trained(chapter, [20], x_train[:4_000], y_train[:4_000], 2, PEAK)
    kills("mnist-conv-one-accuracy", chapter["accuracy"](model, x_test, y_test))


@pytest.mark.parametrize("dense", [(1000,), (100, 100)])
def test_another_head_changes_much_at_ten_times_the_rate(dense, chapter, digits):
    x_train, y_train, x_test, y_test = digits
    model = trained(chapter, [20, 40], x_train[:4_000], y_train[:4_000], 3, 10 * PEAK, dense)
    gain = chapter["accuracy"](model, x_test, y_test) - reported()["control-conv-plain"]["mean"]
    kills(f"head-{'-'.join(map(str, dense))}-gain", gain)
