"""Image sets: every published file format, written tiny and read back; order and augmentation."""

import gzip
import os
import pickle
import struct
import sys

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import torch

from sciml.data.image import image_files
from sciml.data.image.images import ImageData, channel_statistics, cropped, held_out, moved
from sciml.errors import ConfigError, InvalidArgument

RANDOM = np.random.default_rng(0)


def pixels(n, *shape):
    return RANDOM.integers(0, 256, (n, *shape), dtype=np.uint8)


def labels(n, classes=10):
    return (np.arange(n) % classes).astype(np.uint8)


def write_cifar10(root, kind):
    """Write 10 images per file, as records or as pickles of Python 2, and return all of them."""
    folder = root / f"cifar-10-batches-{kind}"
    folder.mkdir()
    names, kept = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"], []
    for name in names:
        image, label = pixels(10, 3, 32, 32), labels(10)
        kept.append((image, label))
        if kind == "bin":
            rows = np.concatenate([label[:, None], image.reshape(10, -1)], 1)
            rows.tofile(folder / f"{name}.bin")
        else:
            content = {b"data": image.reshape(10, -1), b"labels": label.tolist()}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return kept


@pytest.mark.parametrize("kind", ["bin", "py"])
def test_cifar10(tmp_path, kind):
    kept = write_cifar10(tmp_path, kind)
    train, test = image_files.cifar10(tmp_path)
    assert np.array_equal(train.pixels, np.concatenate([image for image, _ in kept[:-1]]))
    assert train.labels.tolist() == [k for _, label in kept[:-1] for k in label]
    assert np.array_equal(test.pixels, kept[-1][0])
    again = image_files.cifar10(tmp_path / f"cifar-10-batches-{kind}")
    assert torch.equal(again[0].pixels, train.pixels)


@pytest.mark.parametrize("kind", ["binary", "python"])
def test_cifar100_has_fine_labels(tmp_path, kind):
    folder = tmp_path / f"cifar-100-{kind}"
    folder.mkdir()
    image, fine, coarse = pixels(200, 3, 32, 32), labels(200, 100), labels(200, 20)
    for name in ("train", "test"):
        if kind == "binary":
            rows = np.concatenate([coarse[:, None], fine[:, None], image.reshape(200, -1)], 1)
            rows.tofile(folder / f"{name}.bin")
        else:
            content = {b"data": image.reshape(200, -1), b"fine_labels": fine.tolist()}
            content[b"coarse_labels"] = coarse.tolist()
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    for part in image_files.cifar100(tmp_path):
        assert np.array_equal(part.pixels, image) and np.array_equal(part.labels, fine)


def test_pickles_of_python_2_are_read(tmp_path):
    """The published files: numpy.core, byte strings for text, written by the old interpreter."""
    kept = write_cifar10(tmp_path, "py")
    for path in (tmp_path / "cifar-10-batches-py").iterdir():
        old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        path.write_bytes(old)
    assert np.array_equal(image_files.cifar10(tmp_path)[1].pixels, kept[-1][0])


class Evil:
    """What a hostile file holds."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_cannot_run_code(tmp_path):
    write_cifar10(tmp_path, "py")
    mark = tmp_path / "mark"
    bad = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    bad.write_bytes(pickle.dumps({b"data": Evil(mark), b"labels": [0]}, protocol=2))
    with pytest.raises(InvalidArgument, match="which is not read"):
        image_files.cifar10(tmp_path)
    assert not mark.exists()


def write_idx(path, array, opened):
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    with opened(path, "wb") as file:
        file.write(head + array.tobytes())


@pytest.mark.parametrize("folder, end", [("", ""), ("raw", ".gz"), ("MNIST/raw", "")])
def test_mnist(tmp_path, folder, end):
    opened, place = gzip.open if end else open, tmp_path / folder
    place.mkdir(parents=True, exist_ok=True)
    image, label = pixels(20, 28, 28), labels(20)
    for part in ("train", "t10k"):
        write_idx(place / f"{part}-images-idx3-ubyte{end}", image, opened)
        write_idx(place / f"{part}-labels-idx1-ubyte{end}", label, opened)
    for part in image_files.mnist(tmp_path):
        assert np.array_equal(part.pixels[:, 0], image) and np.array_equal(part.labels, label)


def test_svhn_counts_ten_as_zero(tmp_path):
    image = pixels(12, 32, 32, 3)
    label = np.array([10, *range(1, 10), 10, 1], dtype=np.uint8)[:, None]
    for name in ("train", "test"):
        content = {"X": image.transpose(1, 2, 3, 0), "y": label}
        scipy.io.savemat(tmp_path / f"{name}_32x32.mat", content)
    for part in image_files.svhn(tmp_path):
        assert part.labels.tolist() == [0, *range(1, 10), 0, 1]
        assert np.array_equal(part.pixels, image.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "mnist", "svhn"])
def test_missing_files_are_named(tmp_path, source):
    with pytest.raises(InvalidArgument, match="data.root is not set.*Get .* from http"):
        ImageData(source=source)
    with pytest.raises(InvalidArgument, match="data.root=.* lacks files of the set"):
        ImageData(source=source, root=str(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage"])
def test_damaged_files_are_named(tmp_path, damage):
    write_cifar10(tmp_path, "bin")
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes({"cut": path.read_bytes()[:-7], "empty": b"", "garbage": b"x"}[damage])
    with pytest.raises(InvalidArgument, match="data_batch_3.bin: .*Get the file again"):
        image_files.cifar10(tmp_path)
    raw = {"cut": b"\0\0\x08\x03\0\0", "empty": b"", "garbage": b"<html>"}[damage]
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(raw)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(raw)
    with pytest.raises(InvalidArgument, match="train-images-idx3-ubyte: "):
        image_files.mnist(tmp_path)
    (tmp_path / "train_32x32.mat").write_bytes(raw)
    (tmp_path / "test_32x32.mat").write_bytes(raw)
    with pytest.raises(InvalidArgument, match="train_32x32.mat: "):
        image_files.svhn(tmp_path)


def test_no_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match=r"\.\[data\]"):
        ImageData(source="digits")


# --- the data module -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits():
    return ImageData(batch_size=40, seed=3)


def test_the_split_of_the_digits(digits):
    parts = digits.parts
    assert len(parts["train"].labels) + len(parts["val"].labels) == 1347
    assert len(parts["test"].labels) == 450
    images = [{p.numpy().tobytes() for p in parts[k].pixels} for k in ("train", "val", "test")]
    assert not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]
    for name, share in (("val", 134.7), ("test", 450)):
        counts = parts[name].labels.bincount().float()
        assert (counts - share / 10).abs().max() < 3
    # the test set is scikit-learn's, whatever is held out for validation
    assert torch.equal(ImageData(val_share=0.3, seed=9).parts["test"].pixels, parts["test"].pixels)
    assert torch.equal(ImageData(seed=9).parts["val"].pixels, parts["val"].pixels)


def test_statistics_are_those_of_the_training_images(digits):
    image = digits.parts["train"].pixels.double() / 16
    assert abs(digits.sizes["mean"][0] - image.mean()) < 1e-12
    assert abs(digits.sizes["std"][0] - image.std(correction=0)) < 1e-12
    colours = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    mean, _ = channel_statistics(colours, 255)
    assert np.allclose(mean, colours.double().mean((0, 2, 3)) / 255, rtol=1e-6, atol=1e-8)


def test_an_epoch_shows_every_image_once_on_any_number_of_ranks(digits):
    n = len(digits.parts["train"].labels)
    for world in (1, 3):
        steps = range(-(-n // (40 * world)))
        seen = torch.cat([digits.places(s, r, world) for s in steps for r in range(world)])
        assert torch.equal(seen[:n].sort()[0], torch.arange(n))
        # the rest begins the second epoch, in another order
        again = torch.cat([digits.places(s + len(steps), 0, 1) for s in range(3)])
        assert not torch.equal(again[:40], seen[:40])


def test_batches_are_functions_of_seed_rank_and_step():
    make = {"batch_size": 16, "crop": 1, "flip": 0.5, "shift": 0.5, "rotate": 9.0, "zoom": 0.1}
    first, second = ImageData(**make, seed=1), ImageData(**make, seed=1)
    second.batch(90)
    a, b = first.batch(5), second.batch(5)
    assert torch.equal(a.inputs["image"], b.inputs["image"]) and torch.equal(a.target, b.target)
    others = [first.batch(6), first.batch(5, 1, 2), ImageData(**make, seed=2).batch(5)]
    for other in others:
        assert not torch.equal(other.inputs["image"], a.inputs["image"])
    assert first.batch(5, 1, 2).count == 32


def test_evaluation_covers_each_image_once_unchanged(digits):
    rough = ImageData(crop=2, flip=1.0)
    for data in (digits, rough):
        chunks = [data.test_chunk(i) for i in range(data.test_chunks)]
        image = torch.cat([c.inputs["image"] for c in chunks])
        assert torch.equal(image * 16, data.parts["test"].pixels.float())
        assert sum(len(data.val_chunk(i).target) for i in range(data.val_chunks)) == 136


def test_held_out_takes_the_same_share_of_every_class():
    label = torch.tensor([0] * 50 + [1] * 20 + [2] * 3)
    held = held_out(label, 0.1)
    assert label[held].bincount().tolist() == [5, 2, 1]


def test_crops_are_slices_of_the_padded_image():
    image = torch.rand(7, 2, 5, 6)
    corner = torch.stack([torch.randint(0, 5, (7,)), torch.randint(0, 5, (7,))])
    wide = torch.nn.functional.pad(image, (2, 2, 2, 2))
    out = cropped(image, 2, corner)
    for k, (i, j) in enumerate(corner.T.tolist()):
        assert torch.equal(out[k], wide[k, :, i : i + 5, j : j + 6])


def test_whole_shifts_quarter_turns_and_zooms():
    image = torch.zeros(3, 1, 9, 9)
    image[:, 0, 2, 3] = 1.0
    none, one = torch.zeros(3), torch.ones(3)
    shifts = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 1.0]])
    places = moved(image, shifts, none, one).flatten(1).argmax(1)
    assert places.tolist() == [2 * 9 + 5, 5 * 9 + 3, 3 * 9 + 2]
    image = torch.rand(1, 1, 9, 9)
    turned = moved(image, torch.zeros(1, 2), torch.tensor([torch.pi / 2]), torch.ones(1))
    assert torch.allclose(
        turned[0, 0], torch.rot90(image[0, 0], -1), atol=1e-5, rtol=1e-5
    )  # clockwise
    # a zoom about the centre is scipy's, where both look inside the image
    got = moved(image, torch.zeros(1, 2), torch.zeros(1), torch.full((1,), 2.0))[0, 0]
    wanted = scipy.ndimage.affine_transform(image[0, 0].numpy(), [0.5, 0.5], 2.0, order=1)
    assert np.allclose(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"val_share": 0.0}, {"flip": 2.0}, {"crop": -1}, {"zoom": -0.1}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InvalidArgument, match=f"data.{next(iter(wrong))}="):
        ImageData(**wrong)


def test_unknown_sets_are_refused():
    with pytest.raises(InvalidArgument, match="Did you mean 'digits'"):
        ImageData(source="digit")
