"""What happens inside a model, layer by layer. The difference between backends is hidden here and only here."""

import numpy as np


def layer_activations(model, x):
    """Compute every layer's output for one batch, in inference mode.

    Parameters
    ----------
    model : keras.Model
        A built Sequential or functional model.
    x : ndarray, shape (examples, ...)

    Returns
    -------
    dict of str to ndarray
        The layers' names, from input to output, and their outputs, each of shape (examples, ...).
    """
    import keras

    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    probe = keras.Model(model.inputs, {layer.name: layer.output for layer in layers})
    outputs = probe(keras.ops.convert_to_tensor(x), training=False)
    return {layer.name: keras.ops.convert_to_numpy(outputs[layer.name]) for layer in layers}


def layer_gradients(model, loss, x, y, training=False):
    """Compute the gradient of the mean loss over one batch for every trainable variable.

    In TensorFlow this is ``with tf.GradientTape() as tape: value = loss(y, model(x))`` and then
    ``tape.gradient(value, model.trainable_variables)``; in JAX it is ``jax.grad`` of a stateless call.

    Parameters
    ----------
    model : keras.Model
        A built model.
    loss : callable
        ``loss(y, prediction)``, a scalar: for example a ``keras.losses.Loss``.
    x : ndarray, shape (examples, ...)
    y : ndarray, shape (examples, ...)
    training : bool
        Whether layers such as dropout and batch normalisation behave as in training.

    Returns
    -------
    dict of str to ndarray
        For each variable, by its path (``"dense/kernel"``), the gradient in the variable's shape.

    Raises
    ------
    NotImplementedError
        For a backend other than TensorFlow and JAX.
    """
    import keras

    backend = keras.backend.backend()
    if backend not in _GRADIENTS:
        raise NotImplementedError(
            f"layer_gradients knows TensorFlow and JAX, not {backend}: set KERAS_BACKEND to tensorflow or jax."
        )
    gradients = _GRADIENTS[backend](model, loss, x, y, training)
    # Keras counts models up (sequential_1, ...): without that name the keys are the same for every seed.
    paths = [variable.path.removeprefix(f"{model.name}/") for variable in model.trainable_variables]
    return {path: np.asarray(gradient) for path, gradient in zip(paths, gradients, strict=True)}


def _tensorflow_gradients(model, loss, x, y, training):
    import tensorflow as tf

    # Copies, and a stateless call, so that measuring moves neither moving averages nor random states.
    trainable = [tf.identity(variable.value) for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(trainable)
        prediction, _ = model.stateless_call(trainable, model.non_trainable_variables, x, training=training)
        value = loss(y, prediction)
    gradients = tape.gradient(value, trainable, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(gradient) for gradient in gradients]  # an embedding's come sparse


def _jax_gradients(model, loss, x, y, training):
    import jax

    def mean_loss(trainable, non_trainable):
        prediction, _ = model.stateless_call(trainable, non_trainable, x, training=training)
        return loss(y, prediction)

    return jax.grad(mean_loss)(
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )


_GRADIENTS = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients}
