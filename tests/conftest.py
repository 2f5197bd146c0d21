"""What several test modules need: the real data set, a tiny one made here, an empty store, one thread of torch."""

import pytest
import torch

from helpers import data
from helpers.records import Store


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def _real(name: str) -> data.Dataset:
    fault = data.fault(name, data.data_dir())
    if fault:
        pytest.skip(f"needs the real {name} in DATA_DIR: {fault}; `python -m helpers data` fetches it")
    return data.load(name)


@pytest.fixture(scope="session")
def cifar10() -> data.Dataset:
    return _real("cifar10")


@pytest.fixture(scope="session")
def mnist() -> data.Dataset:
    return _real("mnist")


def _split(count: int, shape: tuple[int, ...], generator: torch.Generator) -> data.Split:
    """Noise around a grey level that is the label's own, so that something can be learned."""
    labels = torch.arange(count) % 10
    images = torch.randint(-20, 21, (count, *shape), generator=generator) + 25 * labels[:, None, None, None] + 15
    return data.Split(images.clamp(0, 255).to(torch.uint8), labels)


def _dataset(shape: tuple[int, ...]) -> data.Dataset:
    generator = torch.Generator().manual_seed(0)
    train, validation, test = (_split(count, shape, generator) for count in (70, 40, 30))
    return data.Dataset(train, validation, test, *data.statistics(train.images), data.CLASSES["cifar10"])


@pytest.fixture(scope="session")
def tiny() -> data.Dataset:
    """70 images of 3×32×32 to train on, 40 to validate on, 30 to test on."""
    return _dataset((3, 32, 32))


@pytest.fixture(scope="session")
def tiny_digits() -> data.Dataset:
    """The same in the shape of MNIST, 1×28×28: steps of LeNet take about a millisecond."""
    return _dataset((1, 28, 28))


@pytest.fixture
def store(tmp_path) -> Store:
    """An empty store in a folder of its own."""
    return Store(tmp_path / "results")


@pytest.fixture
def ax():
    """Axes to draw on."""
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)
