"""The chapter's rules against Keras and finite differences, and what happens when a cause is broken."""

import ast
import math

import keras
import numpy as np
import pytest
from breaks import keeps, kills
from calipers import datasets
from chapters import definitions, records_of, source

NAME = "optimisers"


@pytest.fixture(scope="module")
def chapter():
    return definitions(NAME)


# The rules: given gradients, edge values included, both sides in the precision that Keras has.

TWINS = {
    "sgd": lambda: keras.optimizers.SGD(1 / 64),
    "momentum": lambda: keras.optimizers.SGD(1 / 64, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(1 / 64, momentum=0.9, nesterov=True),
    "adagrad": lambda: keras.optimizers.Adagrad(1 / 64),
    "rmsprop": lambda: keras.optimizers.RMSprop(1 / 64),
    "adadelta": lambda: keras.optimizers.Adadelta(1 / 64),
    "adam": lambda: keras.optimizers.Adam(1 / 64),
    "adamw": lambda: keras.optimizers.AdamW(1 / 64),
    "nadam": lambda: keras.optimizers.Nadam(1 / 64),
    "lion": lambda: keras.optimizers.Lion(1 / 64),
}
GRADIENTS = {
    "zero all the time": lambda rng, t: np.zeros(4),
    "tiny": lambda rng, t: 1e-8 * rng.normal(size=4),
    "large": lambda rng, t: 100 * rng.normal(size=4),
    "zero now and then": lambda rng, t: rng.normal(size=4) * (t % 3 > 0),
}


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("kind", GRADIENTS)
def test_a_rule_is_what_keras_does(chapter, name, kind):
    rng, optimiser, s = np.random.default_rng(1), TWINS[name](), {}
    theta = np.array([0.5, -1.0, 0.0, 2.0], "float32")
    variable = keras.Variable(theta)
    for t in range(1, 31):
        g = GRADIENTS[kind](rng, t).astype("float32")
        theta = chapter[name](theta, g, s, t, np.float32(1 / 64))
        optimiser.apply([keras.ops.convert_to_tensor(g)], [variable])
        np.testing.assert_allclose(theta, keras.ops.convert_to_numpy(variable), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", TWINS)
def test_single_precision_stays_single(chapter, name):
    """A double somewhere would make every step of the race twice as dear."""
    theta, s = np.ones((2, 3), "float32"), {}
    for t in (1, 2):
        theta = chapter[name](theta, theta, s, t, np.full((2, 1), 0.1, "float32"))
    assert theta.dtype == "float32"


def test_the_first_step_of_adam_is_the_rate_whatever_the_gradient(chapter):
    g = np.array([1e-3, -1.0, 1e4])
    np.testing.assert_allclose(chapter["adam"](np.zeros(3), g, {}, 1, 0.01), -0.01 * np.sign(g), rtol=5e-3)


def test_adam_as_the_lecture_writes_it(chapter):
    g = np.array([1e-5, 0.3])
    expected = -g / np.sqrt(g**2 + 1e-7)
    np.testing.assert_allclose(chapter["adam_inside"](np.zeros(2), g, {}, 1, 1.0), expected)


def test_the_two_momenta_part_only_when_the_rate_changes(chapter):
    places = []
    for rule in (chapter["momentum"], chapter["pytorch_momentum"]):
        theta, s, path = 1.0, {}, []
        for t in range(1, 21):
            theta = rule(theta, theta, s, t, 0.1 if t <= 10 else 0.01)
            path.append(theta)
        places.append(np.array(path))
    np.testing.assert_allclose(places[0][:10], places[1][:10])
    assert abs(places[0][10:] - places[1][10:]).min() > 1e-3


# Surfaces and nets: finite differences.


@pytest.mark.parametrize("surface", ["ravine", "beale", "saddle", "bowl"])
def test_a_surface_slopes_as_finite_differences_say(chapter, surface):
    for place in ([0.0, 0.0], [3.0, 0.5], [-1.3, 0.7]):
        place = np.array(place)
        slope = chapter[surface](place)[1]
        for axis in range(2):
            nudge = 1e-6 * np.eye(2)[axis]
            rise = chapter[surface](place + nudge)[0] - chapter[surface](place - nudge)[0]
            assert slope[axis] == pytest.approx(rise / 2e-6, rel=1e-6, abs=1e-8)


def test_beale_has_its_minimum_where_it_is_known_to_be(chapter):
    value, slope = chapter["beale"](np.array([3.0, 0.5]))
    assert value == pytest.approx(0)
    np.testing.assert_allclose(slope, 0, atol=1e-12)


@pytest.mark.parametrize("widths", [[5, 3], [5, 4, 3], [5, 4, 6, 4, 3]])
def test_the_nets_gradient_is_what_finite_differences_say(chapter, widths):
    rng = np.random.default_rng(0)
    nets = chapter["Nets"](widths, 3, seed=0, dtype="float64")
    nets.theta += 0.2 * rng.normal(size=nets.theta.shape)
    x, y = rng.normal(size=(7, 5)), rng.integers(3, size=7)
    nets.backward(x, y)
    slope = nets.slope.copy()
    for place in range(nets.theta.shape[1]):
        losses = {}
        for way in (1, -1):
            nets.theta[:, place] += way * 1e-6
            losses[way] = nets.backward(x, y)
            nets.theta[:, place] -= way * 1e-6
        np.testing.assert_allclose(slope[:, place], (losses[1] - losses[-1]) / 2e-6, rtol=1e-5, atol=1e-8)


def test_the_nets_loss_is_kerass(chapter):
    rng = np.random.default_rng(0)
    nets = chapter["Nets"]([5, 4, 3], 2, seed=0)
    x, y = rng.normal(size=(6, 5)).astype("float32"), np.array([0, 1, 2, 0, 1, 2])
    expected = keras.ops.sparse_categorical_crossentropy(y, nets.forward(x)[0], from_logits=True)
    assert nets.backward(x, y)[0] == pytest.approx(float(keras.ops.mean(expected)), rel=1e-5)


def test_all_nets_of_a_seed_start_alike(chapter):
    nets = chapter["Nets"]([5, 4, 3], 4, seed=3)
    assert (nets.theta == nets.theta[0]).all()


def test_the_best_of_all_rates_is_the_best_and_of_one_the_mean():
    """The odds of the tuning curve, by the formula that the page uses."""
    n = 11
    for k in range(1, n + 1):
        odds = [math.comb(n - 1 - j, k - 1) / math.comb(n, k) for j in range(n)]
        assert sum(odds) == pytest.approx(1)
        assert odds[0] == pytest.approx(k / n)


# Break the formulas: the chapter's own checks, run as the page runs them, have to notice.

BREAKS = {
    "Nesterov forgets to look ahead": ("theta + beta * s['m'] - rate * g", "theta + s['m']"),
    "Adam's epsilon moves to the paper's place": ("+ epsilon)", "+ epsilon * math.sqrt(1 - beta2 ** t))"),
    "Adam has no bias correction": ("rate * math.sqrt(1 - beta2 ** t) / (1 - beta1 ** t)", "rate"),
    "AdaGrad starts from nothing": ("start=0.1", "start=0.0"),
    "Lion remembers before it steps": ("np.sign(beta1 *", "np.sign(beta2 *"),
    "AdamW's decay is not multiplied by the rate": ("theta - rate * decay * theta", "theta - decay * theta"),
}  # fmt: skip
RULE = ["nesterov", "adam", "adam", "adagrad", "lion", "adamw"]  # the rule that each of them breaks


@pytest.mark.parametrize(("what", "name"), zip(BREAKS, RULE, strict=True))
def test_the_comparison_with_keras_notices_that(chapter, what, name):
    """The page's own comparison of every step, with one rule broken."""
    old, new = BREAKS[what]
    text = inspect_source(name)
    assert old in text, f"{name} has no {old!r} to break"
    broken = dict(chapter)
    exec(text.replace(old, new), broken)
    compare = chapter["apart_from_keras"]
    compare.__globals__["precision"] = "float32" if keras.backend.backend() == "jax" else "float64"
    assert (compare(chapter[name], twin(name)) <= 2e-6).all()
    assert (compare(broken[name], twin(name)) > 1e-6).any()


def twin(name):
    """Keras's optimiser at the rate of the page's comparison."""
    config = TWINS[name]().get_config() | {"learning_rate": 1 / 256}
    return type(TWINS[name]()).from_config(config)


def inspect_source(name):
    """A rule as the script has it."""
    module = ast.parse(source(NAME))
    return next(ast.unparse(n) for n in module.body if isinstance(n, ast.FunctionDef) and n.name == name)


def test_the_page_counts_a_broken_rule(tmp_path):
    replace = {"rate * math.sqrt(1 - beta2**t) / (1 - beta1**t)": "rate"}
    records = records_of(NAME, tmp_path, upto="opt-scratch-apart", replace=replace)
    kills("opt-scratch-apart", records["opt-scratch-apart"]["mean"])


# Break the causes of the central claims; the bounds are those that the book reports.


@pytest.mark.parametrize(("rate", "beta"), [(0.8, 1.0), (1.0, 0.9), (1.0, 1.1)])
def test_momentums_factor_needs_the_best_settings(chapter, rate, beta):
    best_rate, best_beta = (2 / 11) ** 2, chapter["formula"](10) ** 2
    factor = chapter["measured_factor"](chapter["momentum"], 100, 600, rate * best_rate, beta=beta * best_beta)
    kills("opt-factor-momentum", factor)


def test_plain_descent_does_not_have_momentums_factor(chapter):
    factor = chapter["measured_factor"](chapter["sgd"], 100, 2000, 2 / 101)
    kills("opt-factor-momentum", factor)
    keeps("opt-factor-sgd", factor)


def test_a_ramp_without_momentum_accelerates_nothing(tmp_path):
    replace = {"keras.optimizers.SGD(1.0, momentum=0.9), [0.0]": "keras.optimizers.SGD(1.0), [0.0]"}
    records = records_of(NAME, tmp_path, upto="opt-ramp-{name}", replace=replace)
    for id in ("opt-ramp-second", "opt-ramp-last"):
        kills(id, records[id]["mean"])


def test_epsilon_inside_is_not_kerass(tmp_path):
    replace = {'"inside": -adam_inside(': '"inside": -adam('}
    records = records_of(NAME, tmp_path, upto="opt-epsilon-{place.lower()}", replace=replace)
    kills("opt-epsilon-inside", records["opt-epsilon-inside"]["mean"])


def test_the_penalty_is_even_handed_without_adam(chapter):
    lost = 1 - chapter["shrink"](chapter["sgd"], True)
    kills("opt-lost-penalty", lost[0] / lost[2])
    kept = 1 - chapter["shrink"](chapter["adam"], True)
    kills("opt-lost-decay", kept[0] / kept[2])


def test_rmsprop_with_a_long_memory_is_no_better_than_adagrad(chapter):
    def slow(*arguments):
        return chapter["rmsprop"](*arguments, rho=0.9999)

    late = chapter["late_over_early"]
    keeps("opt-late-rmsprop", 100 * late(chapter["rmsprop"]))
    keeps("opt-late-adagrad", 100 * late(chapter["adagrad"]))
    kills("opt-late-rmsprop", 100 * late(slow))


# The race: the same net, one seed, the page's own steps.


@pytest.fixture(scope="module")
def pictures(chapter):
    try:
        (x, y), _ = datasets.load("fashion_mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no Fashion-MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x = chapter["halved"](x)
    x = (x - x.mean()) / x.std()
    return x[:10_000], y[:10_000].astype(int), x[-2_000:], y[-2_000:].astype(int)


def race(chapter, pictures, rules, rates, steps=500, labels=None, hidden=1):
    """Held-back accuracy at the end, (rules, rates)."""
    x, y, x_val, y_val = pictures
    chapter["compete"].__globals__.update(x_val=x_val, y_val=y_val, x_test=x_val[:50], y_test=y_val[:50])
    data = (x, y if labels is None else labels)
    widths = [196] + [32] * hidden + [10]
    return chapter["compete"](rules, rates, widths, 0, steps, [steps], data=data)["held"][-1]


def test_the_gap_at_one_rate_is_the_rates_doing(chapter, pictures):
    """At 0.001 the gap is there; give each its own rate and it is gone."""
    rules = [chapter["sgd"], chapter["adam"]]
    same = race(chapter, pictures, rules, [0.001])[:, 0]
    keeps("opt-same-gap", same[1] - same[0])
    tuned = race(chapter, pictures, rules, [0.003, 0.3])
    gap = tuned[1, 0] - tuned[0, 1]
    keeps("opt-tuned-gap", gap)
    kills("opt-same-gap", gap)
    kills("opt-tuned-gap", same[1] - same[0])


def test_momentum_is_ten_times_the_rate_only_at_nine_tenths(chapter, pictures):
    """With momentum 0.5 the factor is two, not ten."""

    def half(theta, g, s, t, rate):
        return chapter["momentum"](theta, g, s, t, rate, beta=0.5)

    low, high = [0.0001, 0.001], [0.001, 0.01]
    slow = race(chapter, pictures, [half, chapter["momentum"]], low)
    plain = race(chapter, pictures, [chapter["sgd"]], high)[0]
    keeps("opt-tenfold", np.abs(slow[1] - plain).mean())
    kills("opt-tenfold", np.abs(slow[0] - plain).mean())


def test_adagrad_does_badly_in_a_deep_net_that_it_enters_with_a_large_gradient_in_memory(chapter, pictures):
    def burdened(theta, g, s, t, rate):
        return chapter["adagrad"](theta, g, s, t, rate, start=100)

    rules = [chapter["adam"], chapter["adagrad"], burdened]
    adam, adagrad, burdened = race(chapter, pictures, rules, 10.0 ** np.arange(-3.5, -0.75, 0.5), 300, hidden=10).max(1)
    keeps("opt-deep-adagrad-behind", adam - adagrad)
    kills("opt-deep-adagrad-behind", adam - burdened)


def test_labels_that_mean_nothing_teach_nothing(chapter, pictures):
    labels = np.random.default_rng(0).permutation(pictures[1])
    reached = race(chapter, pictures, [chapter["sgd"], chapter["adam"]], [0.003, 0.3], labels=labels)
    print(f"with shuffled labels at most {reached.max():.1f} %")
    assert reached.max() < 40


def test_the_tuned_gap_fails_at_ten_times_the_rate_of_sgd(chapter, pictures):
    reached = race(chapter, pictures, [chapter["sgd"], chapter["adam"]], [0.003, 3.0])
    kills("opt-tuned-gap", reached[1, 0] - reached[0, 1])
