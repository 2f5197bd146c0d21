"""The training loop everyone writes: torchvision's transforms on PIL images, a DataLoader with two workers, float32,
`loss.item()` at each step. It is here to be compared with, and never to be trained with."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from helpers import data, models

WORKERS = 2
READY = 2 * WORKERS  # batches that the workers prepare ahead while others are timed


def loader(run, dataset: data.Dataset) -> DataLoader:
    """The usual DataLoader of a run's data set, with the transforms that its `augment` and `normalize` name."""
    names = {"crop": transforms.RandomCrop(32, data.CROPS["crop"]), "flip": transforms.RandomHorizontalFlip()}
    steps = [names[name] for name in run.augment] + [transforms.ToTensor()]
    if run.normalize:
        steps.append(transforms.Normalize(dataset.mean.tolist(), dataset.std.tolist()))
    kind = {"cifar10": datasets.CIFAR10, "mnist": datasets.MNIST}[run.data]
    images = kind(data.data_dir(), train=True, transform=transforms.Compose(steps))
    return DataLoader(images, run.batch_size, shuffle=True, num_workers=WORKERS)


class Batches:
    """The batches of a loader without end; `close()` ends its workers."""

    def __init__(self, loader: DataLoader):
        self.loader, self.iterator = loader, iter(loader)

    def __next__(self):
        batch = next(self.iterator, None)
        if batch is None:
            self.iterator = iter(self.loader)
            batch = next(self.iterator)
        return batch

    def seconds(self, count: int, step=lambda batch: None) -> float:
        """Seconds of `count` batches with `step` on each, when those that were prepared meanwhile are used up."""
        for _ in range(READY):
            step(next(self))
        started = time.perf_counter()
        for _ in range(count):
            step(next(self))
        return time.perf_counter() - started

    def close(self) -> None:
        self.iterator = None


class Loop:
    """Model, optimizer and batches of the usual loop; `seconds(count)` trains `count` steps."""

    def __init__(self, run, dataset: data.Dataset):
        torch.manual_seed(run.seed)
        self.model = models.build(run.model, **run.options).train()
        self.criterion = nn.NLLLoss() if run.loss == "nll" else nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=run.lr, momentum=run.momentum, weight_decay=run.weight_decay
        )
        self.batches, self.running_loss = Batches(loader(run, dataset)), 0.0

    def seconds(self, count: int) -> float:
        return self.batches.seconds(count, self._step)

    def _step(self, batch) -> None:
        images, labels = batch
        self.optimizer.zero_grad()
        loss = self.criterion(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        self.running_loss += loss.item()
