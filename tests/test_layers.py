"""What happens inside a model, against hand-computed NumPy, finite differences, and the other backend."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from calipers import layer_activations, layer_gradients

CODE = Path(__file__).resolve().parents[1] / "code"
X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")
LOSS = keras.losses.MeanSquaredError()


def dense_net():
    """Three inputs, four tanh units, two linear outputs."""
    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(4, activation="tanh", bias_initializer="random_normal", name="hidden")
    output = keras.layers.Dense(2, bias_initializer="random_normal", name="output")
    return keras.Sequential([keras.Input((3,)), hidden, output])


def normalised_net(dropout=0.0):
    """Layers that behave otherwise in training than at rest."""
    keras.utils.set_random_seed(1)
    norm = keras.layers.BatchNormalization(name="norm")
    output = keras.layers.Dense(2, name="output")
    return keras.Sequential([keras.Input((3,)), norm, keras.layers.Dropout(dropout, name="dropout"), output])


def one_layer_net():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="only")])


def test_activations_of_a_dense_net():
    model = dense_net()
    w1, b1, w2, b2 = model.get_weights()
    hidden = np.tanh(X @ w1 + b1)
    activations = layer_activations(model, X)
    assert list(activations) == ["hidden", "output"]
    np.testing.assert_allclose(activations["hidden"], hidden, atol=1e-6)
    np.testing.assert_allclose(activations["output"], hidden @ w2 + b2, atol=1e-6)


def test_activations_are_those_of_inference():
    activations = layer_activations(normalised_net(dropout=0.9), X)
    np.testing.assert_allclose(activations["norm"], X / np.sqrt(1 + 1e-3), atol=1e-6)
    np.testing.assert_array_equal(activations["dropout"], activations["norm"])


def test_gradients_of_a_dense_net():
    model = dense_net()
    w1, b1, w2, b2 = model.get_weights()
    gradients = layer_gradients(model, LOSS, X, Y)

    hidden = np.tanh(X @ w1 + b1)
    error = 2 * (hidden @ w2 + b2 - Y) / Y.size
    back = (error @ w2.T) * (1 - hidden**2)
    expected = [X.T @ back, back.sum(0), hidden.T @ error, error.sum(0)]
    for gradient, array in zip(gradients.values(), expected, strict=True):
        np.testing.assert_allclose(gradient, array, atol=1e-6)


@pytest.mark.parametrize(("variable", "place"), [(0, (2, 3)), (1, (0,)), (2, (1, 1)), (3, (0,))])
def test_gradients_are_the_slopes_that_finite_differences_find(variable, place):
    model, step = dense_net(), 1e-2
    gradient = list(layer_gradients(model, LOSS, X, Y).values())[variable]
    losses = []
    for sign in (1, -1):
        weights = dense_net().get_weights()
        weights[variable][place] += sign * step
        model.set_weights(weights)
        losses.append(float(LOSS(Y, model(X))))
    assert gradient[place] == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-3)


@pytest.mark.parametrize(
    ("training", "mean", "variance"), [(False, 0, 1), (True, X.mean(0), X.var(0))], ids=["at rest", "in training"]
)
def test_training_flag_reaches_batch_normalisation(training, mean, variance):
    """In training the batch's own mean and variance normalise, at rest the moving ones, here still 0 and 1."""
    model = normalised_net()
    gradients = layer_gradients(model, LOSS, X, Y, training=training)
    weights = model.get_layer("output").get_weights()[0]
    normal = (X - mean) / np.sqrt(variance + 1e-3)
    error = 2 * (normal @ weights - Y) / Y.size
    np.testing.assert_allclose(gradients["norm/gamma"], ((error @ weights.T) * normal).sum(0), atol=1e-5)
    np.testing.assert_allclose(gradients["output/kernel"], normal.T @ error, atol=1e-5)


def test_measuring_leaves_the_model_as_it_was():
    """Neither the moving averages of batch normalisation nor dropout's random state move on."""
    model = normalised_net(dropout=0.5)
    before = [variable.numpy().copy() for variable in model.variables]
    first = layer_gradients(model, LOSS, X, Y, training=True)
    again = layer_gradients(model, LOSS, X, Y, training=True)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    for path, gradient in first.items():
        np.testing.assert_array_equal(again[path], gradient, err_msg=path)


@pytest.mark.parametrize("examples", [1, 6])
def test_one_layer_is_enough(examples):
    model = one_layer_net()
    expected = X[:examples] @ model.get_weights()[0]
    activations = layer_activations(model, X[:examples])
    assert list(activations) == ["only"]
    np.testing.assert_allclose(activations["only"], expected, atol=1e-6)
    gradients = layer_gradients(model, LOSS, X[:examples], Y[:examples])
    np.testing.assert_allclose(gradients["only/bias"], (expected - Y[:examples]).mean(0), atol=1e-6)


def test_gradients_of_an_embedding_and_of_a_layer_without_influence():
    """Zero for the rows that no example uses, and for a layer behind a stopped gradient."""
    words = keras.Input((2,), dtype="int32")
    rows = keras.layers.Flatten()(keras.layers.Embedding(4, 1, name="words")(words))
    stopped = keras.layers.Lambda(keras.ops.stop_gradient)(keras.layers.Dense(2, name="stopped")(rows))
    model = keras.Model(words, rows + stopped)
    gradients = layer_gradients(model, lambda y, prediction: keras.ops.sum(prediction), np.array([[0, 2]]), 0)
    np.testing.assert_array_equal(gradients["words/embeddings"], [[1], [0], [1], [0]])
    np.testing.assert_array_equal(gradients["stopped/kernel"], np.zeros((2, 2)))


@pytest.mark.parametrize("net", [dense_net, one_layer_net], ids=lambda net: net.__name__)
def test_gradients_are_keyed_by_layer_and_variable(net):
    """Not by the model's name, which Keras counts up from one seed's model to the next."""
    names = [layer.name for layer in net().layers]
    for _ in range(2):
        keys = list(layer_gradients(net(), LOSS, X, Y))
        assert keys == [f"{name}/{variable}" for name in names for variable in ("kernel", "bias")]


def test_unknown_backend_is_named(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(NotImplementedError, match="knows TensorFlow and JAX, not torch: set KERAS_BACKEND to"):
        layer_gradients(dense_net(), LOSS, X, Y)


MEASURE = """
import sys
import keras, numpy as np
from calipers import layer_activations, layer_gradients

assert keras.backend.backend() == "jax"
folder = sys.argv[1]
model = keras.saving.load_model(f"{folder}/model.keras")
x, y = np.load(f"{folder}/x.npy"), np.load(f"{folder}/y.npy")
loss = keras.losses.MeanSquaredError()
np.savez(f"{folder}/activations.npz", **layer_activations(model, x))
for training in (False, True):
    gradients = layer_gradients(model, loss, x, y, training=training)
    np.savez(f"{folder}/gradients-{training}.npz", **{path.replace("/", " "): g for path, g in gradients.items()})
"""


@pytest.mark.parametrize("net", [dense_net, normalised_net, one_layer_net], ids=lambda net: net.__name__)
def test_jax_measures_the_same(net, tmp_path):
    python = Path(f"{sys.prefix}-jax", "bin", "python")
    if not python.exists():
        pytest.skip("make the JAX environment with make test")
    model = net()
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    run = subprocess.run(
        [python, "-c", MEASURE, tmp_path],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(CODE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr

    here = {"activations": layer_activations(model, X)}
    for training in (False, True):
        gradients = layer_gradients(model, LOSS, X, Y, training=training)
        here[f"gradients-{training}"] = {path.replace("/", " "): gradient for path, gradient in gradients.items()}
    for name, expected in here.items():
        with np.load(tmp_path / f"{name}.npz") as there:
            assert list(there) == list(expected)
            for key, array in expected.items():
                np.testing.assert_allclose(there[key], array, atol=1e-5, err_msg=f"{name}, {key}")
