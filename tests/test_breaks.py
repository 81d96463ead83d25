"""Breaks of one cell each: what the chapter's own tests leave standing, run on that cell alone, in seconds."""

import keras
import numpy as np
import pytest
from breaks import keeps, kills, reported
from chapters import definitions, measured_by_cell


def some_pictures(count, side=28):
    return np.random.default_rng(0).random((count, side, side)).astype("float32")


def for_convolutions(page):
    return {"nets": {"conv-two": page["conv_net"]([20, 40])}, "x_test": some_pictures(1)[..., np.newaxis]}


def for_initialisation(page):
    x = np.random.default_rng(0).normal(size=(200, 784)).astype("float32")
    pairs = {name: (page.get(name.lower(), np.tanh), page[f"{name.lower()}_slope"])
             for name in ("linear", "tanh", "logistic", "ReLU", "SELU")}  # fmt: skip
    data = {"x_train": x, "y_train": np.arange(200) % 10, "activations": pairs}
    claimed = {f"{name}{draw}": (getattr(keras.initializers, f"{name}{draw}"), None)
               for name in ("Lecun", "Glorot", "He") for draw in ("Normal", "Uniform")}  # fmt: skip
    return {**data, "initialisers": keras.initializers, "claimed": claimed, "seeds": [0, 1, 2]}


def for_regularisation(page):
    rng = np.random.default_rng(0)
    y = np.arange(3000) % 10
    x = 0.1 * rng.random((10, 196)).astype("float32")[y] + some_pictures(3000, 14).reshape(-1, 196)
    right = np.random.default_rng(6).random((60, 3, 4000)) < 0.9  # epochs, seeds, digits
    few = {"x_pool": x, "y_pool": y, "few": 1000, "x_new": x, "y_new": y, "tested": 3000, "steps": 200, "per_epoch": 20}
    return {**few, "seeds": [0, 1, 2], "curves": {"right": right}, "rng": rng,
            "one_net": lambda *_: page["random_net"](0, [196, 100, 10])}  # fmt: skip


GIVEN = {
    "convolutional_networks": for_convolutions,
    "data_augmentation": lambda page: {"x_train": np.zeros((50_000, 28, 28), "uint8")},
    "first_network": lambda page: {"some_logits": np.random.default_rng(0).normal(size=(1000, 10))},
    "batch_normalisation": lambda page: {"EPSILON": 1e-5},
    "initialisation": for_initialisation,
    "mini_batches": lambda page: {"x_train": some_pictures(256).reshape(-1, 784), "y_train": np.arange(256) % 10,
                                  "rounds": 6},
    "regularisation": for_regularisation,
}  # fmt: skip
CELLS = {  # what is broken: the chapter, what the cell that measures it records, the break, and the records it kills
    "the kernels do not share their weights": (
        "convolutional_networks", "conv-parameter-ratio",
        {"(20 * 5 * 5 + 20)": "(24 * 24 * 20 * 5 * 5 + 20)"}, ["conv-parameter-ratio"],
    ),
    "a kernel of the second layer sees one map": (
        "convolutional_networks", "conv-second-kernel-weights", {".shape[:3]": ".shape[:2]"},
        ["conv-second-kernel-weights"],
    ),
    "the kernel's index ends at 3": (
        "convolutional_networks", "conv-products-per-output", {"(ones, ones)": "(ones[:4, :4], ones[:4, :4])"},
        ["conv-products-per-output"],
    ),
    "the layer turns its kernel": (
        "convolutional_networks", "conv-keras-correlates",
        {"kernel[:, :, None, None]": "kernel[::-1, ::-1, None, None]"}, ["conv-keras-correlates"],
    ),
    "the softmax has no minus sign": (
        "first_network", "first-minus-picks-smallest", {"softmax(-some": "softmax(some"},
        ["first-minus-picks-smallest"],
    ),
    "the logarithm of surprise has base ten": (
        "first_network", "first-surprise-{name}", {"np.log(": "np.log10("}, ["first-surprise-two-fifths"],
    ),
    "tanh is not asked for half of its argument": (
        "activations", "act-identity-disagreements", {"np.tanh(wide / 2)": "np.tanh(wide)"},
        ["act-identity-disagreements"],
    ),
    "the four corners are copies too": (
        "data_augmentation", "aug-expanded-images", {"len(five_copies(": "9 / 5 * len(five_copies("},
        ["aug-expanded-images"],
    ),
    "descending the gradient is descending the loss": (
        "optimisers", "opt-saddle-gradient", {"g2 = g2 * (3 * w2**2 - 1)": "pass"}, ["opt-saddle-gradient"],
    ),
    "the power schedule has the power of two": (
        "learning_rates", "lr-power-fractions", {"1.0, s) - 1 /": "1.0, s) ** 2 - 1 /"}, ["lr-power-fractions"],
    ),
    "the exponential schedule has the base e": (
        "learning_rates", "lr-exponential-tenths", {"10.0 ** np.arange(4)": "np.e ** np.arange(4)"},
        ["lr-exponential-tenths"],
    ),
    "Keras obeys the old decay": (
        "learning_rates", "lr-old-decay",
        {"SGD(learning_rate=0.1, decay=1e-3)": "SGD(schedules.InverseTimeDecay(0.1, 1, 1e-3))",
         "old.lr = 0.5": "pass", "assert abs(": "assert abs(0) * abs("}, ["lr-old-decay"],
    ),
    "nobody keeps running statistics": (
        "batch_normalisation", "bn-numbers-a-unit",
        {"with_norm.count_params()": "trainable(with_norm)"}, ["bn-numbers-a-unit"],
    ),
    "ReLU starts with Glorot's variance": (
        "initialisation", "pairings-kept", {'"ReLU": "he"': '"ReLU": "glorot"'}, ["init-pairings-kept"],
    ),
    "the uniform limit forgets the three": (
        "initialisation", "init-uniform-limit-error", {"math.sqrt(3 / 400)": "math.sqrt(1 / 400)"},
        ["init-uniform-limit-error"],
    ),
    "the matrix form is a loop": (
        "mini_batches", "mb-loop-ratio-{size}", {"gradient: [], ": "lambda *batch: gradient_by_loop(*batch): [], ",
                                                 "seconds[gradient])": "[*seconds.values()][0])"}, ["mb-loop-ratio-10"],
    ),
    "the sum of weights knows their signs": (
        "regularisation", "reg-l1-signed", {"signed - 0.001 * 0.5": "signed - 0.001 * 0.5 * np.sign(signed)"},
        ["reg-l1-signed"],
    ),
    "the length of the weights is squared": (
        "regularisation", "reg-l2-unsquared", {"step * direction) for": "step * direction) ** 2 for"},
        ["reg-l2-unsquared"],
    ),
    "nothing is halved": (
        "regularisation", "reg-halved-lost", {"*= np.float32(0.5)": "*= np.float32(1)"}, ["reg-halved-lost"],
    ),
    "Adam's penalty is not divided": (
        "regularisation", "reg-decay-{name}", {'"adam", keras.optimizers.Adam': '"adam", keras.optimizers.SGD'},
        ["reg-decay-adam"],
    ),
    "there is one epoch to choose from": (
        "regularisation", "reg-peek-{size}",
        {"[10:, place]": "[-1:, place]"}, ["reg-peek-400"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("judge", [keeps, kills])
@pytest.mark.parametrize("what", CELLS)
def test_the_bound_stands_and_falls_when(what, judge):
    chapter, id, replace, ids = CELLS[what]
    page = definitions(chapter)
    page.update(GIVEN.get(chapter, lambda page: {})(page))
    found = measured_by_cell(chapter, id, page, replace if judge is kills else {})
    for id in ids:
        rival = next((bound["value"] for bound in reported()[id]["bounds"] if bound["kind"] == "greater_than"), None)
        judge(id, found[id], None if rival is None else found[rival])
