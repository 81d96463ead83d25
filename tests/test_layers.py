"""What happens layer by layer, against hand-computed NumPy, finite differences, and JAX."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calipers import layer_activations, layer_gradients

keras = pytest.importorskip("keras")

CODE = Path(__file__).resolve().parents[1] / "code"
TESTS = Path(__file__).resolve().parent
rng = np.random.default_rng(0)
X = rng.normal(size=(6, 3)).astype("float32")
Y = rng.normal(size=(6, 2)).astype("float32")


def dense_net():
    """3 inputs, 4 tanh units, 2 linear outputs."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="tanh", bias_initializer="normal", name="hidden"),
            keras.layers.Dense(2, bias_initializer="normal", name="output"),
        ]
    )


def normalised_net(rate=0.0):
    """Batch normalisation, whose two modes differ, and dropout at the given rate."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dropout(rate),
            keras.layers.Dense(2, name="output"),
        ]
    )


def by_end(gradients):
    """Key the gradients by layer and variable, without the model's name in front."""
    return {"/".join(path.split("/")[-2:]): gradient for path, gradient in gradients.items()}


def mean_squared_error(y, prediction):
    return np.mean((np.asarray(prediction) - y) ** 2)


def check_dense_activations():
    model = dense_net()
    w1, b1, w2, b2 = model.get_weights()
    activations = layer_activations(model, X)
    assert list(activations) == ["hidden", "output"]
    hidden = np.tanh(X @ w1 + b1)
    np.testing.assert_allclose(activations["hidden"], hidden, atol=1e-6)
    np.testing.assert_allclose(activations["output"], hidden @ w2 + b2, atol=1e-6)


def check_dense_gradients():
    model = dense_net()
    w1, b1, w2, b2 = model.get_weights()
    gradients = layer_gradients(model, keras.losses.MeanSquaredError(), X, Y)
    assert list(gradients) == [variable.path for variable in model.trainable_variables]

    hidden = np.tanh(X @ w1 + b1)
    error = 2 * (hidden @ w2 + b2 - Y) / Y.size
    back = (error @ w2.T) * (1 - hidden**2)
    expected = [X.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
    for gradient, array in zip(gradients.values(), expected, strict=True):
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, array, atol=1e-6)


def check_training_flag():
    """In training the batch's own mean and variance normalise; its scale then has another gradient."""
    loss = keras.losses.MeanSquaredError()
    at_rest = by_end(layer_gradients(normalised_net(), loss, X, Y))
    training = by_end(layer_gradients(normalised_net(), loss, X, Y, training=True))

    weights = normalised_net().get_layer("output").get_weights()[0]
    for gradients, mean, variance in ((at_rest, 0, 1), (training, X.mean(0), X.var(0))):
        normal = (X - mean) / np.sqrt(variance + 1e-3)
        error = 2 * (normal @ weights - Y) / Y.size
        np.testing.assert_allclose(gradients["norm/gamma"], ((error @ weights.T) * normal).sum(0), atol=1e-5)
        np.testing.assert_allclose(gradients["output/kernel"], normal.T @ error, atol=1e-5)


def check_measuring_leaves_the_model_as_it_was():
    """Neither the moving averages of batch normalisation nor dropout's random state move on."""
    model = normalised_net(rate=0.5)
    before = [np.asarray(variable.value) for variable in model.variables]
    first = layer_gradients(model, keras.losses.MeanSquaredError(), X, Y, training=True)
    again = layer_gradients(model, keras.losses.MeanSquaredError(), X, Y, training=True)
    layer_activations(model, X)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(variable.value), value, err_msg=variable.path)
    for path, gradient in first.items():
        np.testing.assert_array_equal(again[path], gradient, err_msg=path)


def check_one_layer():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="only")])
    kernel, _ = model.get_weights()
    activations = layer_activations(model, X)
    assert list(activations) == ["only"]
    np.testing.assert_allclose(activations["only"], X @ kernel, atol=1e-6)
    gradients = by_end(layer_gradients(model, keras.losses.MeanSquaredError(), X, Y))
    np.testing.assert_allclose(gradients["only/bias"], 2 * (X @ kernel - Y).sum(0) / Y.size, atol=1e-6)


def check_unused_and_sparse_gradients():
    """A row of an embedding that no example uses, and a variable that the loss does not depend on, have gradient 0."""
    words = keras.Input((2,), dtype="int32")
    embedded = keras.layers.Embedding(4, 1, name="words")(words)
    stopped = keras.layers.Lambda(keras.ops.stop_gradient)(keras.layers.Dense(1, name="stopped")(embedded))
    model = keras.Model(words, keras.layers.Add()([keras.layers.Flatten()(embedded), keras.layers.Flatten()(stopped)]))
    gradients = by_end(layer_gradients(model, lambda y, prediction: keras.ops.sum(prediction), np.array([[0, 2]]), None))
    np.testing.assert_array_equal(gradients["words/embeddings"], [[1], [0], [1], [0]])
    np.testing.assert_array_equal(gradients["stopped/kernel"], [[0]])


CHECKS = [
    check_dense_activations,
    check_dense_gradients,
    check_training_flag,
    check_measuring_leaves_the_model_as_it_was,
    check_one_layer,
    check_unused_and_sparse_gradients,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_in_this_environment(check):
    check()


def test_on_jax():
    """The same checks in the environment that has JAX and no TensorFlow."""
    python = Path(f"{sys.prefix}-jax") / "bin/python"
    if not python.exists():
        pytest.skip("make the JAX environment with `make test`")
    run = subprocess.run(
        [python, "-c", "import test_layers"],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": f"{CODE}{os.pathsep}{TESTS}"},
        capture_output=True, text=True, check=False,
    )
    assert run.returncode == 0, run.stderr
