"""The chapter's formulas against Keras and finite differences, and what happens when a cause is broken."""

import math
import tracemalloc

import calipers
import keras
import numpy as np
import pytest
from breaks import keeps, kills, reported
from calipers import datasets
from chapters import definitions, records_of

NAME = "mini_batches"
SIZES = [784, 32, 10]
SEEDS = (0, 1, 2)
QUICK = {"check_every": 1_024, "target": 80, "epochs": {4: 2, 16: 3, 64: 5, 256: 11, 1024: 24}}


@pytest.fixture
def chapter():
    """The page's functions, with quick's budgets; a test may replace one of them."""
    namespace = definitions(NAME)
    namespace |= QUICK | {"sizes": SIZES, "batch_sizes": list(QUICK["epochs"])}
    return namespace


def some(count, seed=0, dtype="float64", inputs=20):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, inputs)).astype(dtype), rng.integers(10, size=count)


def small(chapter, seed=1):
    """A net whose biases keep it away from ReLU's kinks."""
    net = chapter["random_net"](seed, [20, 8, 10], dtype="float64")
    for bias in net[1::2]:
        bias += np.random.default_rng(seed).normal(0, 0.1, bias.shape)
    return net


@pytest.mark.parametrize("count", [1, 7, 64])
def test_the_gradient_is_kerass(chapter, count):
    x, y = some(count, dtype="float32")
    net = [array.astype("float32") for array in small(chapter)]
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(10)])
    model.set_weights([net[0][0], net[1][0, 0], net[2][0], net[3][0, 0]])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs = calipers.layer_gradients(model, loss, x, y)
    value, ours = chapter["gradient"](net, x, y)
    assert value[0] == pytest.approx(float(loss(y, model(x))), rel=1e-5)
    for mine, other in zip(ours, theirs.values(), strict=True):
        np.testing.assert_allclose(mine.squeeze(0).reshape(other.shape), other, atol=1e-5)


@pytest.mark.parametrize("count", [1, 7])
def test_the_gradient_is_what_finite_differences_say(chapter, count):
    x, y = some(count, seed=2)
    net = small(chapter)
    places = [(part, place) for part, array in enumerate(net) for place in range(0, array.size, 7)]
    expected = chapter["difference_quotients"](net, x, y, places)
    slopes = chapter["gradient"](net, x, y)[1]
    found = np.array([slopes[part].flat[place] for part, place in places])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_huge_logits_leave_loss_and_gradient_finite(chapter):
    x, y = some(5)
    net = [1e4 * array for array in small(chapter)]
    loss, slopes = chapter["gradient"](net, x, y)
    assert np.isfinite(loss).all()
    assert all(np.isfinite(slope).all() for slope in slopes)
    np.testing.assert_allclose(chapter["softmax"](np.array([1000.0, 999.0])), [0.731, 0.269], atol=1e-3)


@pytest.mark.parametrize("count", [1, 9])
def test_loop_and_matrix_agree_and_noise_is_what_the_examples_say(chapter, count):
    x, y = some(count, seed=3)
    net, flat = small(chapter), chapter["flat"]
    whole = flat(chapter["gradient"](net, x, y)[1])
    np.testing.assert_allclose(flat(chapter["gradient_by_loop"](net, x, y)), whole, rtol=1e-6, atol=1e-9)
    alone = [flat(chapter["gradient"](net, x[i : i + 1], y[i : i + 1])[1]) for i in range(count)]
    single, full = chapter["noise"](net, x, y)
    assert single == pytest.approx(np.mean([np.sum((one - full) ** 2) for one in alone]), abs=1e-9)
    np.testing.assert_allclose(full, whole)


def test_a_stack_of_nets_is_as_many_single_nets(chapter):
    x, y = some(64, dtype="float32")
    both = chapter["random_net"](0, [20, 8, 10], copies=2)
    chapter["train"](both, x, y, [0.1, 0.5], 16, 10, seed=4)
    for number, rate in enumerate((0.1, 0.5)):
        one = chapter["random_net"](0, [20, 8, 10])
        chapter["train"](one, x, y, [rate], 16, 10, seed=4)
        for stacked, single in zip(both, one, strict=True):
            np.testing.assert_allclose(stacked[number], single[0], rtol=1e-4, atol=1e-6)


def test_an_epoch_deals_every_example_once_and_no_ragged_batch(chapter):
    x, y = np.zeros((22, 20), "float32"), np.arange(22)
    dealt, honest = [], chapter["gradient"]

    def spy(net, x, labels):
        dealt.append(labels.copy())
        return honest(net, x, labels % 10)

    chapter["gradient"] = spy
    chapter["train"](chapter["random_net"](0, [20, 8, 10]), x, y, [0.1], 4, 10, seed=5)
    assert {len(batch) for batch in dealt} == {4}
    for epoch in (dealt[:5], dealt[5:]):
        assert len(set(np.concatenate(epoch))) == 20
    assert not np.array_equal(dealt[0], dealt[5])
    dealt.clear()
    chapter["train"](chapter["random_net"](0, [20, 8, 10]), x, y, [0.1], 100, 2, seed=5)
    assert [len(batch) for batch in dealt] == [22, 22], "a batch larger than the data is the full batch"


def test_arrival_is_the_third_look_in_a_row_and_never_is_infinite(chapter):
    reads = np.array([[70, 10], [79, 10], [80, 81], [82, 10], [82, 10]])
    found = chapter["arrival"](np.array([5, 10, 15, 20, 25]), reads)
    assert found[0] == 20
    assert np.isinf(found[1])


@pytest.mark.parametrize("place", [3.0, 40.0, 700.0])
def test_the_bend_is_found_where_it_is(chapter, place):
    least, found = chapter["bend"](150 * (1 + place / np.array([4, 16, 64, 256, 1024])))
    assert found == pytest.approx(place, rel=0.02)
    assert least == pytest.approx(150, rel=0.02)


def test_a_straight_line_is_smooth_and_noise_is_as_rough_as_its_spread(chapter):
    assert chapter["roughness"](np.linspace(50, 80, 20)[:, None])[0] == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(6)
    rough = np.mean([chapter["roughness"](rng.normal(0, 2, (16, 1)))[0] for _ in range(400)])
    assert rough == pytest.approx(2, rel=0.1)


# Break the formulas: the chapter's own checks, run as the page runs them, have to notice.

BREAKS = {
    "the sum for the mean": ("slope /= size", "slope /= 1", "mb-gradient-disagreements"),
    "no gate": ("@ net[2].swapaxes(-1, -2) * (hidden > 0)", "@ net[2].swapaxes(-1, -2)", "mb-gradient-disagreements"),
    "noise without biases": ("(x**2).sum(-1) + 1", "(x**2).sum(-1)", "mb-loop-disagreements"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_page_notices_wrong_formulas(what, tmp_path):
    old, new, id = BREAKS[what]
    kills(id, records_of(NAME, tmp_path, upto=id, replace={old: new})[id]["mean"])


def test_the_comparison_with_keras_notices_a_rate_that_was_not_divided(tmp_path):
    replace = {"0.1 / 64": "0.1 / 32", "accumulate=4": "accumulate=2", "np.float32(0.1) * slope": "0.11 * slope"}
    records = records_of(NAME, tmp_path, upto="mb-pool", replace=replace)
    for key in ("scratch", "sum", "accumulated"):
        kills(f"mb-{key}-apart", records[f"mb-{key}-apart"]["mean"])


# Break the causes: the bound that the book reports has to fail.


@pytest.fixture(scope="module")
def clothes():
    try:
        (x, y), _ = datasets.load("fashion_mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no Fashion-MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x, y = x.reshape(len(x), -1) / np.float32(255), y.astype(int)
    return {"x_train": x[:10_000], "y_train": y[:10_000], "x_val": x[-10_000:][:2_500], "y_val": y[-10_000:][:2_500]}


def sample(values):
    return calipers.Sample(np.array(values, dtype=float), SEEDS)


def squared_noise(chapter, clothes, draw):
    """Squared noise of single examples over that of batches of 64, at a fresh net."""
    net, x, y = chapter["random_net"](0, SIZES), clothes["x_train"][:4096], clothes["y_train"][:4096]
    _, full = chapter["noise"](net, x, y)
    found = {}
    for size in (1, 64):
        rows = [draw(size) for _ in range(300)]
        away = [chapter["flat"](chapter["gradient"](net, x[row], y[row])[1]) - full for row in rows]
        found[size] = np.mean([a @ a for a in away])
    return found[1] / found[64]


def test_batches_of_copies_are_as_noisy_as_their_one_example(chapter, clothes):
    rng = np.random.default_rng(7)
    keeps("mb-noise-1-over-64", squared_noise(chapter, clothes, lambda b: rng.permutation(4096)[:b]))
    copies = squared_noise(chapter, clothes, lambda b: np.repeat(rng.integers(4096), b))
    kills("mb-noise-1-over-64", copies)


def test_batches_of_four_do_not_arrive_at_ten_times_their_rate(chapter, clothes):
    """Ten times its rate, for as many epochs as the batches of 1024 take."""
    large = reported()["mb-epochs-1024"]["mean"]
    chapter |= clothes | {"epochs": {4: math.ceil(large)}}
    steps, reads, _ = chapter["race"](0, [10 / 32], 4)
    kills("mb-epochs-1024", large, chapter["arrival"](steps, reads)[0] * 4 / len(clothes["x_train"]))


def test_far_below_the_ceiling_four_times_the_batch_saves_four_times_the_steps(chapter, clothes):
    chapter |= clothes | {"target": 65, "epochs": {256: 7, 1024: 7}}
    taken = {}
    for size, rate in ((256, 1 / 64), (1024, 1 / 16)):
        steps, reads, _ = chapter["race"](0, [rate], size)
        (taken[size],) = chapter["arrival"](steps, reads)
    assert np.isfinite(list(taken.values())).all(), taken
    kills("mb-steps-256-over-1024", taken[256] / taken[1024])


def test_steps_without_a_bend_bend_nowhere_near_the_noise_scale(chapter, clothes):
    single, full = chapter["noise"](
        chapter["random_net"](0, SIZES), clothes["x_train"][:4096], clothes["y_train"][:4096]
    )
    _, place = chapter["bend"](9216 / np.array([4, 16, 64, 256, 1024]))
    kills("mb-bend-over-scale", place / (single / (full @ full)))


def test_at_a_quarter_of_the_rules_rate_batches_of_256_learn(chapter, clothes):
    chapter |= clothes
    reads = {}
    for rate in (1, 1 / 4):
        net = chapter["random_net"](0, SIZES)
        chapter["train"](net, clothes["x_train"], clothes["y_train"], [rate], 256, 78, 0)
        reads[rate] = chapter["accuracy"](net, clothes["x_val"], clothes["y_val"])[0]
    keeps("mb-rule-256", reads[1])
    kills("mb-rule-256", reads[1 / 4])


def fair(chapter, clothes, batch_size, steps, rate):
    reads = []
    for seed in SEEDS:
        net = chapter["random_net"](seed, SIZES)
        x, y = clothes["x_train"][:4_000], clothes["y_train"][:4_000]
        chapter["train"](net, x, y, [rate], batch_size, steps, seed, shape=chapter["falling"])
        reads.append(chapter["accuracy"](net, clothes["x_val"], clothes["y_val"])[0])
    return sample(reads)


def test_what_a_budget_decides_turns_round_with_budget_and_rate(chapter, clothes):
    few = fair(chapter, clothes, 16, 600, 1 / 8)
    kills("mb-fair-epochs-16", few, fair(chapter, clothes, 512, 300, 1 / 4))  # more steps
    kills("mb-fair-steps-512", fair(chapter, clothes, 512, 300, 1 / 64), few)  # an untuned rate


def test_past_its_ceiling_the_large_batch_is_no_smoother(chapter, clothes):
    chapter |= clothes | {"epochs": {4: 2, 1024: 12}}
    smooth_and_rough = []
    for seed in SEEDS:
        small = chapter["roughness"](chapter["race"](seed, [1 / 32], 4)[1])
        large = chapter["roughness"](chapter["race"](seed, [1 / 32, 1 / 2], 1024)[1])
        smooth_and_rough.append(small / large)
    common, past = np.mean(smooth_and_rough, axis=0)
    keeps("mb-rough-ratio-common", common)
    kills("mb-rough-ratio-common", past)


def test_the_memory_of_parts_is_that_of_a_part(chapter, clothes):
    net = chapter["random_net"](0, SIZES)

    def peak(size, parts):
        chapter["gradient"](net, clothes["x_train"][:4].copy(), clothes["y_train"][:4])
        tracemalloc.start()
        for rows in np.split(np.arange(size), parts):
            chapter["gradient"](net, clothes["x_train"][rows], clothes["y_train"][rows])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    keeps("mb-memory-1024", peak(1024, 1) / peak(4, 1))
    kills("mb-memory-1024", peak(1024, 64) / peak(4, 1))


def test_the_sum_at_a_rate_divided_by_the_batch_is_no_trap(chapter, clothes):
    reads = {}
    for rate in (8, 8 / 64):
        net = chapter["random_net"](0, SIZES)
        chapter["train"](net, clothes["x_train"], clothes["y_train"], [rate], 64, 156, 0)
        reads[rate] = chapter["accuracy"](net, clothes["x_val"], clothes["y_val"])[0]
    keeps("mb-loss-sum", reads[8])
    keeps("mb-loss-mean", reads[8 / 64])
    kills("mb-loss-sum", reads[8 / 64])
    kills("mb-loss-mean", reads[8])


def test_a_single_example_at_its_own_rate_does_no_such_harm(chapter, clothes):
    x, y = clothes["x_train"], clothes["y_train"]
    lost = {1: [], 1024: []}
    for seed in SEEDS:
        net, rng = chapter["random_net"](seed, SIZES), np.random.default_rng([seed, 4])
        chapter["train"](net, x, y, [1 / 4], 1024, 60, seed)
        before = chapter["accuracy"](net, clothes["x_val"], clothes["y_val"])[0]
        for size, rate in ((1, 1 / 4 / 1024), (1024, 1 / 4)):
            costs = []
            for _ in range(20):
                rows = rng.permutation(len(x))[:size]
                slopes = chapter["gradient"](net, x[rows], y[rows])[1]
                stepped = [a - np.float32(rate) * s for a, s in zip(net, slopes, strict=True)]
                costs.append(before - chapter["accuracy"](stepped, clothes["x_val"], clothes["y_val"])[0])
            lost[size].append(np.mean(costs))
    kills("mb-ragged-1", sample(lost[1]), sample(lost[1024]))
