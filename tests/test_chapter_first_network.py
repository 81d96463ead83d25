"""The chapter's formulas against Keras and finite differences, and what happens when a cause is broken."""

import ast
import math
import re

import calipers
import keras
import numpy as np
import pytest
from breaks import kills
from calipers import Sample, datasets
from chapters import definitions, records_of, source

NAME = "first_network"
SIZES = [784, 256, 64, 10]


@pytest.fixture
def chapter():
    """The chapter's functions; each test may set the globals that they read."""
    return definitions(NAME)


def as_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def slope(function, array, place, step=1e-6):
    """The derivative of a number along one entry of an array, by moving it both ways."""
    value = {}
    for sign in (1, -1):
        moved = array.copy()
        moved[place] += sign * step
        value[sign] = function(moved)
    return (value[1] - value[-1]) / (2 * step)


# The formulas.


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 7.0])
def test_softmax_is_kerass_at_every_temperature(chapter, temperature):
    logits = np.random.default_rng(0).normal(0, 3, (20, 10))
    expected = as_numpy(keras.ops.softmax((logits / temperature).astype("float32")))
    np.testing.assert_allclose(chapter["softmax"](logits, temperature), expected, atol=1e-5)


def test_softmax_survives_huge_logits_and_does_not_see_a_shift(chapter):
    logits = np.array([[1000.0, 999.0, -1000.0], [-1e6, -1e6, -1e6]])
    p = chapter["softmax"](logits)
    np.testing.assert_allclose(p, chapter["softmax"](logits + 12345.0), atol=1e-9)
    np.testing.assert_allclose(p[0], [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0], atol=1e-12)
    np.testing.assert_allclose(p[1], 1 / 3)


def test_cross_entropy_is_kerass_and_survives_huge_logits(chapter):
    logits = np.array([[1000.0, 0.0, -1000.0], [0.5, -0.5, 2.0]])
    labels = np.array([1, 2])
    loss, delta = chapter["cross_entropy"](logits, labels)
    expected = keras.ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    assert loss == pytest.approx(float(keras.ops.mean(expected)), rel=1e-6)
    assert np.isfinite(delta).all()
    for place in np.ndindex(logits.shape):
        expected = slope(lambda z: chapter["cross_entropy"](z, labels)[0], logits, place, 1e-5)
        assert delta[place] == pytest.approx(expected, rel=1e-5, abs=1e-8)


def test_the_surprise_of_the_lectures_examples(chapter):
    third = np.array([0.0, 0.0, 1.0])
    assert chapter["surprise"](third, third) == 0
    assert chapter["surprise"](third, np.array([0.2, 0.4, 0.4])) == pytest.approx(-math.log(0.4))
    target, p = np.array([0.0, 0.25, 0.75]), np.array([0.0, 0.5, 0.5])  # 0 log 0
    assert chapter["surprise"](target, p) == pytest.approx(math.log(2))


def test_binary_cross_entropy_is_kerass_and_survives_huge_logits(chapter):
    z = np.array([-1000.0, -2.0, 0.0, 3.0, 1000.0])
    for t in (0.0, 0.3, 1.0):
        target = np.full(5, t)
        expected = as_numpy(keras.ops.binary_crossentropy(target, z, from_logits=True))
        np.testing.assert_allclose(chapter["binary_cross_entropy"](target, z), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(chapter["sigmoid"](z[1:4]), as_numpy(keras.ops.sigmoid(z[1:4])), atol=1e-6)
    found = slope(lambda z: chapter["binary_cross_entropy"](np.array([0.3]), z)[0], np.array([1.2]), 0)
    assert found == pytest.approx(chapter["sigmoid"](1.2) - 0.3, rel=1e-6)  # p - t again


NETS = [[5, 3], [6, 4, 3], [7, 5, 4, 2], [3, 2, 2, 2, 4]]


def net_of(chapter, sizes, seed=0):
    rng = np.random.default_rng(seed)
    net = [(w, b + rng.normal(0, 0.3, b.shape)) for w, b in chapter["random_parameters"](rng, sizes)]
    return net, rng.normal(size=(6, sizes[0])), rng.integers(sizes[-1], size=6)


@pytest.mark.parametrize("sizes", NETS, ids=str)
def test_forward_is_what_keras_computes(chapter, sizes):
    net, x, _ = net_of(chapter, sizes)
    model = chapter["dense_net"](sizes)
    model.set_weights([array for layer in net for array in layer])
    np.testing.assert_allclose(chapter["forward"](net, x)[0], as_numpy(model(x)), atol=1e-5)


def worst(chapter, sizes, loss="cross_entropy"):
    """The largest disagreement of `backward` and finite differences, relative to 1e-6 |slope| + 1e-9."""
    net, x, labels = net_of(chapter, sizes)
    logits, inputs = chapter["forward"](net, x)
    gradients = chapter["backward"](net, inputs, chapter[loss](logits, labels)[1])
    found = 0
    for layer, part in np.ndindex(len(net), 2):
        for place in np.ndindex(net[layer][part].shape):

            def moved_loss(array, layer=layer, part=part):
                moved = [list(entry) for entry in net]
                moved[layer][part] = array
                return chapter[loss](chapter["forward"](moved, x)[0], labels)[0]

            expected = slope(moved_loss, net[layer][part], place)
            found = max(found, abs(gradients[layer][part][place] - expected) / (1e-6 * abs(expected) + 1e-9))
    return found


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "softmax_twice"])
@pytest.mark.parametrize("sizes", NETS, ids=str)
def test_backward_is_what_finite_differences_say(chapter, sizes, loss):
    assert worst(chapter, sizes, loss) < 1


def test_the_check_by_entries_is_the_plain_one_and_leaves_the_net_as_it_was(chapter):
    net, x, labels = net_of(chapter, [6, 4, 3])
    before = [array.copy() for layer in net for array in layer]
    entries = [(0, 0, (2, 1)), (0, 1, (3,)), (1, 0, (0, 2)), (1, 1, (1,))]
    found = chapter["difference_quotients"](net, entries, x, labels, 1e-6)
    logits, inputs = chapter["forward"](net, x)
    gradients = chapter["backward"](net, inputs, chapter["cross_entropy"](logits, labels)[1])
    np.testing.assert_allclose(found, [gradients[i][j][place] for i, j, place in entries], rtol=1e-5)
    for old, array in zip(before, [array for layer in net for array in layer], strict=True):
        np.testing.assert_array_equal(old, array)
    assert chapter["relative_error"](np.array([3.0, 4.0]), np.array([3.0, 4.0])) == 0
    assert chapter["relative_error"](np.array([3.0, 4.0]), np.array([-3.0, -4.0])) == 1


def test_squared_error_is_kerass(chapter):
    logits, labels = np.random.default_rng(1).normal(size=(4, 10)), np.array([0, 3, 3, 9])
    p = as_numpy(keras.ops.softmax(logits))
    expected = keras.losses.MeanSquaredError()(np.eye(10)[labels], p)
    assert chapter["squared_error"](logits, labels)[0] == pytest.approx(float(expected), rel=1e-5)


def test_the_softmax_twice_cannot_pass_its_floor(chapter):
    sure = np.full((10, 10), -1000.0) + 2000 * np.eye(10)
    loss, delta = chapter["softmax_twice"](sure, np.arange(10))
    assert loss == pytest.approx(math.log(1 + 9 / math.e), rel=1e-12)
    assert np.abs(delta).max() < 1e-12


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_is_kerass_with_and_without_momentum(chapter, momentum):
    rng = np.random.default_rng(2)
    x, labels = rng.normal(size=(50, 6)).astype("float32"), rng.integers(3, size=50)  # the last batch is short
    model = chapter["dense_net"]([6, 5, 3])
    weights = model.get_weights()
    net = [(weights[0].copy(), weights[1].copy()), (weights[2].copy(), weights[3].copy())]
    model.compile(
        keras.optimizers.SGD(0.1, momentum=momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    velocities = chapter["at_rest"](net)
    for _ in range(2):
        model.fit(x, labels, batch_size=16, shuffle=False, verbose=0)
        chapter["descend"](net, x, labels, np.arange(50), 0.1, 16, momentum=momentum, velocities=velocities)
    for mine, theirs in zip([array for layer in net for array in layer], model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_the_net_is_the_lectures(chapter):
    model = chapter["dense_net"](SIZES)
    assert [layer.count_params() for layer in model.layers] == [200_960, 16_448, 650]


def test_keras_and_the_hand_agree_on_every_slope_of_the_lectures_net(chapter):
    model = chapter["dense_net"](SIZES)
    weights = model.get_weights()
    net = list(zip(weights[0::2], weights[1::2], strict=True))
    rng = np.random.default_rng(3)
    x, labels = rng.uniform(size=(32, 784)).astype("float32"), rng.integers(10, size=32)
    logits, inputs = chapter["forward"](net, x)
    mine = chapter["backward"](net, inputs, chapter["cross_entropy"](logits, labels)[1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs = calipers.layer_gradients(model, loss, x, labels)
    for by_hand, by_keras in zip([a for layer in mine for a in layer], theirs.values(), strict=True):
        assert chapter["relative_error"](by_hand, by_keras) < 1e-5


# The stepper: its ticks and crosses are computed, so they can be wrong.


@pytest.fixture
def stepper(chapter):
    """The tiny net's constants, taken from the cell that draws it."""
    cell = next(c for c in re.split(r"^# %%.*\n", source(NAME), flags=re.M) if "def values_of" in c)
    for node in ast.parse(cell).body:
        targets = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        if isinstance(node, ast.AugAssign) or any(name.isupper() for name in targets):
            exec(compile(ast.Module([node], []), NAME, "exec"), chapter)
    return chapter


SPOILT = {
    "nothing": set(),
    "forget the truth": {"z2", "W2", "b2", "a", "z1", "W1", "b1"},
    "keep z instead of a": {"W2"},
    "leave out the gate": {"z1", "W1", "b1"},
}


@pytest.mark.parametrize("broken", SPOILT)
def test_the_stepper_marks_the_spoilt_boxes_and_no_other(stepper, broken):
    assert list(SPOILT) == stepper["BREAKS"]
    texts, _ = stepper["state"](len(stepper["STEPS"]) - 1, broken)
    marks = {name: text[-1] for name, text in zip(stepper["BOXES"], texts, strict=True)}
    assert {name for name, mark in marks.items() if mark == "✗"} == SPOILT[broken]
    assert sum(mark == "✓" for mark in marks.values()) == 7 - len(SPOILT[broken])


def test_the_stepper_shows_no_slope_before_its_step(stepper):
    for step in range(5):
        assert not any("slope" in text for text in stepper["state"](step, "nothing")[0])


# Break the formulas: the chapter's own checks, run as the page runs them, have to notice.

BREAKS = {
    "the gate is left out": ("first-gradient-disagreements", " * (inputs[layer] > 0)", ""),
    "the bias takes a mean": ("first-gradient-disagreements", "delta.sum(axis=0)", "delta.mean(axis=0)"),
    "the softmax has the lecture's minus sign": (
        "first-softmax-disagreements",
        "np.exp(safe / temperature)",
        "np.exp(-safe / temperature)",
    ),
    "the logarithm has base ten": (
        "first-binary-disagreements",
        "target[there] * np.log(",
        "target[there] * np.log10(",
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_page_notices_that(what, tmp_path):
    id, old, new = BREAKS[what]
    kills(id, records_of(NAME, tmp_path, upto=id, replace={old: new})[id]["mean"])


def broken(old, new):
    """The chapter's functions with a piece of their source replaced."""
    text = source(NAME)
    assert old in text, f"{NAME} has no {old!r} to break"
    module = ast.parse(text.replace(old, new))
    module.body = [
        n for n in module.body if isinstance(n, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
    ]
    namespace = {"__name__": NAME}
    exec(compile(module, f"{NAME}.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(inputs[layer].T @ delta, delta", "(-inputs[layer].T @ delta, delta"),
        ("delta[true] -= 1", "delta[true] -= 0.9"),
        ("log_probabilities[true].mean()", "log_probabilities[true].sum()"),
        ("gradients.insert(0, (inputs[layer]", "gradients.insert(0, ((inputs[layer] + 1e-4)"),
    ],
)
def test_finite_differences_notice(old, new):
    assert worst(broken(old, new), [6, 4, 3]) > 1


# Break the cause: the bound that the book reports has to fail.


@pytest.fixture(scope="module")
def clothes():
    try:
        (x_all, y_all), (x_test, y_test) = datasets.load("fashion_mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no Fashion-MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x_all, x_test = ((x.reshape(-1, 784) / 255).astype("float32") for x in (x_all, x_test))
    return x_all, y_all.astype(int), x_test, y_test.astype(int)


def prepare(chapter, clothes, examples, epochs, **more):
    """Give the chapter's experiments a training set of so many images, at quick's number of epochs."""
    x_all, y_all, x_test, y_test = clothes
    split = {"x_train": x_all[:examples], "y_train": y_all[:examples], "x_val": x_all[50_000:], "y_val": y_all[50_000:]}
    whole = {"x_all": x_all, "y_all": y_all, "x_test": x_test, "y_test": y_test, "held_back": 10_000}
    settings = {"curve_epochs": epochs, "final_epochs": epochs, "lecture_sizes": SIZES, "rival_epochs": 3}
    chapter.update({**split, **whole, **settings, **more})
    return chapter


def quick(name):
    """A budget of the chapter in the quick profile, from its settings cell."""
    return int(re.search(rf"^{name} = calipers\.choose\(.*quick=([\d_]+)", source(NAME), re.M)[1])


def half_shuffled(labels):
    labels = labels.copy()
    some = np.random.default_rng(0).permutation(len(labels))[: len(labels) // 2]
    labels[some] = np.roll(labels[some], 1)
    return labels


def test_the_accuracy_fails_with_half_of_the_labels_shuffled(chapter, clothes):
    prepare(chapter, clothes, 50_000, quick("final_epochs"), y_all=half_shuffled(clothes[1]))
    keras.utils.set_random_seed(0)
    kills("fashion-dense-accuracy", chapter["final_training"](0)["accuracy"])


def test_the_accuracy_fails_when_the_images_come_sorted_by_class(clothes):
    chapter = broken("order = rng.permutation(len(x_all))", 'order = np.argsort(y_all, kind="stable")')
    prepare(chapter, clothes, 50_000, quick("final_epochs"))
    keras.utils.set_random_seed(0)
    kills("fashion-dense-accuracy", chapter["final_training"](0)["accuracy"])


def test_the_accuracy_fails_with_a_tenth_of_the_images(chapter, clothes):
    prepare(chapter, clothes, 50_000, quick("final_epochs"), x_all=clothes[0][:6_000], y_all=clothes[1][:6_000])
    keras.utils.set_random_seed(0)
    kills("fashion-dense-accuracy", chapter["final_training"](0)["accuracy"])


def test_the_accuracy_fails_at_ten_times_the_rate(clothes):
    chapter = broken("warmup_target=0.007", "warmup_target=0.07")
    prepare(chapter, clothes, 50_000, quick("final_epochs"))
    keras.utils.set_random_seed(0)
    kills("fashion-dense-accuracy", chapter["final_training"](0)["accuracy"])


def test_two_nets_of_one_seed_do_not_disagree(chapter, clothes):
    prepare(chapter, clothes, 50_000, 1, x_all=clothes[0][:5_000], y_all=clothes[1][:5_000])
    answers = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        answers.append(chapter["final_training"](0)["answers"])
    kills("first-seeds-disagreement", 100 * np.mean(answers[0] != answers[1]))


def curves_of(chapter, seed=0, **settings):
    """One seed's best epoch, and by how much the gap grows from the third epoch to the last."""
    curves = chapter["learning_curves"](seed, **settings)
    gap = curves["val"] - curves["train"]
    return int(np.argmin(curves["val"])) + 1, gap[-1] - gap[2]


def test_nothing_overfits_when_the_validation_images_leak_into_the_training_set(chapter, clothes):
    leaked = {"x_val": clothes[0][:10_000], "y_val": clothes[1][:10_000]}
    prepare(chapter, clothes, 10_000, quick("curve_epochs"), **leaked)
    growth = Sample(np.array([curves_of(chapter, seed)[1] for seed in range(3)]), (0, 1, 2))
    kills("first-gap-last", growth, Sample(np.zeros(3), (0, 1, 2)))


def test_the_last_epoch_is_the_best_at_a_hundredth_of_the_rate(chapter, clothes):
    prepare(chapter, clothes, 10_000, quick("curve_epochs"))
    best, _ = curves_of(chapter, learning_rate=0.0008)
    kills("first-best-epoch", best)


def test_a_net_stopped_after_one_epoch_is_not_overconfident(chapter, clothes):
    prepare(chapter, clothes, 50_000, 1)
    logits = chapter["learning_curves"](0)["logits"]
    confidence = chapter["softmax"](logits).max(axis=1).mean()
    right = np.mean(logits.argmax(axis=1) == clothes[1][50_000:])
    kills("first-overconfidence", 100 * (confidence - right))


def contest(chapter, clothes, losses, rates):
    loss_of = {name: chapter[function] for name, function in losses.items()}
    prepare(chapter, clothes, 50_000, 1, rivals=loss_of, rates=rates, rival_examples=quick("rival_examples"))
    return chapter["rival"](0)


def test_squared_error_keeps_up_at_the_shared_rate_once_its_slope_is_as_large(clothes):
    """Thirty times its slope: the shared rate of 0.1 is then the 3 that it chooses for itself."""
    chapter = broken("2 * difference / difference.size", "60 * difference / difference.size")
    result = contest(chapter, clothes, {"ce": "cross_entropy", "mse": "squared_error"}, [0.1])
    kills("first-rival-gap-shared", result["ce", 0.1] - result["mse", 0.1])


def test_one_softmax_passes_the_floor_of_two(chapter, clothes):
    result = contest(chapter, clothes, {"once": "cross_entropy"}, [0.1])
    kills("first-softmax-twice-loss", result["once", 0.1, "loss"])


def test_a_hidden_layer_that_starts_at_random_learns(clothes):
    chapter = broken("(np.zeros(s), np.zeros(s[1])) for s", "(np.random.default_rng(0).normal(0, 0.05, s), "
                     "np.zeros(s[1])) for s")  # fmt: skip
    prepare(chapter, clothes, 50_000, 1, rival_examples=quick("rival_examples"))
    kills("first-zero-deep", chapter["from_zero"](0)["deep"])


def test_an_oversized_last_layer_starts_far_from_guessing(chapter, clothes):
    x_val, y_val = clothes[0][50_000:], clothes[1][50_000:]
    net = chapter["random_parameters"](np.random.default_rng(0), SIZES)
    net[-1] = (5 * net[-1][0], net[-1][1])
    loss, _ = chapter["cross_entropy"](chapter["forward"](net, x_val)[0], y_val)
    kills("first-untrained-loss", loss)
