"""Public image sets from the files their authors publish; nothing is downloaded or executed.

CIFAR   Krizhevsky 2009: binary records, or Python pickles read by an unpickler that can build
        arrays and containers only
MNIST   LeCun et al. 1998: idx files, plain or gzipped
SVHN    Netzer et al. 2011: MATLAB files of cropped digits
digits  Alpaydin & Kaynak 1998: ships with scikit-learn
"""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sciml.errors import ConfigError, InvalidArgument


class Images(NamedTuple):
    """Pixels `(N, C, H, W)` uint8 and class numbers `(N,)` int64."""

    pixels: Tensor
    labels: Tensor


def digits(root: Path | None = None) -> tuple[Images, Images]:
    """Return 1347 training and 450 test images of handwritten digits, 8 x 8 pixels from 0 to 16.

    The split is stratified, with scikit-learn's `random_state=0`.

    Args:
        root: Not used; the images come with the package.

    Raises:
        ConfigError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as error:
        raise ConfigError(
            "data.source=digits without scikit-learn, which holds these images",
            hint="Type pip install -e '.[data]', or pip install scikit-learn",
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels, labels, test_size=0.25, stratify=labels, random_state=0)
    train, test, train_labels, test_labels = map(torch.from_numpy, parts)
    return (
        Images(train.reshape(-1, 1, 8, 8).byte(), train_labels.long()),
        Images(test.reshape(-1, 1, 8, 8).byte(), test_labels.long()),
    )


def cifar10(root: Path | None) -> tuple[Images, Images]:
    """Return training and test images of CIFAR-10, 50 000 and 10 000 of them.

    Args:
        root: Folder with `cifar-10-batches-bin` or `cifar-10-batches-py`, or one of these.

    Raises:
        InvalidArgument: If files are missing or damaged.
    """
    train = [f"data_batch_{k}" for k in range(1, 6)]
    return _cifar(root, "cifar-10-batches", train, "test_batch", b"labels", label_bytes=1)


def cifar100(root: Path | None) -> tuple[Images, Images]:
    """Return training and test images of CIFAR-100 with fine labels.

    Args:
        root: Folder with `cifar-100-binary` or `cifar-100-python`, or one of these.

    Raises:
        InvalidArgument: If files are missing or damaged.
    """
    return _cifar(root, "cifar-100", ["train"], "test", b"fine_labels", label_bytes=2)


def _cifar(
    root: Path | None, name: str, train: Sequence[str], test: str, key: bytes, label_bytes: int
) -> tuple[Images, Images]:
    binary, python = ("bin", "py") if label_bytes == 1 else ("binary", "python")
    names = [*train, test]
    records = [_first(root, [f"{n}.bin"], f"{name}-{binary}") for n in names]
    pickles = [_first(root, [n], f"{name}-{python}") for n in names]
    if None not in records:
        found = [_cifar_records(path, label_bytes) for path in records]
    elif None not in pickles:
        found = [_cifar_pickle(path, key) for path in pickles]
    else:
        archive = f"cifar-{name.split('-')[1]}-binary.tar.gz"
        site = "https://www.cs.toronto.edu/~kriz/cifar.html"
        raise _missing(root, [f"{name}-{binary}/{n}.bin" for n in names], archive, site)
    pixels, labels = zip(*found[:-1], strict=True)
    return Images(torch.cat(pixels), torch.cat(labels)), found[-1]


def _cifar_records(path: Path, label_bytes: int) -> Images:
    """Read records of label bytes (the fine label last) and 3 x 32 x 32 pixels."""
    raw, size = np.fromfile(path, np.uint8), label_bytes + 3072
    if not raw.size or raw.size % size:
        raise _damaged(path, f"{raw.size} bytes", f"a multiple of {size}")
    rows = torch.from_numpy(raw).reshape(-1, size)
    pixels = rows[:, label_bytes:].reshape(-1, 3, 32, 32).contiguous()
    return Images(pixels, rows[:, label_bytes - 1].long())


def _cifar_pickle(path: Path, key: bytes) -> Images:
    with path.open("rb") as file:
        try:
            content = _ArraysOnly(file, encoding="bytes").load()
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
            raise _damaged(path, str(error), "a pickle of arrays, lists and strings") from error
    fits = isinstance(content, dict) and isinstance(content.get(b"data"), np.ndarray)
    labels = content.get(key) if fits else None
    if labels is None or content[b"data"].shape != (len(labels), 3072):
        raise _damaged(path, "no array 'data' (N, 3072) with N labels", "the published batch file")
    pixels = torch.from_numpy(content[b"data"].astype(np.uint8)).reshape(-1, 3, 32, 32)
    return Images(pixels, torch.tensor(labels, dtype=torch.long))


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that knows how to rebuild numpy arrays and refuses every other name."""

    known = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),  # bytes in pickles of Python 3 with an old protocol
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few known names."""
        if (module, name) not in self.known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not read")
        # the old module still answers, with a warning
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def mnist(root: Path | None) -> tuple[Images, Images]:
    """Return training and test images of MNIST (or Fashion-MNIST), 60 000 and 10 000 of them.

    Args:
        root: Folder with the four idx files, gzipped or not; `raw` and `MNIST/raw` inside it are
            looked into.

    Raises:
        InvalidArgument: If files are missing or damaged.
    """
    names = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]
    names += ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    paths = [_first(root, [f"{n}{end}" for end in ("", ".gz")], "raw", "MNIST/raw") for n in names]
    if None in paths:
        site = "https://yann.lecun.com/exdb/mnist"
        raise _missing(root, [f"{n}.gz" for n in names], "the four files", site)
    arrays = [_idx(path) for path in paths]
    parts = []
    for path, pixels, labels in zip(paths[::2], arrays[::2], arrays[1::2], strict=True):
        if pixels.dim() != 3 or labels.shape != pixels.shape[:1]:
            shapes = f"images {tuple(pixels.shape)} and labels {tuple(labels.shape)}"
            raise _damaged(path, shapes, "(N, H, W) and (N,)")
        parts.append(Images(pixels[:, None], labels.long()))
    return parts[0], parts[1]


def _idx(path: Path) -> Tensor:
    """Read an idx file of bytes: 0, 0, type 8, number of axes, sizes as big-endian int32, data."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise _damaged(path, str(error), "a gzip file") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise _damaged(path, f"it begins with {raw[:4]!r}", "an idx file of unsigned bytes")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:start], ">i4").tolist() if len(raw) >= start else None
    if shape is None or len(raw) - start != np.prod(shape):
        raise _damaged(path, f"{len(raw)} bytes for sizes {shape}", "one byte per entry")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).copy()).reshape(shape)


def svhn(root: Path | None) -> tuple[Images, Images]:
    """Return training and test images of SVHN's cropped digits, 73 257 and 26 032 of them.

    Args:
        root: Folder with `train_32x32.mat` and `test_32x32.mat`.

    Raises:
        InvalidArgument: If files are missing or damaged.
    """
    names = ["train_32x32.mat", "test_32x32.mat"]
    paths = [_first(root, [n], "svhn") for n in names]
    if None in paths:
        raise _missing(root, names, "both files", "http://ufldl.stanford.edu/housenumbers")
    return tuple(_mat(path) for path in paths)


def _mat(path: Path) -> Images:
    from scipy.io import loadmat  # slow to import

    try:
        content = loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # scipy lets many kinds through
        raise _damaged(path, f"{type(error).__name__}: {error}", "a MATLAB 5 file") from error
    pixels, labels = content.get("X"), content.get("y")
    if pixels is None or labels is None or pixels.shape != (32, 32, 3, labels.size):
        raise _damaged(path, "no X (32, 32, 3, N) with N labels y", "the published file")
    pixels = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)))
    # the digit 0 is labelled 10
    return Images(pixels, torch.from_numpy(labels.ravel().astype(np.int64)) % 10)


def _first(root: Path | None, names: Sequence[str], *folders: str) -> Path | None:
    """Return the first of the files that exists in root or one of its folders."""
    places = [] if root is None else [root, *(root / f for f in folders)]
    return next((p / n for p in places for n in names if (p / n).is_file()), None)


def _missing(root: Path | None, names: Sequence[str], what: str, site: str) -> InvalidArgument:
    return InvalidArgument(
        "data.root is not set" if root is None else f"data.root={root} lacks files of the set",
        f"a folder with {', '.join(names)}",
        f"Get {what} from {site}, unpack into a folder, and type data.root=FOLDER",
    )


def _damaged(path: Path, found: str, expected: str) -> InvalidArgument:
    return InvalidArgument(f"the file {path}: {found}", expected, "Get the file again")
