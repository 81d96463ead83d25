"""The chapter's formulas against Keras and finite differences, and what happens when a cause is broken."""

import itertools
import math
import types

import calipers
import keras
import numpy as np
import pytest
from breaks import kills
from calipers import datasets
from chapters import definitions, records_of

NAME = "initialisation"


@pytest.fixture(scope="module")
def chapter():
    return definitions(NAME)


# The formulas.


def test_truncated_factor_is_the_one_in_kerass_source(chapter):
    assert chapter["truncated_factor"]() == pytest.approx(0.87962566103423978, abs=1e-12)
    assert chapter["truncated_factor"](9.0) == pytest.approx(1, abs=1e-12)
    z = np.linspace(-1, 1, 100_001)  # another cut, by brute force
    density = np.exp(-(z**2) / 2)
    assert chapter["truncated_factor"](1.0) == pytest.approx(
        math.sqrt(np.sum(z**2 * density) / np.sum(density)), rel=1e-4
    )


def test_selu_is_kerass_and_its_normal_mean_and_variance_are_0_and_1(chapter):
    z = np.array([-100.0, -3, -1e-3, 0, 1e-3, 2, 50])
    expected = keras.ops.convert_to_numpy(keras.activations.selu(z.astype("float32")))
    np.testing.assert_allclose(chapter["selu"](z), expected, rtol=1e-5, atol=1e-7)
    assert chapter["mean_square"](chapter["selu"]) == pytest.approx(1, abs=1e-6)
    assert np.isfinite(chapter["selu"](np.array([1e4, -1e4]))).all()


ACTIVATIONS = ("linear", "relu", "tanh", "logistic", "selu")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_are_what_finite_differences_say(chapter, name):
    f = chapter.get(name, np.tanh)
    z = np.array([-1000.0, -5, -1.3, -0.2, 0.4, 1.7, 6, 1000])
    np.testing.assert_allclose(chapter[f"{name}_slope"](z), (f(z + 1e-6) - f(z - 1e-6)) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "slope"), [("linear", 1), ("relu", 0), ("tanh", 1), ("logistic", 0.25)])
def test_slopes_at_zero_are_kerass(chapter, name, slope):
    """Of ReLU's two Keras, too, takes the lower one."""
    assert chapter[f"{name}_slope"](np.zeros(1)) == slope


@pytest.mark.parametrize("shape", [(784, 100), (3, 3, 8, 16), (5, 4), (1, 1, 6, 2)])
def test_variances_are_kerass(chapter, shape):
    from keras.src.initializers.random_initializers import compute_fans

    assert chapter["fans"](shape) == compute_fans(shape)


@pytest.mark.parametrize("draw", ["draw_normal", "draw_uniform", "draw_truncated"])
def test_samplers_have_the_variance_asked_for(chapter, draw):
    draws = chapter[draw]((500, 400), 0.01, np.random.default_rng(0))
    assert draws.shape == (500, 400)
    assert np.var(draws) == pytest.approx(0.01, rel=0.02)
    assert abs(draws.mean()) < 0.001
    limit = {"draw_uniform": math.sqrt(0.03), "draw_truncated": 0.2 / chapter["truncated_factor"]()}.get(draw, math.inf)
    assert np.abs(draws).max() <= limit


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (3, 3, 2, 5), (3, 1)])
def test_orthogonal_columns_or_rows(chapter, shape):
    q = chapter["draw_orthogonal"](shape, 3.0, np.random.default_rng(0))
    assert q.shape == shape
    flat = q.reshape(-1, shape[-1])
    gram = flat.T @ flat if flat.shape[0] >= flat.shape[1] else flat @ flat.T
    np.testing.assert_allclose(gram, 9 * np.eye(len(gram)), atol=1e-9)


def test_cross_entropy_survives_huge_logits(chapter):
    logits, labels = np.array([[1000.0, 0, -1000], [0.5, -0.5, 2]]), np.array([1, 2])
    loss, gradient = chapter["cross_entropy"](logits, labels)
    expected = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert loss == pytest.approx(float(keras.ops.mean(expected)), rel=1e-6)
    assert np.isfinite(gradient).all()


def test_lsuv_gives_every_layer_unit_variance_whatever_the_activation(chapter):
    rng = np.random.default_rng(0)
    x, sizes = rng.standard_normal((200, 30)), [30, 40, 25, 25, 10]
    for f in (np.sin, np.tanh, chapter["relu"], np.exp):
        weights = chapter["lsuv"](sizes, x, f, rng)
        zs, _ = chapter["forward"](weights, chapter["no_biases"](weights), x, f)
        np.testing.assert_allclose([z.std() for z in zs], 1)


def test_spreads_follow_the_derived_factors(chapter):
    rng = np.random.default_rng(0)
    sizes = [400] * 9 + [10]
    x, labels = rng.standard_normal((100, 400)), rng.integers(0, 10, 100)
    weights = [chapter["draw_normal"](s, 1 / s[0], rng) for s in itertools.pairwise(sizes)]
    for f, slope, factor in (
        (chapter["linear"], chapter["linear_slope"], 1),
        (chapter["relu"], chapter["relu_slope"], 0.5),
    ):
        forth, back = chapter["spreads"](weights, x, labels, f, slope)
        assert (forth[-1] / forth[0]) ** (2 / 7) == pytest.approx(factor, rel=0.1)
        assert (back[0] / back[-1]) ** (2 / 7) == pytest.approx(factor, rel=0.1)


def test_epochs_to_counts_tenths_and_flatters_who_never_arrives(chapter):
    assert chapter["epochs_to"](90, [50, 89.9, 90, 80, 95]) == pytest.approx(0.3)
    assert chapter["epochs_to"](99, [50, 60]) == pytest.approx(0.2)


# Break the formulas: the page's own checks, run as the page runs them, have to notice.

GRADIENT = {
    "ReLU lets every gradient through": ("return (z > 0).astype(z.dtype)", "return np.ones_like(z)"),
    "tanh's slope forgets its square": ("return 1 - np.tanh(z) ** 2", "return 1 - np.tanh(z)"),
    "SELU's slope forgets the exponential": ("alpha * np.exp(np.minimum(z, 0))", "alpha * np.minimum(z, 0)"),
    "the way back skips the slope": ("deltas[-1] @ w.T * slope(z)", "deltas[-1] @ w.T"),
    "the weights' gradient has the wrong sign": ("[a.T @ d for a, d", "[-a.T @ d for a, d"),
}


@pytest.mark.parametrize("what", GRADIENT)
def test_finite_differences_and_keras_notice_that(what, tmp_path):
    old, new = GRADIENT[what]
    records = records_of(NAME, tmp_path, upto="init-keras-disagreements", replace={old: new})
    for id in ("init-gradient-disagreements", "init-keras-disagreements"):
        kills(id, records[id]["mean"])


SAMPLERS = {
    "the truncated draw is not scaled back": (" / truncated_factor()", ""),
    "the uniform limit forgets the three": ("limit = math.sqrt(3 * variance)", "limit = math.sqrt(variance)"),
    "Glorot is LeCun's": ('"glorot": 2 / (fan_in + fan_out)', '"glorot": 1 / fan_in'),
    "a convolution's window is not counted": ("return window * shape[-2]", "return shape[-2]"),
    "the orthogonal matrix is merely random": ("gain * (q if", "gain * (tall if"),
}


@pytest.mark.parametrize("what", SAMPLERS)
def test_the_comparison_with_kerass_initialisers_notices_that(what, tmp_path):
    old, new = SAMPLERS[what]
    records = records_of(NAME, tmp_path, upto="init-sampler-disagreements", replace={old: new})
    kills("init-sampler-disagreements", records["init-sampler-disagreements"]["mean"])


# Break the causes: the bounds that the book reports have to fail.


CAUSES = {  # the record, a piece of the cell that makes it, and what is broken
    "SELU starts with He's variance": ("init-selu-sd", "init-selu-sd", '("lecun", 1.0', '("lecun", 2**0.5'),
    "SELU's alpha is ELU's": ("init-selu-sd", "init-selu-sd", "float(alpha)", "1.0"),
    "ReLU loses nothing": ("init-factor-relu-1-forward", "√2 (He)", "return np.maximum(z, 0)", "return z"),
    "He is LeCun": ("init-factor-relu-he-forward", "√2 (He)", '"√2 (He)": 2**0.5', '"√2 (He)": 1.0'),
    "the lecture's sigma": ("init-sigma-inverse", "sigma-inverse", "rng.normal(0, 784**-0.5", "rng.normal(0, 784**0.5"),
    "Glorot is LeCun's": ("init-glorot-times-fan-in", "sigma-inverse", 'sample("GlorotNormal"', 'sample("LecunNormal"'),
}  # fmt: skip


@pytest.mark.parametrize("what", CAUSES)
def test_the_bound_fails_when(what, tmp_path):
    name, upto, old, new = CAUSES[what]
    kills(name, records_of(NAME, tmp_path, upto=upto, replace={old: new})[name]["mean"])


@pytest.fixture
def page(chapter):
    """A fresh copy of the page's functions, with its digits and budgets, to break in one place."""
    try:
        (x, y), (x_test, y_test) = datasets.load("mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    page = definitions(NAME)
    raw, raw_test = ((a.reshape(-1, 784) / 255).astype("float32") for a in (x, x_test))
    page["pixel_mean"], page["pixel_sd"] = float(raw.mean()), float(raw.std())
    page["raw_train"], page["raw_test"] = raw[:50_000], raw_test
    page["x_train"], page["x_val"], page["x_test"] = map(page["standardise"], (raw[:50_000], raw[50_000:], raw_test))
    page["y_train"], page["y_val"], page["y_test"] = y[:50_000].astype(int), y[50_000:].astype(int), y_test.astype(int)
    page["deep_steps"], page["constant_steps"] = 300, 500
    return page


def raced(page, spread, rate):
    run = page["race"](spread, rate, 0, page["raw_test"][::4], page["y_test"][::4], 2, goal=94)
    return run["flat"], page["epochs_to"](94, run["curve"])


def test_the_race_is_lost_with_the_lectures_sigma(page):
    _, unit = raced(page, lambda fan_in: 1.0, 3.0)
    flat, wrong = raced(page, lambda fan_in: fan_in**0.5, 1.0)
    kills("init-race-ratio", unit / wrong)
    kills("init-race-epochs-unit", unit, wrong)
    kills("init-race-flat-scaled", flat)


def test_standard_normal_weights_do_not_saturate_on_inputs_as_small_as_they_are_large(page):
    page["raw_train"] = page["raw_train"] / 28
    flat, _ = raced(page, lambda fan_in: 1.0, 3.0)
    kills("init-race-flat-unit", flat)


DEPTH = {
    "the learning rate is ten times larger": lambda page: None,
    "the labels are shuffled": lambda page: np.random.default_rng(0).shuffle(page["y_train"]),
}


@pytest.mark.parametrize("what", DEPTH)
def test_he_does_not_beat_1_over_n_at_twenty_layers_when(what, page):
    DEPTH[what](page)
    rate = 0.3 if "rate" in what else 0.03
    reached = {
        start: calipers.Sample(
            np.array([page["deep_run"](start, 20, r, seed, page["x_test"], page["y_test"]) for seed in range(3)]),
            (0, 1, 2),
        )
        for start, r in (("2/n", rate), ("1/n", 0.1))
    }
    kills("init-depth-he-20", reached["2/n"], reached["1/n"])


def test_the_least_noise_of_its_own_makes_a_unit_different(page):
    nearly = [0.01 + np.random.default_rng(0).normal(0, 0.001, s) for s in ((784, 100), (100, 10))]
    reads, weights = page["train_from"](nearly, 0, page["relu"], page["relu_slope"])
    kills("init-constant-hundredths-units", page["different_units"](weights))
    kills("init-constant-hundredths", reads)


def test_an_initialiser_with_a_seed_generator_makes_no_copies(page):
    made = lambda: keras.initializers.HeNormal(seed=keras.random.SeedGenerator(1))  # noqa: E731
    page["initialisers"] = types.SimpleNamespace(HeNormal=made)
    page["to_numpy"] = keras.ops.convert_to_numpy
    kills("init-shared-copies", page["he_nets"](0)["one object copies"])


def test_without_its_measurement_lsuv_is_left_to_luck(page):
    page["starts"] = {"LSUV": "lsuv"}
    working = page["start_weights"]
    page["start_weights"] = lambda start, sizes, rng: working("orthogonal", sizes, rng)
    kills("init-left-lsuv", page["spread_of_luck"](0)["LSUV"])
