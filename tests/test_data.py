"""Tests of the data: files that are at fault are named, the split is the fixed one, batches equal torchvision's own."""

import hashlib
import os
import pickle
import shutil
from collections import Counter
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from helpers import data

FILES = {"cifar10": "cifar-10-batches-py/data_batch_3", "mnist": "MNIST/raw/train-labels-idx1-ubyte"}
CONTENT = b"sixteen bytes ok"


# ------------------------------------------------------------------------------------------ files


def refuse(*arguments, **options):
    raise URLError("no network here")


@pytest.fixture
def offline(monkeypatch):
    for dataset in ("CIFAR10", "MNIST"):
        monkeypatch.setattr(torchvision.datasets, dataset, refuse)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A data folder in which each file of both data sets holds CONTENT, and is published to."""
    for name, files in data.CHECKSUMS.items():
        md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
        monkeypatch.setitem(data.CHECKSUMS, name, dict.fromkeys(files, md5))
        for relative in files:
            (tmp_path / relative).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / relative).write_bytes(CONTENT)
    return tmp_path


DAMAGE = {
    "missing": lambda path: path.unlink(),
    "cut short": lambda path: path.write_bytes(CONTENT[:-1]),
    "one bit turned": lambda path: path.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:]),
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("name", FILES)
def test_whole_files_have_no_fault_and_are_not_fetched(folder, monkeypatch, name):
    asked = []
    for dataset in ("CIFAR10", "MNIST"):
        monkeypatch.setattr(torchvision.datasets, dataset, lambda *given, **options: asked.append(given))
    assert data.fault(name, folder) is None
    assert data.fetch(name, folder) == folder
    assert not asked


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_faulty_file_that_cannot_be_fetched_is_named_in_one_line(folder, offline, name, damage):
    DAMAGE[damage](folder / FILES[name])
    with pytest.raises(data.DataError) as error:
        data.fetch(name, folder)
    message = str(error.value)
    assert str(folder / FILES[name]) in message
    assert "no network here" in message
    assert "python -m helpers data" in message
    assert "\n" not in message


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_failed_download_leaves_the_good_files_alone(folder, offline, name, damage):
    DAMAGE[damage](folder / FILES[name])
    with pytest.raises(data.DataError):
        data.fetch(name, folder)
    others = [folder / relative for relative in data.CHECKSUMS[name] if relative != FILES[name]]
    assert [path.read_bytes() for path in others] == [CONTENT] * len(others)


def test_a_damaged_file_makes_room_for_the_download_and_is_kept(folder, monkeypatch):
    path = folder / FILES["mnist"]
    path.write_bytes(b"damaged")

    def mend(root, download):
        # As torchvision does: whatever exists is taken for good.
        if not path.exists():
            path.write_bytes(CONTENT)

    monkeypatch.setattr(torchvision.datasets, "MNIST", mend)
    assert data.fetch("mnist", folder) == folder
    assert path.read_bytes() == CONTENT
    assert path.with_name(path.name + ".damaged").read_bytes() == b"damaged"


def test_a_damaged_file_that_cannot_be_fetched_anew_is_called_damaged(folder, offline):
    path = folder / FILES["mnist"]
    path.write_bytes(b"damaged")
    with pytest.raises(data.DataError) as error:
        data.fetch("mnist", folder)
    assert str(error.value).startswith(f"{path} is damaged (its MD5 sum is not ")
    assert f"kept as {path.name}.damaged, and the download failed (" in str(error.value)
    assert path.with_name(path.name + ".damaged").read_bytes() == b"damaged"


def not_allowed(*arguments, **options):
    raise PermissionError(13, "Permission denied")


def told(name: str, folder: Path) -> str:
    with pytest.raises(data.DataError) as error:
        data.fetch(name, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("damage", ["cut short", "one bit turned", "empty"])
def test_a_damaged_file_in_a_read_only_folder_is_called_damaged_as_well(folder, monkeypatch, damage):
    path = folder / FILES["mnist"]
    DAMAGE[damage](path)
    monkeypatch.setattr(Path, "rename", not_allowed)  # root may write anywhere
    message = told("mnist", folder)
    assert message.startswith(f"{path} is damaged (its MD5 sum is not ")
    assert "can't be renamed to make room for the download (Permission denied)" in message
    assert f"make {path.parent} writable and run `python -m helpers data`" in message


def test_a_damaged_file_whose_place_aside_is_taken_by_a_folder_is_called_damaged(folder):
    path = folder / FILES["mnist"]
    path.write_bytes(b"damaged")
    path.with_name(path.name + ".damaged").mkdir()
    message = told("mnist", folder)
    assert message.startswith(f"{path} is damaged (") and "(Is a directory)" in message


@pytest.mark.parametrize("damage, fault", [("cut short", "is damaged ("), ("missing", "is missing, and")])
def test_a_download_into_a_read_only_folder_names_the_fault_as_well(folder, monkeypatch, damage, fault):
    path = folder / FILES["cifar10"]
    DAMAGE[damage](path)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", not_allowed)
    message = told("cifar10", folder)
    assert message.startswith(f"{path} {fault}") and "(PermissionError" not in message
    assert "the download failed ([Errno 13] Permission denied)" in message


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_told_with_the_reason(folder, offline, monkeypatch, name):
    monkeypatch.setattr(Path, "read_bytes", not_allowed)
    assert " can't be read (Permission denied)" in told(name, folder)


@pytest.mark.parametrize("ask", [data.fetch, data.load, data.load_test])
def test_an_unknown_data_set_is_told_with_the_known_ones(ask):
    with pytest.raises(data.DataError, match="^data set 'imagenet' is unknown: there are cifar10, mnist$"):
        ask("imagenet")


@pytest.mark.parametrize("name, dataset", [("cifar10", "CIFAR10"), ("mnist", "MNIST")])
def test_missing_files_are_downloaded_without_a_word(folder, monkeypatch, capsys, name, dataset):
    path = folder / FILES[name]
    path.unlink()

    def download(root, download):
        assert root == folder and download
        print("Downloading…")
        path.write_bytes(CONTENT)

    monkeypatch.setattr(torchvision.datasets, dataset, download)
    assert data.fetch(name, folder) == folder
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error, reason", [
    (RuntimeError("Error downloading it:\nTried this:\nconnection refused\n"), "(connection refused)"),
    (IncompleteRead(b""), "(IncompleteRead(0 bytes read))"),
    (TimeoutError(), "(TimeoutError)"),
])  # fmt: skip
def test_whatever_ends_a_download_is_told_in_one_line(folder, monkeypatch, error, reason):
    (folder / FILES["cifar10"]).unlink()

    def fail(root, download):
        raise error

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    assert reason in told("cifar10", folder)


def test_a_download_that_brings_another_file_is_no_success(folder, monkeypatch):
    path = folder / FILES["cifar10"]
    path.unlink()
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", lambda root, download: path.write_bytes(b"another"))
    with pytest.raises(data.DataError, match="differs from the published one"):
        data.fetch("cifar10", folder)


def test_cifar10_is_checked_against_the_checksums_that_torchvision_publishes():
    cifar10 = torchvision.datasets.CIFAR10
    published = {**dict(cifar10.train_list), **dict(cifar10.test_list), cifar10.meta["filename"]: cifar10.meta["md5"]}
    assert data.CHECKSUMS["cifar10"] == {f"{cifar10.base_folder}/{name}": md5 for name, md5 in published.items()}


@pytest.mark.parametrize("name", FILES)
def test_a_real_file_cut_short_by_a_byte_is_a_fault(name, tmp_path, request):
    request.getfixturevalue(name)  # skips where the data set is not there
    first = next(iter(data.CHECKSUMS[name]))
    (tmp_path / first).parent.mkdir(parents=True)
    (tmp_path / first).write_bytes((data.data_dir() / first).read_bytes()[:-1])
    assert data.fault(name, tmp_path).startswith(f"{tmp_path / first} is damaged")


def test_data_dir_is_the_environments(monkeypatch, folder, offline):
    monkeypatch.setenv("DATA_DIR", str(folder))
    assert data.data_dir() == folder
    assert data.fetch("mnist") == folder


@pytest.mark.parametrize("value", [None, ""])
def test_data_dir_is_the_repositorys_unless_the_environment_names_one(monkeypatch, value):
    monkeypatch.delenv("DATA_DIR", raising=False)
    if value is not None:
        monkeypatch.setenv("DATA_DIR", value)
    assert data.data_dir() == Path(data.__file__).resolve().parents[1] / "data"


def test_data_dir_may_begin_at_home(monkeypatch):
    monkeypatch.setenv("DATA_DIR", "~/data sets")
    assert data.data_dir() == Path.home() / "data sets"


# ------------------------------------------------------------------------------------------ splits


def test_cifar10_is_40_000_to_train_on_10_000_to_validate_on_and_10_000_to_test_on(cifar10):
    assert cifar10.train.images.shape == (40_000, 3, 32, 32)
    assert cifar10.validation.images.shape == (10_000, 3, 32, 32)
    assert cifar10.test.images.shape == (10_000, 3, 32, 32)
    assert cifar10.validation.labels.bincount().tolist() == [1_000] * 10
    assert cifar10.train.labels.bincount().tolist() == [4_000] * 10


def test_mnist_is_50_000_10_000_and_10_000_each_class_in_proportion(mnist):
    assert mnist.train.images.shape == (50_000, 1, 28, 28)
    assert mnist.validation.images.shape == (10_000, 1, 28, 28)
    assert mnist.test.images.shape == (10_000, 1, 28, 28)
    held_out, kept = mnist.validation.labels.bincount(), mnist.train.labels.bincount()
    assert (held_out - (held_out + kept) / 6).abs().max() < 1


def test_the_test_split_comes_alone_as_well(cifar10, mnist):
    for name, whole in (("cifar10", cifar10), ("mnist", mnist)):
        alone = data.load_test(name)
        assert torch.equal(alone.images, whole.test.images) and torch.equal(alone.labels, whole.test.labels)


@pytest.mark.parametrize("ask, name", [(data.load_test, "cifar10"), (data.load_test, "mnist"), (data.load, "mnist")])
def test_the_bytes_that_were_checked_are_those_that_are_read(tmp_path, monkeypatch, request, ask, name):
    whole = request.getfixturevalue(name)
    for relative in data.CHECKSUMS[name]:
        (tmp_path / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data.data_dir() / relative, tmp_path / relative)
    read = Path.read_bytes

    def then_another(path: Path) -> bytes:
        content = read(path)
        path.write_bytes(b"another file by now")
        return content

    monkeypatch.setattr(Path, "read_bytes", then_another)
    given = ask(name, tmp_path)
    given = given if ask is data.load_test else given.test
    assert torch.equal(given.images, whole.test.images) and torch.equal(given.labels, whole.test.labels)


class Call:
    """What, unpickled, is a call."""

    def __init__(self, *what):
        self.what = what

    def __reduce__(self):
        return self.what[0], self.what[1:]


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [
    Call(os.mkdir, "ran"),
    Call(getattr, "text", "upper"),
    Call(np.memmap, "ran", "u1", "w+", 0, 1),  # of NumPy, but no part of an array
])  # fmt: skip
def test_a_batch_that_would_run_code_is_refused(folder, monkeypatch, call, protocol):
    content = pickle.dumps(call, protocol)
    relative = "cifar-10-batches-py/test_batch"
    monkeypatch.setitem(data.CHECKSUMS["cifar10"], relative, hashlib.md5(content, usedforsecurity=False).hexdigest())
    (folder / relative).write_bytes(content)
    monkeypatch.chdir(folder)
    with pytest.raises(data.DataError, match=r"^a batch of CIFAR-10 asks for \w+\.\w+: only arrays are read$"):
        data.load_test("cifar10", folder)
    assert not (folder / "ran").exists()


def test_the_split_is_the_fixed_one(cifar10):
    def sha(split):  # of the labels in their order and the first 500 images
        return hashlib.sha256(split.labels.numpy().tobytes() + split.images[:500].numpy().tobytes()).hexdigest()[:16]

    assert (sha(cifar10.train), sha(cifar10.validation), sha(cifar10.test)) == (
        "15b4d6b9c01f0d4a", "85be2f6f985f3403", "ef34a7897a333fbb",
    )  # fmt: skip


def test_the_indices_of_a_balanced_data_set_are_pinned():
    kept, held_out = data.split_indices(np.arange(50_000) % 10)
    assert kept[:5].tolist() == [10057, 1104, 47511, 18695, 46296]
    assert held_out[:5].tolist() == [3634, 13034, 23184, 40073, 7703]
    assert (
        hashlib.sha256(np.concatenate([kept, held_out]).astype("<i8").tobytes()).hexdigest()[:16] == "62e8a68ed6b20168"
    )


@given(st.lists(st.integers(0, 4), min_size=20, max_size=200), st.integers(1, 15))
def test_the_split_is_disjoint_complete_and_balanced(labels, validation):
    labels = np.array(labels)
    kept, held_out = data.split_indices(labels, validation)
    assert len(held_out) == validation
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    for label, count in Counter(labels.tolist()).items():
        assert abs((labels[held_out] == label).sum() - count * validation / len(labels)) < 1


def test_what_does_not_divide_evenly_goes_to_the_largest_remainders():
    # 4 of 10: 2.8 of one class, 1.2 of the other. 5 of 10: 3, 1.5 and 0.5, where the first of equals takes it.
    for sizes, validation, expected in (((7, 3), 4, [3, 1]), ((6, 3, 1), 5, [3, 2, 0])):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        _, held_out = data.split_indices(labels, validation)
        assert np.bincount(labels[held_out], minlength=len(sizes)).tolist() == expected


def test_the_first_few_hundred_images_hold_every_class(cifar10):
    assert cifar10.train.first(256).labels.bincount(minlength=10).min() > 10


def test_no_image_is_in_two_splits(cifar10):
    splits = (cifar10.train, cifar10.validation, cifar10.test)
    assert sum(len(split) for split in splits) == 60_000
    assert len({image.tobytes() for split in splits for image in split.images.numpy()}) == 60_000


def test_images_are_held_as_uint8_and_labels_as_int64(cifar10):
    for split in (cifar10.train, cifar10.validation, cifar10.test):
        assert (split.images.dtype, split.labels.dtype) == (torch.uint8, torch.int64)


def test_images_keep_their_labels(cifar10):
    # The official test set is left in its order: its first images are a cat and a ship.
    assert [cifar10.classes[label] for label in cifar10.test.labels[:2]] == ["cat", "ship"]
    raw = torchvision.datasets.CIFAR10(data.data_dir())
    kept, held_out = data.split_indices(np.array(raw.targets))
    for split, indices in ((cifar10.train, kept), (cifar10.validation, held_out)):
        assert np.array_equal(split.labels.numpy(), np.array(raw.targets)[indices])
        assert np.array_equal(split.images[::97].permute(0, 2, 3, 1).numpy(), raw.data[indices[::97]])
    raw = torchvision.datasets.CIFAR10(data.data_dir(), train=False)
    assert cifar10.test.labels.tolist() == raw.targets
    assert np.array_equal(cifar10.test.images.permute(0, 2, 3, 1).numpy(), raw.data)


def test_mnist_is_read_as_torchvision_reads_it(mnist):
    raw = torchvision.datasets.MNIST(data.data_dir())
    kept, held_out = (torch.from_numpy(indices) for indices in data.split_indices(raw.targets.numpy()))
    for split, indices in ((mnist.train, kept), (mnist.validation, held_out)):
        assert torch.equal(split.images[:, 0], raw.data[indices]) and torch.equal(split.labels, raw.targets[indices])
    raw = torchvision.datasets.MNIST(data.data_dir(), train=False)
    assert torch.equal(mnist.test.images[:, 0], raw.data) and torch.equal(mnist.test.labels, raw.targets)


def test_mean_and_std_are_the_training_splits(cifar10):
    images = cifar10.train.images.numpy()
    assert cifar10.mean.tolist() == pytest.approx(images.mean((0, 2, 3), dtype=np.float64) / 255, abs=1e-7)
    # Those of all 50,000 images, as widely published: 0.2470, 0.2435, 0.2616.
    assert cifar10.std.tolist() == pytest.approx([0.2470, 0.2435, 0.2616], abs=2e-4)


def test_statistics_are_numpys_in_float64(cifar10):
    images = cifar10.validation.images[:2_000]
    values = images.numpy().astype(np.float64) / 255
    mean, std = data.statistics(images)
    assert mean.tolist() == pytest.approx(values.mean((0, 2, 3)), abs=1e-7)
    assert std.tolist() == pytest.approx(values.std((0, 2, 3)), abs=1e-7)


def test_statistics_by_hand():
    # Channel 0: 0, 0, 255, 255: mean 1/2, deviation 1/2. Channel 1: all 51 = 1/5.
    images = torch.tensor([[[[0, 0], [255, 255]], [[51, 51], [51, 51]]]], dtype=torch.uint8)
    mean, std = data.statistics(images)
    assert mean.tolist() == pytest.approx([0.5, 0.2])
    assert std.tolist() == pytest.approx([0.5, 0.0])


def test_first_cuts_a_split_and_none_leaves_it(tiny):
    assert len(tiny.train.first(7)) == 7
    assert torch.equal(tiny.train.first(7).images, tiny.train.images[:7])
    assert tiny.train.first(None) is tiny.train


# ------------------------------------------------------------------------------------------ transforms


def images_of(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def test_crop_is_torchvisions_random_crop_at_every_offset(monkeypatch):
    offsets = [(down, right) for down in range(9) for right in range(9)]
    images, order = images_of(len(offsets)), torch.randperm(len(offsets))
    cropped = data.crop(data.windows(images, 4), order, *torch.tensor(offsets).T)
    reference = transforms.RandomCrop(32, padding=4)
    for number, ours, offset in zip(order, cropped, offsets, strict=True):
        monkeypatch.setattr(reference, "get_params", lambda image, size, offset=offset: (*offset, *size))
        assert torch.equal(transforms.functional.pil_to_tensor(reference(pil(images[number]))), ours)


@pytest.mark.parametrize("which", [torch.zeros(40, dtype=torch.bool), torch.arange(40) % 3 == 0])
def test_a_crop_elsewhere_than_on_a_cpu_is_the_same(which):
    windows, images, down, right = data.windows(images_of(60), 4), torch.randint(60, (40,)), *torch.randint(9, (2, 40))
    assert torch.equal(data.crop(windows, images, down, right, which), data.flip(windows[images, down, right], which))


def test_crop_by_hand():
    # 1 2   padded by one zero and cut from the top right corner: 0 0
    # 3 4                                                         2 0
    windows = data.windows(torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8), pad=1)
    cut = data.crop(windows, torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
    assert cut.tolist() == [[[[0, 0], [2, 0]]]]


def test_flip_is_torchvisions_horizontal_flip():
    images = images_of(6)
    which = torch.tensor([True, False, False, True, True, False])
    for image, ours, flipped in zip(images, data.flip(images, which), which, strict=True):
        reference = transforms.RandomHorizontalFlip(p=float(flipped))(pil(image))
        assert torch.equal(transforms.functional.pil_to_tensor(reference), ours)


def test_affine_is_torchvisions(tiny):
    images = images_of(40)
    degrees, scale = torch.linspace(-10, 10, 40), 1 + torch.linspace(-0.1, 0.1, 40).roll(7)
    for image, ours, angle, size in zip(images, data.affine(images, degrees, scale), degrees, scale, strict=True):
        reference = transforms.functional.affine(image, angle.item(), [0, 0], size.item(), [0.0],
                                                 transforms.InterpolationMode.BILINEAR)  # fmt: skip
        assert ours.dtype == torch.uint8
        # At a half the two may round apart.
        assert (ours.int() - reference.int()).abs().max() <= 1 and (ours == reference).float().mean() > 0.999


def test_affine_by_hand():
    # A quarter turn clockwise: the left column becomes the top row.
    image = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    turned = data.affine(image, torch.tensor([90.0]), torch.tensor([1.0]))
    assert turned.tolist() == [[[[3, 1], [4, 2]]]]


def test_random_affine_maps_stay_within_their_limits(tiny, monkeypatch):
    drawn = []
    monkeypatch.setattr(data, "affine", lambda images, degrees, scale: drawn.append((degrees, scale)) or images)
    data.Batches(data.Split(images_of(500), torch.arange(500)), 500, 0, ("affine",), tiny.mean, tiny.std)(0)
    degrees, scale = drawn[0]
    assert 9 < degrees.abs().max() <= 10 and degrees.min() < 0 < degrees.max()
    assert 0.9 <= scale.min() < 0.92 and 1.08 < scale.max() <= 1.1


def test_cutout_by_hand():
    images = torch.ones(2, 1, 6, 6)
    cut = data.cutout(images, torch.tensor([3, 0]), torch.tensor([2, 5]), side=4)
    expected = torch.ones(2, 1, 6, 6)
    expected[0, :, 1:5, 0:4] = 0  # two pixels before the middle, the middle, and one after
    expected[1, :, 0:2, 3:6] = 0  # what lies beyond the edge is not there to be cut
    assert torch.equal(cut, expected) and images.all()


def test_what_is_cut_out_is_the_mean_image(tiny):
    split = data.Split(images_of(64), torch.arange(64))
    plain, cut = (data.Batches(split, 64, 0, each, tiny.mean, tiny.std)(0)[0] for each in ((), ("cutout",)))
    holes = (cut != plain).any(1)
    assert (cut[(cut != plain)] == 0).all()
    assert holes.sum((1, 2)).max() == data.CUTOUT**2 and holes.sum((1, 2)).min() >= (data.CUTOUT // 2) ** 2
    assert not torch.equal(holes[0], holes[1])


def test_trivial_augment_is_torchvisions_image_by_image():
    images, state = images_of(8), torch.get_rng_state()
    ours = data.trivial(images, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    reference = v2.TrivialAugmentWide()
    assert torch.equal(ours, torch.stack([reference(image) for image in images]))
    assert not torch.equal(ours, data.trivial(images, seed=4)) and ours.dtype == torch.uint8


def test_normalize_is_to_tensor_then_normalize(tiny):
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(tiny.mean, tiny.std)])
    images = images_of(5)
    expected = torch.stack([reference(pil(image)) for image in images])
    ours = data.normalize(images, tiny.mean, tiny.std)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    assert torch.equal(tiny.prepare(images), ours)
    assert images.dtype == torch.uint8  # what is normalised is left as it was


@pytest.mark.parametrize("augment", [(), ("crop",), ("flip",), ("shift",), ("crop", "flip")])
def test_a_batch_is_torchvisions_given_the_same_random_choices(tiny, monkeypatch, augment):
    count, step = 16, 7
    chosen = {"down": [4] * count, "right": [4] * count, "flip": [False] * count}  # offset 4 of 4 is the centre

    pad = 2 if "shift" in augment else 4

    def spy_crop(windows, images, down, right, which, crop=data.crop):
        chosen.update(down=down.tolist(), right=right.tolist(), **({} if which is None else {"flip": which.tolist()}))
        assert max(chosen["down"] + chosen["right"]) == 2 * pad
        return crop(windows, images, down, right, which)

    def spy_flip(images, which, flip=data.flip):
        chosen.update(flip=which.tolist())
        return flip(images, which)

    monkeypatch.setattr(data, "crop", spy_crop)
    monkeypatch.setattr(data, "flip", spy_flip)
    split = data.Split(images_of(70), torch.arange(70))
    batch, labels = data.Batches(split, count, 3, augment, tiny.mean, tiny.std)(step)
    reference = transforms.RandomCrop(32, padding=pad)
    for ours, label, down, right, flip in zip(batch, labels, *chosen.values(), strict=True):
        monkeypatch.setattr(reference, "get_params", lambda image, size, at=(down, right): (*at, *size))
        whole = transforms.Compose([
            reference, transforms.RandomHorizontalFlip(p=float(flip)),
            transforms.ToTensor(), transforms.Normalize(tiny.mean, tiny.std),
        ])  # fmt: skip
        torch.testing.assert_close(ours, whole(pil(split.images[label])), rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------ batches


def numbered(count: int, size: int, seed: int = 0, augment=(), shape=(1, 1, 1)) -> data.Batches:
    """Batches of images whose every pixel is the image's own number, which is the label too."""
    labels = torch.arange(count)
    return data.Batches(data.Split(labels.to(torch.uint8).reshape(-1, 1, 1, 1).expand(-1, *shape), labels),
                        size, seed, augment)  # fmt: skip


def labels_of(batches: data.Batches, epoch: int) -> list[int]:
    steps = range(epoch * len(batches), (epoch + 1) * len(batches))
    return [label for step in steps for label in batches(step)[1].tolist()]


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 200), size=st.integers(1, 70), seed=st.integers(0, 2**40), epoch=st.integers(0, 99))
def test_every_epoch_takes_each_image_once(count, size, seed, epoch):
    batches = numbered(count, size, seed)
    assert sorted(labels_of(batches, epoch)) == list(range(count))


def test_the_last_batch_holds_what_is_left():
    # 70 = 4·16 + 6
    batches = numbered(70, 16)
    assert len(batches) == 5
    assert [len(batches(step)[1]) for step in range(10)] == [16, 16, 16, 16, 6] * 2
    assert len(batches(4)[0]) == 6


def test_an_epoch_that_divides_evenly_has_no_empty_batch():
    batches = numbered(64, 16)
    assert len(batches) == 4
    assert len(batches(3)[1]) == 16


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [labels_of(numbered(70, 16, seed), epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


@settings(max_examples=20, deadline=None)
@given(step=st.integers(0, 40), before=st.lists(st.integers(0, 40), max_size=4))
def test_a_batch_is_a_function_of_seed_and_step_alone(step, before):
    fresh, used = (numbered(70, 16, 5, ("crop", "flip"), (3, 32, 32)) for _ in range(2))
    torch.manual_seed(step)
    for other in before:
        used(other)
        torch.rand(3)
    for ours, theirs in zip(used(step), fresh(step), strict=True):
        assert torch.equal(ours, theirs)


def test_a_batch_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    numbered(70, 16, 5, ("crop", "flip"), (3, 32, 32))(3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("augment", ["crop", "flip", "affine", "trivial", "cutout"])
def test_each_batch_of_an_epoch_draws_for_itself(augment):
    """Of one image over and over, so that batches differ only in what they draw."""
    image = torch.randint(256, (1, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = data.Split(image.expand(32, -1, -1, -1), torch.zeros(32, dtype=torch.int64))
    batches = data.Batches(split, 16, 0, [augment])
    assert not torch.equal(batches(0)[0], batches(1)[0]) and not torch.equal(batches(0)[0], batches(2)[0])


@pytest.mark.parametrize("augment", [(), ("crop", "flip")])
def test_labels_follow_their_images(augment):
    images, labels = numbered(70, 16, augment=augment, shape=(1, 32, 32))(2)
    # The crop keeps the centre, the flip every value.
    assert (images[:, 0, 16, 16] * 255).round().long().tolist() == labels.tolist()


def test_augmentation_changes_images_and_not_their_order():
    split = data.Split(images_of(70), torch.arange(70))
    plain, augmented = data.Batches(split, 16, 3), data.Batches(split, 16, 3, ("crop", "flip"))
    assert torch.equal(plain(1)[1], augmented(1)[1])
    assert not torch.equal(plain(1)[0], augmented(1)[0])
    images, labels = plain(1)
    torch.testing.assert_close(images, split.images[labels] / 255)


def test_augmentation_draws_every_offset_and_flips_one_half(monkeypatch):
    drawn = {"down": [], "right": [], "flip": []}

    def spy_crop(windows, images, down, right, which):
        for name, chosen in (("down", down), ("right", right), ("flip", which)):
            drawn[name] += chosen.tolist()
        return windows[images, 0, 0]

    monkeypatch.setattr(data, "crop", spy_crop)
    batches = numbered(200, 200, augment=("crop", "flip"))
    for step in range(45):
        batches(step)
    # 9,000 draws: each offset 1,000 times, give or take 4 deviations of 30; heads 4,500 ± 4·47.
    for name in ("down", "right"):
        counts = Counter(drawn[name])
        assert sorted(counts) == list(range(9))
        assert all(880 < count < 1120 for count in counts.values())
    assert 4310 < sum(drawn["flip"]) < 4690
    assert abs(np.corrcoef(drawn["down"], drawn["right"])[0, 1]) < 0.05
    assert abs(np.corrcoef(drawn["down"], drawn["flip"])[0, 1]) < 0.05


def test_batches_are_normalised_by_the_statistics_they_are_given(tiny):
    images, _ = data.Batches(tiny.train, 70, 0)(0)
    assert 0.5 < images.max() <= 1 and 0 <= images.min() < 0.5
    images, _ = data.Batches(tiny.train, 70, 0, (), tiny.mean, tiny.std)(0)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_the_test_set_may_serve_as_validation_set_and_then_nothing_is_held_out():
    usual, whole = data.load("mnist"), data.load("mnist", validation="test")
    assert (len(whole.train), len(usual.train)) == (60_000, 50_000)
    assert torch.equal(whole.validation.images, whole.test.images) and torch.equal(whole.test.labels, usual.test.labels)
    kept = usual.train.labels.bincount() + usual.validation.labels.bincount()
    assert torch.equal(whole.train.labels.bincount(), kept)
    assert not torch.equal(whole.mean, usual.mean)  # of the images that are trained on


def test_images_are_scaled_as_a_run_says(tiny):
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    assert tiny.prepare(images, "symmetric")[0, 0].tolist()[0] == pytest.approx([-1, -0.6, 1])
    assert tiny.prepare(images, False)[0, 2].tolist()[0] == pytest.approx([0, 0.2, 1])
    assert torch.equal(tiny.prepare(images, True), data.normalize(images, tiny.mean, tiny.std))
