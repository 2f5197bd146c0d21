"""Runs made as Ray tasks: on a cluster of two nodes of which one dies, the records equal those of a local run exactly.
What needs Ray is skipped where it is not installed; what happens without it is tested everywhere."""

import sys
import threading
import time

import numpy as np
import pytest
import torch

from helpers import experiments, runner, training
from helpers.experiments import Run
from helpers.records import RecordError, Store
from helpers.runner import cluster

# Long enough to be killed in the middle: some seconds an epoch at the most, and half a minute in all.
DIGITS = Run(
    data="mnist", model="LeNet", lr=0.02, momentum=0.5, augment=("shift",), epochs=8, batch_size=16, images=4000
)
RUNS = [DIGITS, experiments.replace(DIGITS, lr=0.01)]


def test_without_ray_one_line_says_what_to_install(monkeypatch, store):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[ray\]'"):
        cluster.run(RUNS, store, runner.Settings())


def test_a_cluster_that_is_not_there_is_told(store):
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    for address in ("127.0.0.1:1", "127.0.0.1:port"):
        with pytest.raises(ValueError, match=f"no Ray cluster at {address}: .*; `ray start --head` makes one"):
            cluster.run(RUNS, store, runner.Settings(), address)


def test_a_folder_that_a_node_cant_see_is_told(store):
    what, message = cluster._task(DIGITS, str(store.folder), runner.Settings(), None)
    assert what == "failed" and "give --results a shared folder" in message


def test_a_run_that_another_process_is_at_is_left(store):
    with store.prepare().claim(DIGITS):
        assert cluster._task(DIGITS, str(store.folder), runner.Settings(), None)[0] == "left"


# ------------------------------------------------------------------------------------------ with Ray


@pytest.fixture
def two_nodes():
    """Two nodes of one CPU each on this machine; the second can be killed."""
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    node = dict(num_cpus=1, num_gpus=0, object_store_memory=80 * 2**20)
    nodes = Cluster(initialize_head=True, head_node_args=node)
    nodes.second = nodes.add_node(**node)
    yield nodes
    nodes.shutdown()


def in_the_middle(store: Store, run: Run) -> bool:
    """Whether `run` has finished an epoch, but has no record."""
    path = store.checkpoint(run)
    try:
        return "model" in torch.load(path, weights_only=True) and store.read(run) is None
    except FileNotFoundError:
        return False


def assert_same(one: Store, other: Store, run: Run) -> None:
    a, b = one.read(run), other.read(run)
    assert (a.weights, a.fingerprint, a.test) == (b.weights, b.fingerprint, b.test)
    for name in training.HISTORY:
        assert name == "seconds" or a.history[name] == b.history[name]
    arrays = other.arrays(b)
    for name, array in one.arrays(a).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_a_node_killed_in_the_middle_changes_no_record(two_nodes, store, tmp_path, mnist, capsys):
    unfinished = []

    def kill() -> None:
        until = time.monotonic() + 300
        while time.monotonic() < until and not all(in_the_middle(store, run) for run in RUNS):
            time.sleep(0.05)
        unfinished.extend(run for run in RUNS if in_the_middle(store, run))
        two_nodes.remove_node(two_nodes.second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    cluster.run(RUNS, store.prepare(), runner.Settings(), two_nodes.address)
    killer.join()
    assert unfinished == RUNS  # so that one of them was cut off
    local = Store(tmp_path / "local")
    runner.work(RUNS, local.prepare(), runner.Settings())
    for run in RUNS:
        assert_same(store, local, run)
        assert not store.checkpoint(run).exists()
    assert store.scan()[1] == {}
    assert capsys.readouterr().err.count("test accuracy") == 4  # each told once here, and once by the local run


def test_what_cant_be_made_is_told(two_nodes, store):
    start = experiments.replace(DIGITS, epochs=1, images=64)
    broken = experiments.replace(start, lr=1e30)
    after = experiments.replace(start, start=broken)
    with pytest.raises(RecordError, match="which diverged: it can't be made"):
        cluster.run([after, broken, start], store.prepare(), runner.Settings(), two_nodes.address)
    assert runner.is_made(start, store) and store.read(broken).state == "diverged"
