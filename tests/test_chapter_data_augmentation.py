"""The chapter's formulas against SciPy, Keras and finite differences, and what happens when a cause is broken."""

import math

import keras
import numpy as np
import pytest
import scipy.ndimage
from breaks import keeps, kills
from calipers import datasets
from chapters import definitions, records_of

NAME = "data_augmentation"


@pytest.fixture(scope="module")
def chapter():
    return definitions(NAME) | {"one_hot": np.eye(10, dtype="float32")}


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(3, 9, 9)).astype("float32")


# The lookup: between pixels, at the border, far outside.


def test_look_up_is_scipys_bilinear_interpolation_border_and_outside_included(chapter, noise):
    rows, columns = np.random.default_rng(1).uniform(-3, 12, size=(2, 3, 9, 9)).astype("float32")
    rows[0, 0, :4], columns[0, 0, :4] = (0, 8, -0.5, 8.5), (0, 8, -0.5, 8.5)
    for image, r, c, mine in zip(noise, rows, columns, chapter["look_up"](noise, rows, columns), strict=True):
        expected = scipy.ndimage.map_coordinates(image, [r, c], order=1, mode="grid-constant")
        np.testing.assert_allclose(mine, expected, atol=1e-4)


def test_look_up_at_whole_places_changes_nothing(chapter, noise):
    rows, columns = chapter["places"](9)
    same = chapter["look_up"](noise, *(np.broadcast_to(a, noise.shape) for a in (rows, columns)))
    np.testing.assert_allclose(same, noise, atol=1e-6)


@pytest.mark.parametrize(("turn", "count"), [(90, 1), (-90, -1), (180, 2)])
def test_quarter_turns_are_numpys(chapter, noise, turn, count):
    rows, columns = chapter["places"](9, turn=turn)
    turned = chapter["look_up"](noise, *(np.broadcast_to(a, noise.shape) for a in (rows, columns)))
    np.testing.assert_allclose(turned, np.rot90(noise, -count, axes=(1, 2)), atol=1e-5)


def test_a_shift_looks_up_where_it_says(chapter, noise):
    rows, columns = chapter["places"](9, shift=(2, -1))
    moved = chapter["look_up"](noise, *(np.broadcast_to(a, noise.shape) for a in (rows, columns)))
    np.testing.assert_allclose(moved[:, :7, 1:], noise[:, 2:, :8], atol=1e-6)
    assert not moved[:, 7:].any()


def test_the_affine_map_is_the_formulas(chapter):
    theta, k, zr, zc = math.radians(25), 0.3, 0.8, 1.1
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    matrix = turn @ np.array([[1, 0], [k, 1]]) @ np.diag([zr, zc])
    found = np.stack(chapter["places"](9, turn=25, skew=k, zoom=(zr, zc), shift=(1.5, -2)))
    expected = matrix @ (np.array([2, 7]) - 4) + 4 + np.array([1.5, -2])
    np.testing.assert_allclose(found[:, 2, 7], expected, atol=1e-4)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_sheet_is_as_rough_as_predicted(chapter, width):
    sheet = chapter["rumpled_sheet"](np.random.default_rng(0), width)
    assert sheet.std() == pytest.approx(1, abs=1e-3)
    predicted = math.sqrt(2 * (1 - math.exp(-1 / (4 * width**2))))
    assert np.diff(sheet[0], axis=0).std() == pytest.approx(predicted, rel=0.05)


def test_five_copies_are_the_original_and_its_four_shifts(chapter, noise):
    copies = chapter["five_copies"](noise).reshape(5, 3, 9, 9)
    np.testing.assert_array_equal(copies[0], noise)
    sums = [scipy.ndimage.shift(noise, (0, *by), order=0) for by in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    np.testing.assert_allclose(copies[1:], sums)


def test_moves_of_no_strength_change_nothing_and_seeds_repeat(chapter, noise):
    move = chapter["move"]
    np.testing.assert_allclose(move(np.random.default_rng(0), noise), noise, atol=1e-6)
    first, again = (move(np.random.default_rng(3), noise, turn=20, crumple=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)


# The other moves.


def test_cropping_shows_a_window_of_the_padded_picture(chapter):
    images = np.arange(1, 2 * 6 * 6 * 3 + 1).reshape(2, 6, 6, 3)
    crops = {chapter["cropped"](np.random.default_rng(k), images, 1)[0].tobytes() for k in range(200)}
    padded = np.pad(images[0], ((1, 1), (1, 1), (0, 0)))
    windows = {padded[i : i + 6, j : j + 6].tobytes() for i in range(3) for j in range(3)}
    assert crops == windows


def test_cutout_blanks_one_square_in_all_channels(chapter):
    images = np.ones((50, 12, 12, 3), "float32")
    blank = chapter["cutout"](np.random.default_rng(0), images, 4) == 0
    assert np.array_equal(blank.all(axis=3), blank.any(axis=3))
    areas = blank[..., 0].sum(axis=(1, 2))
    assert areas.min() >= 1
    assert areas.max() <= 16
    assert images.all(), "the pictures themselves stay as they are"


def test_mirroring_mirrors_about_half_and_leaves_the_pictures_themselves(chapter):
    images = np.random.default_rng(0).normal(size=(400, 4, 4))
    seen = chapter["mirrored"](np.random.default_rng(1), images)
    there = np.all(seen == images, axis=(1, 2))
    assert np.array_equal(seen[~there], images[~there][:, :, ::-1])
    assert 0.4 < there.mean() < 0.6


def test_mixup_mixes_pictures_and_labels_alike(chapter):
    labels = np.eye(10, dtype="float32")[np.arange(10)]
    mixed, targets = chapter["mixup"](np.random.default_rng(0), labels.reshape(10, 2, 5), labels)
    np.testing.assert_allclose(mixed.reshape(10, 10), targets, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)


def test_calibration_error_of_known_answers(chapter):
    p = np.tile([0.75, 0.25], (4, 1))
    assert chapter["calibration_error"](p, np.array([0, 0, 0, 1])) == pytest.approx(0)
    assert chapter["calibration_error"](p, np.array([1, 1, 1, 1])) == pytest.approx(75)


# The net.


def test_the_gradient_is_what_finite_differences_say(chapter):
    rng = np.random.default_rng(0)
    net = [a.astype(float) + rng.normal(0, 0.1, a.shape) for a in chapter["start"](rng, 20, 7)]
    x, targets = rng.normal(size=(5, 20)), rng.dirichlet(np.ones(10), 5)

    def loss(net):
        p = chapter["softmax"](chapter["logits_of"](net, x)[0])
        return -np.mean(np.sum(targets * np.log(p), axis=1))

    for number, gradient in enumerate(chapter["gradient_of"](net, x, targets)):
        for flat in (0, gradient.size // 2, gradient.size - 1):
            place, values = np.unravel_index(flat, gradient.shape), []
            for sign in (1, -1):
                moved = [a.copy() for a in net]
                moved[number][place] += sign * 1e-6
                values.append(loss(moved))
            assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_learning_is_kerass_adam(chapter):
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(100, 12)).astype("float32"), np.eye(10, dtype="float32")[rng.integers(10, size=100)]
    net = chapter["start"](rng, 12, 8)
    twin = keras.Sequential([keras.Input((12,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(10)])
    twin.set_weights(net)
    optimizer = keras.optimizers.Adam(0.01)
    twin.compile(optimizer, keras.losses.CategoricalCrossentropy(from_logits=True))
    for step in range(10):  # the schedule of `learn`, step by step; the batch is always all
        progress = max(0, step - 2) / 8
        optimizer.learning_rate = 0.01 * min((step + 1) / 2, (1 + math.cos(math.pi * progress)) / 2)
        twin.train_on_batch(x, targets)
    chapter["learn"](net, rng, x, targets, 10)
    for mine, theirs in zip(net, twin.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-4)


# Break the formulas: the page's own checks have to notice.

LOOK_UP = {
    "two corners are swapped": ("* (1 - right) + flat[place + 1] * right\n    place", "* right + flat[place + 1] * "
                                "(1 - right)\n    place"),
    "rows are rounded": ("down, right = rows - top, columns - left", "down, right = 0 * rows, columns - left"),
}  # fmt: skip


@pytest.mark.parametrize("what", LOOK_UP)
def test_scipy_and_keras_notice_that(what, tmp_path):
    old, new = LOOK_UP[what]
    records = records_of(NAME, tmp_path, upto="aug-look-up-disagreements", replace={old: new})
    kills("aug-look-up-disagreements", records["aug-look-up-disagreements"]["mean"])


def test_the_roughness_notices_a_sheet_of_another_width(tmp_path):
    records = records_of(NAME, tmp_path, upto="aug-tear-ratio", replace={"(0, width, width)": "(0, width / 2, width)"})
    kills("aug-tear-ratio", records["aug-tear-ratio"]["mean"])


def test_finite_differences_notice_a_gradient_that_ignores_the_relu(tmp_path):
    records = records_of(NAME, tmp_path, upto="aug-gradient-disagreements", replace={" * (hidden > 0)": " * 1"})
    kills("aug-gradient-disagreements", records["aug-gradient-disagreements"]["mean"])


# Break the causes: the bound that the book reports has to fail. Quick's own lengths, one seed.


@pytest.fixture(scope="module")
def digits():
    try:
        (x_train, y_train), (x_test, y_test) = datasets.load("mnist")
    except datasets.DatasetError as error:
        pytest.skip(f"no MNIST, so nothing can be trained: {str(error).splitlines()[0]}")
    x_train, x_test = (x / np.float32(255) for x in (x_train, x_test))
    return x_train[:50_000], y_train[:50_000].astype(int), x_test, y_test.astype(int)


@pytest.fixture(scope="module")
def trained(chapter, digits):
    """Train the page's net on 1,000 digits, or on what `spoil` makes of them; its test accuracy and answers."""
    x_train, y_train, x_test, y_test = digits

    def train(spoil):
        rng = np.random.default_rng(0)
        pick, net = rng.permutation(50_000)[:1_000], chapter["start"](rng)
        x, y = spoil(rng, x_train[pick], y_train[pick])
        chapter["learn"](net, rng, x, chapter["one_hot"][y], 400)
        return 100 * np.mean(chapter["guesses_of"](net, x_test) == y_test), net

    return train


@pytest.fixture(scope="module")
def plain(trained):
    return trained(lambda rng, x, y: (x, y))


DISTORT = {"turn": 15, "skew": 0.2, "zoom": 0.1, "shift": 1, "crumple": 1.4}


def test_the_gain_holds_with_the_pages_moves(trained, plain, chapter):
    spoil = lambda rng, x, y: (chapter["move"](rng, np.tile(x, (10, 1, 1)), **DISTORT), np.tile(y, 10))  # noqa: E731
    keeps("aug-distorted-gain", trained(spoil)[0] - plain[0])


BROKEN = {
    "the copies are not moved": lambda move, rng, x: np.tile(x, (10, 1, 1)),
    "the sheet is torn to dust": lambda move, rng, x: move(rng, np.tile(x, (10, 1, 1)), crumple=8, width=1),
    "turns go all the way round": lambda move, rng, x: move(rng, np.tile(x, (10, 1, 1)), **DISTORT | {"turn": 180}),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_gain_of_distortions_fails_when(what, trained, plain, chapter):
    gain = trained(lambda rng, x, y: (BROKEN[what](chapter["move"], rng, x), np.tile(y, 10)))[0] - plain[0]
    kills("aug-distorted-gain", gain)


def test_the_gain_of_distortions_fails_at_ten_times_the_rate(trained, plain, chapter, monkeypatch):
    learn = chapter["learn"]
    monkeypatch.setitem(chapter, "learn", lambda *arguments: learn(*arguments, peak=0.1))
    gain = (
        trained(lambda rng, x, y: (chapter["move"](rng, np.tile(x, (10, 1, 1)), **DISTORT), np.tile(y, 10)))[0]
        - plain[0]
    )
    kills("aug-distorted-gain", gain)


def test_the_gain_of_five_copies_fails_when_their_labels_are_in_another_order(trained, plain, chapter):
    gain = trained(lambda rng, x, y: (chapter["five_copies"](x), np.repeat(y, 5)))[0] - plain[0]
    kills("aug-five-fold-gain", gain)


def test_answers_do_not_get_steadier_from_copies_without_a_shift(trained, plain, chapter, digits):
    views = chapter["five_copies"](digits[2])
    share = {}
    for name, net in (
        ("plain", plain[1]),
        ("copied", trained(lambda rng, x, y: (np.tile(x, (5, 1, 1)), np.tile(y, 5)))[1]),
    ):
        guesses = chapter["guesses_of"](net, views).reshape(5, -1)
        share[name] = 100 * np.mean(guesses[1:] != guesses[0])
    kills("aug-changed-less", share["plain"] - share["copied"])


def test_small_turns_cost_nothing_and_leave_6_and_9_apart(trained, plain, chapter, digits):
    spoil = lambda rng, x, y: (chapter["move"](rng, np.tile(x, (10, 1, 1)), turn=15), np.tile(y, 10))  # noqa: E731
    accuracy, net = trained(spoil)
    kills("aug-halfturn-loss", plain[0] - accuracy)
    x_test, y_test = digits[2:]
    mixed, before = (
        chapter["read_as"](y_test, chapter["guesses_of"](n, x_test))[[6, 9], [9, 6]].mean() for n in (net, plain[1])
    )
    kills("aug-halfturn-confused", mixed - before)


def test_validation_does_not_flatter_when_the_split_comes_first(chapter, digits):
    x_train, y_train, _, _ = digits
    rng = np.random.default_rng(0)
    order, net = rng.permutation(50_000), chapter["start"](rng)
    seen, unseen, others = order[:800], order[800:1000], order[-1000:]
    x, y = chapter["five_copies"](x_train[seen]), np.tile(y_train[seen], 5)
    chapter["learn"](net, rng, x, chapter["one_hot"][y], 400)
    score = {}
    for name, part in (("validation", unseen), ("new", others)):
        guesses = chapter["guesses_of"](net, chapter["five_copies"](x_train[part]))
        score[name] = 100 * np.mean(guesses == np.tile(y_train[part], 5))
    kills("aug-leak", score["validation"] - score["new"])


# Keras's layers by name. What the ramps say of a move that is known, and of the moves that Keras should have made.


def by_us(chapter, seed, **amounts):
    """Our own move as a layer: the two channels of a picture are moved alike."""

    def layer(x, training):
        channels = np.moveaxis(np.asarray(x), -1, 0)
        return np.stack([chapter["move"](np.random.default_rng(seed), c, **amounts) for c in channels], axis=-1)

    return layer


def test_ramps_say_where_a_layer_looks(chapter):
    rows, columns = chapter["displacements"](lambda x, training: np.roll(x, (-2, 3), axis=(1, 2)), 1)
    np.testing.assert_array_equal(rows, np.full((1, 12, 12), 2))
    np.testing.assert_array_equal(columns, np.full((1, 12, 12), -3))


def test_a_skew_about_the_middle_does_not_shift_it(chapter):
    _, across = chapter["displacements"](by_us(chapter, 0, skew=0.3), 100)
    assert np.abs(across).max() > 1  # it does skew
    kills("aug-shear-middle", np.abs(across[:, 5:7].mean(axis=(1, 2))).max())


def test_rows_and_columns_that_draw_their_own_numbers_are_not_alike(chapter):
    rows, columns = chapter["displacements"](by_us(chapter, 0, crumple=1.4), 100)
    kills("aug-elastic-alike", np.corrcoef(rows.ravel(), columns.ravel())[0, 1])
    kills("aug-elastic-deviation", rows.std())


def test_nothing_is_lost_to_a_layer_that_crumples_as_we_do(chapter, trained):
    accuracy = {
        seed: trained(
            lambda rng, x, y, seed=seed: (
                np.concatenate([x, chapter["move"](np.random.default_rng(seed), x, crumple=1.4)]),
                np.tile(y, 2),
            )
        )[0]
        for seed in (1, 2)
    }
    kills("aug-crumple-lost", accuracy[1] - accuracy[2])
