"""The chapter's formulas against Keras and finite differences, and what happens when a cause is broken."""

import itertools
import math

import keras
import numpy as np
import pytest
from breaks import kills, reported
from calipers import Sample, datasets
from chapters import definitions, records_of

NAME = "vanishing_gradients"


@pytest.fixture(scope="module")
def chapter():
    return definitions(NAME)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "linear"])
def test_activations_and_their_slopes_are_kerass_and_finite_far_out(chapter, activation):
    z = np.array([-1000.0, -3.0, -1e-3, 1e-3, 0.5, 7.0, 1000.0])
    with np.errstate(all="raise", under="ignore"):
        a = chapter["activate"](z, activation)
        by_hand = chapter["slope"](a, activation)
    expected = keras.ops.convert_to_numpy(keras.activations.get(activation)(z.astype("float32")))
    np.testing.assert_allclose(a, expected, rtol=1e-5, atol=1e-6)
    moved = (chapter["activate"](z + 1e-6, activation) - chapter["activate"](z - 1e-6, activation)) / 2e-6
    np.testing.assert_allclose(by_hand, moved, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("activation", "slope"), [("sigmoid", 0.25), ("tanh", 1), ("relu", 0), ("linear", 1)])
def test_slopes_at_zero(chapter, activation, slope):
    """The sigmoid is steepest there, by a quarter; of ReLU's two slopes we take the lower one, as Keras does."""
    assert chapter["slope"](chapter["activate"](np.zeros(1), activation), activation) == slope


@pytest.mark.parametrize("start", ["normal", "glorot", "he"])
def test_spreads_are_those_of_kerass_initialisers(chapter, start):
    initialisers = {
        "normal": keras.initializers.RandomNormal(stddev=1.0, seed=0),
        "glorot": keras.initializers.GlorotNormal(seed=0),
        "he": keras.initializers.HeNormal(seed=0),
    }
    drawn = keras.ops.convert_to_numpy(initialisers[start]((300, 500)))
    assert drawn.std() == pytest.approx(chapter["spread"](start, 300, 500), rel=0.01)


def test_a_gain_is_the_spread_times_the_root_of_the_fan_in(chapter):
    assert chapter["spread"](1.5, 100, 7) == pytest.approx(0.15)


NETS = [(1, 1, None), (1, 5, 0.5), (2, 4, None), (6, 3, 1), (3, 9, 0.2)]


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "linear"])
@pytest.mark.parametrize(("depth", "width", "branch"), NETS)
def test_the_gradient_is_what_finite_differences_say(chapter, activation, depth, width, branch):
    rng = np.random.default_rng(3)
    net = chapter["draw_net"](rng, depth, 1.0, width, sizes=(7, 4), dtype="float64")
    for _, bias in net:
        bias += rng.normal(0, 0.3, bias.shape)
    x, labels = rng.normal(size=(5, 7)), rng.integers(0, 4, 5)
    logits, kept = chapter["forward"](net, x, activation, branch)
    gradients, deltas = chapter["backward"](net, kept, chapter["cross_entropy"](logits, labels)[1], activation, branch)
    assert len(gradients) == len(deltas) == depth + 1
    found = chapter["disagreements"](
        lambda: chapter["net_loss"](net, x, labels, activation, branch),
        list(itertools.chain(*net)),
        list(itertools.chain(*gradients)),
        rng,
    )
    assert found == 0


def test_delta_is_the_gradient_of_the_layers_z(chapter):
    """A bias is added to z, so delta, added up over the batch, is the bias's gradient (by finite differences)."""
    rng = np.random.default_rng(4)
    net = chapter["draw_net"](rng, 4, 1.0, 6, sizes=(7, 4), dtype="float64")
    x, labels = rng.normal(size=(5, 7)), rng.integers(0, 4, 5)
    logits, kept = chapter["forward"](net, x, "tanh")
    _, deltas = chapter["backward"](net, kept, chapter["cross_entropy"](logits, labels)[1], "tanh")
    for layer, delta in enumerate(deltas):
        slope = chapter["finite_difference"](lambda: chapter["net_loss"](net, x, labels, "tanh"), net[layer][1], (0,))
        assert delta[:, 0].sum() == pytest.approx(slope, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("limit", [None, 0.05, 1e6])
def test_a_clipped_step_keeps_the_direction_and_its_length_has_a_ceiling(chapter, limit):
    rng = np.random.default_rng(5)
    x, labels = rng.normal(size=(64, 7)).astype("float32"), rng.integers(0, 4, 64)
    moved = {}
    for name, bound in (("free", None), ("clipped", limit)):
        net = chapter["draw_net"](np.random.default_rng(6), 3, 2.0, 6, sizes=(7, 4))
        before = np.concatenate([array.ravel() for array in itertools.chain(*net)])
        (total,) = chapter["train"](net, x, labels, "tanh", 0.5, limit=bound)
        moved[name] = before - np.concatenate([array.ravel() for array in itertools.chain(*net)])
    length = np.linalg.norm(moved["clipped"])
    assert length == pytest.approx(0.5 * min(total, limit or math.inf), rel=1e-3)
    assert moved["free"] @ moved["clipped"] / length / np.linalg.norm(moved["free"]) == pytest.approx(1, abs=1e-4)


def test_the_recurrent_net_is_kerass_simple_rnn(chapter):
    u, w, b, v, c = chapter["draw_rnn"](np.random.default_rng(0), 1.2, units=8, inputs=5)
    b += 0.3
    rows = np.random.default_rng(1).normal(size=(3, 6, 5)).astype("float32")
    model = keras.Sequential([keras.Input((6, 5)), keras.layers.SimpleRNN(8), keras.layers.Dense(10)])
    model.set_weights([u, w, b, v, c])
    expected = keras.ops.convert_to_numpy(model(rows))
    np.testing.assert_allclose(chapter["rnn_forward"]([u, w, b, v, c], rows)[0], expected, atol=1e-5)


def test_training_side_by_side_is_training_alone_each_at_its_own_rate(chapter):
    """Three nets in one model against three plain Keras nets: same weights, batches, momentum; rates of their own."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(256, 784)).astype("float32"), rng.integers(0, 10, 256)
    cell = chapter["Cell"]
    cells = {"a": cell("sigmoid", "he", 0.3), "b": cell("tanh", "glorot", 0.05), "c": cell("relu", "he", 0.1)}
    row = chapter["side_by_side"](list(cells.values()), [0], False, depth=2)
    starts = [chapter["take_out"](row, number, 0) for number in range(3)]
    trained = chapter["run_cells"](cells, [0], False, x, y, examples=256, depth=2)
    order = np.random.default_rng([0, 1]).permutation(256)
    for number, one in enumerate(cells.values()):
        plain = chapter["deep_net"](one.activation, one.start, 2)
        plain.set_weights(starts[number])
        plain.compile(
            keras.optimizers.SGD(one.rate, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        plain.fit(x[order], y[order], batch_size=64, shuffle=False, verbose=0)
        for alone, beside in zip(plain.get_weights(), chapter["take_out"](trained, number, 0), strict=True):
            np.testing.assert_allclose(alone, beside, atol=1e-4)


# Break the formulas: the chapter's own checks, run as the page runs them, have to notice.

BREAKS = {
    "the skip is forgotten on the way back": (
        "vg-gradient-disagreements",
        ("delta = below + delta if skips else below", "delta = below"),
    ),
    "the recurrent net reads the slope a step too early": (
        "vg-rnn-disagreements",
        ("(1 - states[step + 1] ** 2)", "(1 - states[step] ** 2)"),
    ),
    "one of the row's activations is another": (
        "vg-side-apart",
        ("keras.ops.tanh(middle)", "keras.ops.sigmoid(middle)"),
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_pages_own_check_notices_that(what, tmp_path):
    record, (old, new) = BREAKS[what]
    kills(record, records_of(NAME, tmp_path, upto=record, replace={old: new})[record]["mean"])


# Break the causes: the bound that the book reports has to fail. One seed each, at quick's own length.


@pytest.fixture(scope="module")
def trained(chapter):
    """The chapter's names with the data and the budgets of quick beside them."""
    try:
        (x_train, y_train), (x_test, y_test) = datasets.load("mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x_train, x_test = ((x.reshape(-1, 784) / 255).astype("float32") for x in (x_train, x_test))
    chapter |= {
        "x_train": x_train[:50_000],
        "y_train": y_train[:50_000].astype(int),
        "x_test": x_test[::4],
        "y_test": y_test[::4].astype(int),
        "x_probe": x_train[:500],
        "y_probe": y_train[:500].astype(int),
        **{"depths": [20], "depth_steps": 80, "clip_steps": 120, "rnn_steps": 150, "deep_steps": 150},
    }
    return chapter


FACTORS = {
    "sigmoid-glorot": ("tanh", "glorot"),
    "relu-he": ("relu", "glorot"),
    "relu-glorot": ("relu", "he"),
    "tanh-glorot": ("tanh", "normal"),
    "sigmoid-wide": ("sigmoid", "normal", 50),
    "sigmoid-normal": ("sigmoid", "glorot"),
    "sigmoid-narrow": ("sigmoid", "normal", 400),
}


@pytest.mark.parametrize("name", FACTORS)
def test_another_net_has_another_factor(name, trained):
    kills(f"vg-factor-{name}", trained["profile_of"](*FACTORS[name])(0)["factor"])


def test_glorots_weights_do_not_saturate(trained):
    kills("vg-saturated-first", trained["profile_of"]("sigmoid", "glorot")(0)["saturated"][0])


def test_wide_layers_saturate_more_than_the_first(trained):
    """The first layer saturates most because it has most inputs; give the others as many."""
    saturated = trained["profile_of"]("sigmoid", "normal", 784)(0)["saturated"]
    kills("vg-saturation-growth", saturated[-1] - saturated[0])


def test_tanh_does_not_lose_the_gradient(trained):
    result = trained["before_and_after"]("tanh", "glorot", 0.01)(0)
    for when in ("before", "after"):
        profile = result[f"20-{when}"]
        kills(f"vg-lost-20-{when}", np.log10(profile[-1] / profile[0]))


def test_a_radius_of_one_neither_forgets_nor_explodes_so_much(trained):
    net = trained["draw_rnn"](np.random.default_rng(0), 1.0)
    rows = trained["x_probe"].reshape(-1, 28, 28)
    logits, states = trained["rnn_forward"](net, rows)
    gradient = trained["cross_entropy"](logits, trained["y_probe"])[1]
    norms = trained["rnn_backward"](net, rows, states, gradient)[1]
    for name in ("half", "two"):
        kills(f"vg-rnn-growth-{name}", np.log10(norms[-1] / norms[0]))


def test_without_clipping_the_recurrent_net_misses_its_bound(trained):
    kills("vg-rnn-clipped-accuracy", trained["clip_rnn"](0.3)(0)["accuracy"])


def test_with_clipping_too_the_recurrent_net_misses_its_bound_at_ten_times_the_rate(trained):
    kills("vg-rnn-clipped-accuracy", trained["clip_rnn"](3.0, limit=1.0)(0)["accuracy"])


def test_without_explosion_nothing_diverges_and_with_it_the_gain_of_0_8_would(trained):
    unexploded, exploded = trained["clip_linear"](0.1, gain=0.8)(0), trained["clip_linear"](0.1)(0)
    kills("vg-linear-same-rate-diverged", 3 * unexploded["diverged"])
    kills("vg-linear-gain-low-diverged", 3 * exploded["diverged"])


def test_tanh_trains_where_the_sigmoid_fails(trained):
    draw_net = trained["draw_net"]
    rng = np.random.default_rng(0)
    net = draw_net(rng, 20, "glorot", width=50)
    trained["train"](net, *trained["shuffled"](rng, 150), "tanh", 0.1, limit=1.0)
    kills("vg-sigmoid-clipped-accuracy", trained["accuracy"](net, "tanh"))


def test_forty_layers_need_their_branches_scaled(trained):
    with np.errstate(all="ignore"):
        result = trained["forty"](0.1, branch=1)(0)
    kills("vg-forty-skip-factor", result["factor"])
    kills("vg-forty-skip-accuracy", result["accuracy"])


def test_a_skip_connection_keeps_images_apart(trained):
    trained["deep_steps"] = 1
    result = trained["forty"](0.1, branch=1 / math.sqrt(40))(0)
    trained["deep_steps"] = 150
    kills("vg-forty-plain-cosine", result["cosine"])


REMOVED = {
    "vg-cell-sigmoid-normal-bn": ("batch normalisation", ("sigmoid", "normal", 0.3)),
    "vg-skip-sigmoid": ("the skip connection", ("sigmoid", "glorot", 0.3)),
    "vg-cell-tanh-glorot-plain": ("Glorot's weights", ("tanh", "normal", 0.01)),
    "vg-cell-relu-he-plain": ("He's weights", ("relu", "glorot", 0.003)),
    "vg-skip-relu": ("the skip connection, at its rate", ("relu", "he", 0.03)),
}


def test_without_its_remedy_no_net_of_the_factorial_reaches_its_bound(trained):
    cells = {name: trained["Cell"](*cell) for name, (_, cell) in REMOVED.items()}
    model = trained["run_cells"](cells, [0], False, trained["x_train"], trained["y_train"], examples=12_800)
    reached = trained["cell_accuracies"](model, cells, [0], trained["x_test"], trained["y_test"])
    for name, sample in reached.items():
        assert isinstance(sample, Sample)
        kills(name, sample)
    none = reported()["vg-cell-sigmoid-normal-plain"]["mean"]  # and with one remedy of three, ReLU, it is no better
    kills("vg-three-together", reached["vg-cell-relu-he-plain"].mean - none)
