"""Data on a node that isn't the driver's: two cache folders stand for two machines."""

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from search_fakes import draw_pictures

from hkbench.data.augment import ViewPolicy, sample_views
from hkbench.data.build import build_stores
from hkbench.data.sources import open_source
from hkbench.data.splits import load_split
from hkbench.training.ahead import ahead_path, make_ahead
from hkbench.training.rendered import rendered_views
from hkbench.trials import arrival
from hkbench.trials.arrival import ArrivalError, Origin, ensure_here, hand_over
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.shared import SharedData, keep_split, keep_views

SIZES = (16, 24)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Let this process be on one machine or another: each has a cache folder of its own."""

    def be(name):
        monkeypatch.setenv("HKBENCH_CACHE", str(tmp_path / name))

    return be


@pytest.fixture
def made(tmp_path, machine):
    """What a driver has made: (shared, origin)."""
    machine("driver")
    pictures = draw_pictures(tmp_path / "pictures", each=8)
    source = open_source(str(pictures))
    stores = build_stores(source, SIZES, workers=1)
    split = load_split(stores[16], "random")
    views = sample_views(2, len(split.train), 0, ViewPolicy(mixup=0.5))
    logits = ahead_path("logits", "a teacher", split.hash, views.key)
    shape = (2, len(split.train), 3)
    make_ahead(logits, shape, "float16", lambda view, at: np.stack([view, at, at], 1), workers=1)
    shared = SharedData(
        stores={size: store.path for size, store in stores.items()},
        split=keep_split(split),
        views=keep_views(views),
        rendered=rendered_views(stores.values(), split, views),
        teachers=[tmp_path / "driver" / "teachers" / "it"],
        teacher_logits=logits,
        classes=source.classes,
    )
    origin = Origin(
        cache=tmp_path / "driver",
        data=str(pictures),
        group_by=None,
        fingerprint=source.fingerprint,
        storage=CheckpointStore(where=str(tmp_path / "storage")),
    )
    hand_over(shared, origin)
    return shared, origin


def paths_of(shared):
    views = shared.views
    return [
        *shared.stores.values(),
        *shared.rendered.values(),
        shared.split,
        views.parameters,
        views.partners,
        shared.teacher_logits,
    ]


def test_on_the_driver_s_machine_nothing_is_made(made):
    shared, origin = made
    assert ensure_here(shared, replace(origin, data="/nowhere")) == replace(shared, teachers=[])


def test_another_machine_has_the_same_data_under_its_own_cache(made, machine, tmp_path):
    shared, origin = made
    there = {size: shared.open(size).data for size in SIZES}
    machine("node")
    here = ensure_here(shared, origin)
    assert all(path.is_relative_to(tmp_path / "node") and path.exists() for path in paths_of(here))
    assert here.teachers == []
    (tmp_path / "driver").rename(tmp_path / "out of sight")
    for size in SIZES:
        data = here.open(size).data
        for name in ("pictures", "labels", "train", "views", "partners", "teacher_logits", "inputs"):
            np.testing.assert_array_equal(getattr(data, name), getattr(there[size], name), err_msg=name)
    assert torch.equal(
        torch.from_numpy(np.array(here.open(16).data.inputs)),
        torch.from_numpy(np.array(there[16].inputs)),
    )


def test_the_next_worker_of_a_node_finds_it_without_looking_at_the_pictures(made, machine, monkeypatch):
    shared, origin = made
    machine("node")
    first = ensure_here(shared, origin)
    monkeypatch.setattr(arrival, "open_source", None)
    monkeypatch.setattr(arrival, "FileLock", None)
    again = ensure_here(shared, replace(origin, data="/nowhere"))
    assert paths_of(again) == paths_of(first)


def test_what_the_driver_didn_t_render_or_have_isn_t_made(made, machine):
    shared, origin = made
    bare = replace(shared, rendered={}, teacher_logits=None)
    machine("node")
    here = ensure_here(bare, origin)
    assert (here.rendered, here.teacher_logits) == ({}, None)
    assert here.open(24).data.inputs is None


def test_other_pictures_under_the_same_path_are_refused(made, machine):
    shared, origin = made
    next(Path(origin.data).glob("mug/*.png")).unlink()
    machine("node")
    with pytest.raises(ArrivalError, match=rf"aren't the driver's.*{origin.fingerprint[:12]}"):
        ensure_here(shared, origin)


def test_pictures_that_a_node_lacks_are_named(made, machine):
    shared, origin = made
    machine("node")
    with pytest.raises(ArrivalError, match=r"/nowhere.*at the same path on every node"):
        ensure_here(shared, replace(origin, data="/nowhere"))


def test_a_storage_that_a_node_doesn_t_see_is_named(made, machine, tmp_path):
    shared, origin = made
    machine("node")
    elsewhere = CheckpointStore(where=str(tmp_path / "elsewhere"))
    with pytest.raises(ArrivalError, match=r"elsewhere: every node must see the same --storage"):
        ensure_here(shared, replace(origin, storage=elsewhere))


def test_another_version_that_decodes_otherwise_is_refused(made, machine, monkeypatch):
    shared, origin = made
    machine("node")
    monkeypatch.setattr("hkbench.data.store.DECODER", "another")
    with pytest.raises(ArrivalError, match="another version of hkbench or Pillow"):
        ensure_here(shared, origin)


WORKER = """
import logging, pickle, sys
from hkbench.trials.arrival import ensure_here
logging.basicConfig(level=logging.WARNING, format="%(message)s")
shared, origin = pickle.loads(bytes.fromhex(sys.stdin.read()))
print(ensure_here(shared, origin).open(16).data.pictures.sum())
"""


@pytest.mark.slow
def test_two_workers_of_a_node_build_it_once(made, machine, tmp_path):
    environment = os.environ | {"HKBENCH_CACHE": str(tmp_path / "node")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for worker in workers:
        worker.stdin.write(pickle.dumps(made).hex())
        worker.stdin.close()
        worker.stdin = None
    answers = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert sum("builds its own store" in errors for _, errors in answers) == 1
