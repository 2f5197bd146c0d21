"""CIFAR-10 and MNIST: fetched, checked, split and handed out in batches, all of it in memory as uint8. A batch is a
function of seed, epoch and position alone, so nothing here has a state that a checkpoint would need."""

import contextlib
import functools
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException  # a connection cut off
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from helpers import ROOT

VALIDATION = 10_000
CROPS = {"crop": 4, "shift": 2}  # pixels on each side that a random crop may take; digits bear only the smaller
CUTOUT = 8  # pixels of the side of the square that "cutout" blanks
TURN, SCALE = 10.0, 0.1  # degrees and share by which a random affine map turns and scales a digit at most

# Published MD5 sums: of CIFAR-10's files in torchvision.datasets.CIFAR10, of MNIST's as unpacked.
CHECKSUMS = {
    "cifar10": {
        "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
        "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
        "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
        "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "mnist": {
        "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
}
PARTS = {"cifar10": (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"), "mnist": ("train", "t10k")}
CLASSES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "mnist": tuple("0123456789"),
}


class DataError(RuntimeError):
    """A data set is missing or damaged; the message says which file and what to do."""


def data_dir() -> Path:
    """The folder of the data sets: the environment's DATA_DIR, else `data/` in the repository."""
    return Path(os.environ.get("DATA_DIR") or ROOT / "data").expanduser()


# ------------------------------------------------------------------------------------------ files


def fault(name: str, root: Path) -> str | None:
    """What is wrong with the files of data set `name` under `root`: the first fault in words, or None."""
    with ThreadPoolExecutor() as threads:  # hashing leaves Python's lock to others
        found = threads.map(functools.partial(_file_fault, name, root), CHECKSUMS[name])
        return next(filter(None, found), None)


def _file_fault(name: str, root: Path, relative: str) -> str | None:
    try:
        _content(name, root, relative)
    except DataError as error:
        return str(error)
    return None


def _content(name: str, root: Path, relative: str) -> bytes:
    """The bytes of a file of data set `name`, checked. Raises DataError with what is wrong with them."""
    path, checksum = root / relative, CHECKSUMS[name][relative]
    try:
        if not path.is_file():
            raise DataError(f"{path} is missing")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror})") from None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != checksum:
        raise DataError(f"{path} is damaged (its MD5 sum is not {checksum})")
    return content


def _place(name: str, root: Path | None) -> Path:
    if name not in CHECKSUMS:
        raise DataError(f"data set {name!r} is unknown: there are {', '.join(CHECKSUMS)}")
    return root or data_dir()


def fetch(name: str, root: Path | None = None) -> Path:
    """Makes sure that data set `name` ("cifar10" or "mnist") is whole under `root`, by download if need be.

    Raises DataError naming the file at fault if it is not, and the download does not mend it; or the known data sets.
    """
    root = _place(name, root)
    if fault(name, root):
        aside = _set_aside(root) if name == "mnist" else {}
        reason = _download(name, root)
        if found := fault(name, root):
            # What was set aside would else be called missing.
            found = next((known for path, known in aside.items() if not path.is_file()), found)
            raise DataError(
                f"{found}, and the download failed ({reason}): connect to the network and run `python -m helpers data`,"
                f" or put the original file there"
            )
    return root


def _set_aside(root: Path) -> dict[Path, str]:
    """Renames MNIST's damaged files: torchvision takes any that exists for a good one. Gives path → its fault."""
    aside = {}
    for relative in CHECKSUMS["mnist"]:
        path, found = root / relative, _file_fault("mnist", root, relative)
        if found and path.is_file():
            try:
                kept = path.rename(path.with_name(path.name + ".damaged"))
            except OSError as error:
                raise DataError(
                    f"{found}, and can't be renamed to make room for the download ({error.strerror}): put the original"
                    f" file there, or make {path.parent} writable and run `python -m helpers data`"
                ) from None
            aside[path] = f"{found}, kept as {kept.name}"
    return aside


def _download(name: str, root: Path) -> str:
    """Runs torchvision's download; gives back why it failed, in one line."""
    from torchvision import datasets

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            (datasets.CIFAR10 if name == "cifar10" else datasets.MNIST)(root, download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return "the downloaded file differs from the published one"


# ------------------------------------------------------------------------------------------ splits


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8 and labels (N,) int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> "Split":
        return self if count is None else Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Dataset:
    """Train, validation and test split; `mean` and `std` are of the training split's pixels, (C,) float32 in [0, 1]."""

    train: Split
    validation: Split
    test: Split
    mean: torch.Tensor
    std: torch.Tensor
    classes: tuple[str, ...]

    def scaling(self, how: bool | str = True) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Mean and deviation that Run.normalize means: the training split's, a half and a half to [−1, 1], or none."""
        if how == "symmetric":
            return torch.full_like(self.mean, 0.5), torch.full_like(self.std, 0.5)
        return (self.mean, self.std) if how else (None, None)

    def prepare(self, images: torch.Tensor, how: bool | str = True) -> torch.Tensor:
        """uint8 → float32 as a model takes them, see `scaling`."""
        return normalize(images, *self.scaling(how)) if how else images.float() / 255


def split_indices(labels: np.ndarray, validation: int = VALIDATION) -> tuple[np.ndarray, np.ndarray]:
    """The fixed split: indices to train on and to validate on, each class held in proportion.

    For CIFAR-10's 50,000 labels: 40,000 and 10,000, of which 1,000 a class. NumPy's RandomState promises the same
    numbers in every version.
    """
    random = np.random.RandomState(0)
    groups = [random.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    exact = np.array([len(group) * validation / len(labels) for group in groups])
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: validation - counts.sum()]] += 1  # largest remainders first
    held_out = np.concatenate([group[:count] for group, count in zip(groups, counts)])
    kept = np.concatenate([group[count:] for group, count in zip(groups, counts)])
    # Shuffled once, so that the first few hundred images hold every class.
    return random.permutation(kept), random.permutation(held_out)


@functools.lru_cache(maxsize=4)
def load(name: str, root: Path | None = None, validation: str = "held_out") -> Dataset:
    """Data set `name` in memory, checked against its published checksums. Raises DataError, see `fetch`.

    `validation`: "held_out" takes 10,000 of the training images out, "test" none, and its validation split is the test
    set: nothing may be chosen by it.
    """
    *parts, test = _read(name, root, slice(None))
    images, labels = (torch.cat(each) for each in zip(*((part.images, part.labels) for part in parts)))
    if validation == "test":
        return Dataset(Split(images, labels), test, test, *statistics(images), CLASSES[name])
    train, held_out = (Split(images[chosen], labels[chosen])
                       for chosen in map(torch.from_numpy, split_indices(labels.numpy())))  # fmt: skip
    return Dataset(train, held_out, test, *statistics(train.images), CLASSES[name])


def load_for(run) -> Dataset:
    """The data set that `run` trains on, split as it says."""
    return load(run.data, validation=run.validation)


def load_test(name: str, root: Path | None = None) -> Split:
    """The test split of data set `name` alone, in a fraction of the time. Raises DataError, see `fetch`."""
    return _read(name, root, slice(-1, None))[0]


# Both formats are read here, not by torchvision: to import it takes longer than to read, and it reads each file twice.


def _read(name: str, root: Path | None, wanted: slice) -> list[Split]:
    """The wanted ones of data set `name`'s PARTS, from the bytes that were checked: no file is opened a second time."""
    root, parse = _place(name, root), _parse_cifar10 if name == "cifar10" else _parse_mnist
    read = functools.partial(parse, functools.partial(_content, name, root))
    with ThreadPoolExecutor() as threads:  # hashing leaves Python's lock to others
        try:
            return list(threads.map(read, PARTS[name][wanted]))
        except DataError:
            fetch(name, root)
            return list(threads.map(read, PARTS[name][wanted]))


def _parse_cifar10(content: Callable[[str], bytes], part: str) -> Split:
    batch = _ArraysOnly(io.BytesIO(content(f"cifar-10-batches-py/{part}")), encoding="bytes").load()
    return Split(torch.from_numpy(batch[b"data"]).view(-1, 3, 32, 32), torch.tensor(batch[b"labels"]))


class _ArraysOnly(pickle.Unpickler):
    """Refuses a pickle that names anything but what NumPy's arrays are made of: it could run code."""

    def find_class(self, module: str, name: str):
        if f"{module}.{name}" not in ("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype"):
            raise DataError(f"a batch of CIFAR-10 asks for {module}.{name}: only arrays are read")
        return super().find_class(module, name)


def _parse_mnist(content: Callable[[str], bytes], part: str) -> Split:
    images, labels = (
        torch.from_numpy(np.frombuffer(content(f"MNIST/raw/{part}-{kind}-ubyte"), np.uint8, offset=offset).copy())
        for kind, offset in (("images-idx3", 16), ("labels-idx1", 8))  # a file's head, which is known
    )
    return Split(images.view(-1, 1, 28, 28), labels.long())


def statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel of (N, C, H, W) uint8 images, scaled to [0, 1]."""
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)]).double()
    values, total = torch.arange(256).double() / 255, counts.sum(1, keepdim=True)
    mean = (counts * values).sum(1, keepdim=True) / total
    square = (counts * (values - mean) ** 2).sum(1, keepdim=True) / total
    return mean[:, 0].float(), square[:, 0].sqrt().float()


# ------------------------------------------------------------------------------------------ batches


def windows(images: torch.Tensor, pad: int) -> torch.Tensor:
    """All that a random crop can cut from (N, C, H, W) padded by `pad` zeros: a view (N, down, right, C, H, W)."""
    height, width = images.shape[2:]
    padded = F.pad(images, (pad,) * 4)
    return padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)


def crop(windows: torch.Tensor, images, down, right, which: torch.Tensor | None = None) -> torch.Tensor:
    """From `windows`, for each i, that of image images[i] at row down[i], column right[i]: RandomCrop(H, pad).

    `which`: the ones that are then mirrored, as by `flip`.
    """
    if windows.device.type != "cpu":
        cut = windows[images, down, right]
        return cut if which is None else flip(cut, which)
    # On a CPU in half the time: whole rows are copied, not single numbers, and mirrored at once.
    made = torch.empty((len(images), *windows.shape[3:]), dtype=windows.dtype)
    plain, mirrored = windows.numpy(), windows.numpy()[..., ::-1]
    flipped = [False] * len(images) if which is None else which.tolist()
    for cut, mirror, *at in zip(made.numpy(), flipped, images.tolist(), down.tolist(), right.tolist()):
        cut[:] = (mirrored if mirror else plain)[tuple(at)]
    return made


def flip(images: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Image i of (N, C, H, W) mirrored left to right where which[i]: RandomHorizontalFlip."""
    chosen = which.nonzero()[:, 0]  # copied where they are: `torch.where` takes twice as long
    return images.index_copy(0, chosen, images.index_select(0, chosen).flip(-1))


def affine(images: torch.Tensor, degrees: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Image i of (N, C, S, S) uint8 turned clockwise by degrees[i] and enlarged scale[i] times about its centre.

    Bilinear, with zeros from outside: RandomAffine.
    """
    size = images.shape[-1]
    x = (torch.arange(size, device=images.device) * 2 + 1) / size - 1  # pixel centres, the image from −1 to 1
    turn, scale = torch.deg2rad(degrees)[:, None, None], scale[:, None, None]
    cos, sin, y = turn.cos() / scale, turn.sin() / scale, x[:, None]
    # Where each pixel comes from; F.affine_grid does the same, five times slower.
    grid = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)
    return F.grid_sample(images.float(), grid, align_corners=False).round_().to(images.dtype)


def trivial(images: torch.Tensor, seed: int) -> torch.Tensor:
    """Each of (N, C, H, W) uint8 changed by one operation of a random strength: torchvision's TrivialAugmentWide.

    Müller and Hutter, 2021. The global random state stays as it was.
    """
    from torchvision.transforms import v2

    change = v2.TrivialAugmentWide()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.stack([change(image) for image in images])


def cutout(images: torch.Tensor, down: torch.Tensor, right: torch.Tensor, side: int = CUTOUT) -> torch.Tensor:
    """Image i of (N, C, H, W) with zeros in a square of `side` pixels about row down[i] and column right[i], as much of
    it as lies within the image (DeVries and Taylor, 2017)."""
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[2:])
    inside = [(at - middle[:, None] + side // 2) // side == 0 for at, middle in ((rows, down), (columns, right))]
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0)


def normalize(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) uint8 → float32, scaled to [0, 1], less `mean`, over `std` (each (C,)): ToTensor, then Normalize."""
    scale, shift = 1 / (255 * std), mean / std
    return images.float().mul_(scale[:, None, None]).sub_(shift[:, None, None])


class Batches:
    """The training batches of one run: `batches(step)` → images (n, C, H, W) float32 and labels (n,).

    `len(batches)` is the number of steps an epoch; each epoch has its own order. `augment` holds "crop" or "shift",
    "flip", "affine", "trivial" and "cutout" as wanted, done in this order; what is cut out is zero once normalised.
    Random choices are drawn on the CPU, so that they are the same on every device.
    """

    def __init__(self, split: Split, size: int, seed: int, augment=(), mean=None, std=None, device="cpu"):
        self.split = Split(split.images.to(device), split.labels.to(device))
        self.size, self.seed, self.augment = size, seed, tuple(augment)
        channels = split.images.shape[1]
        self.mean = (torch.zeros(channels) if mean is None else mean).to(device)
        self.std = (torch.ones(channels) if std is None else std).to(device)
        self.pad = next((pad for name, pad in CROPS.items() if name in self.augment), 0)
        # All images are padded at once: padding those of each batch would copy them once more.
        self.windows = windows(self.split.images, self.pad) if self.pad else None
        self._order = functools.lru_cache(maxsize=1)(self._shuffled)

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    def _generator(self, *position: int) -> torch.Generator:
        entropy = np.random.SeedSequence((self.seed, *position)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(entropy[0] >> 1))

    def _shuffled(self, epoch: int) -> torch.Tensor:
        return torch.randperm(len(self.split), generator=self._generator(epoch)).to(self.split.labels.device)

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, position = divmod(step, len(self))
        chosen = self._order(epoch)[position * self.size : (position + 1) * self.size]
        generator = self._generator(epoch, position + 1)
        images = normalize(self._augmented(chosen, generator), self.mean, self.std)
        if "cutout" in self.augment:
            drawn = (torch.randint(size, (len(chosen),), generator=generator) for size in images.shape[2:])
            images = cutout(images, *(each.to(images.device) for each in drawn))
        return images, self.split.labels.index_select(0, chosen)

    def _augmented(self, chosen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        device, count = chosen.device, len(chosen)
        at = torch.randint(2 * self.pad + 1, (2, count), generator=generator).to(device) if self.pad else None
        which = (torch.rand(count, generator=generator) < 0.5).to(device) if "flip" in self.augment else None
        if self.pad:
            images = crop(self.windows, chosen, *at, which)
        else:
            # A copy of whole images: indexing, which can do more, takes ten times as long.
            images = self.split.images.index_select(0, chosen)
            images = images if which is None else flip(images, which)
        if "affine" in self.augment:
            turn, grow = (torch.rand(2, count, generator=generator) * 2 - 1).to(device)
            images = affine(images, TURN * turn, 1 + SCALE * grow)
        if "trivial" in self.augment:
            images = trivial(images, int(torch.randint(2**31, (), generator=generator)))
        return images
