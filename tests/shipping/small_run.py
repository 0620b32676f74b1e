"""A run with one small network that has learned to name the brightest channel: what there is to ship from."""

import copy
import hashlib
from functools import cache

import numpy as np
import onnx
import torch
from torch import nn
from training_fakes import CLASSES, bright_pictures

from hkbench.benchmark.turns import timed_in_turns
from hkbench.data.splits import Split
from hkbench.export.onnx import content_of, float_model
from hkbench.models.architecture import Architecture
from hkbench.models.build import build
from hkbench.shipping import float32, int8, narrow
from hkbench.shipping.float32 import Finalist
from hkbench.shipping.parts import Parts
from hkbench.store.records import DataRecord, RunRecord, SplitRecord
from hkbench.store.rundir import RunDirectory

SIZE = 32
TRAIN, VALIDATION, TEST = 72, 300, 30
ARCHITECTURE = Architecture(model="baseline_cnn", image_size=SIZE)
LAYER = "body.4"
"""The second convolution; `body.5` is its batch-norm."""
TRAINING = {"epochs": 1, "loss": "hard", "optimizer": "adamw"}
LICENCES = {"code": "Apache-2.0", "pictures": "CC0-1.0"}


def parts_in(folder) -> Parts:
    """Return 402 pictures: 72 to train and calibrate on, 300 to validate, which 0.5 points can be seen on."""
    store = bright_pictures(folder, count=TRAIN + VALIDATION + TEST, size=SIZE)
    train, validation, test = np.split(np.arange(len(store.labels)), [TRAIN, TRAIN + VALIDATION])
    split = Split(scheme="random", seed=0, hash="5" * 64, train=train, validation=validation, test=test)
    return Parts(store=store, split=split)


@cache
def _trained(pictures: bytes, labels: bytes):
    network = build(ARCHITECTURE, classes=len(CLASSES), seed=0)
    shown = np.frombuffer(pictures, np.uint8).reshape(-1, 3, SIZE, SIZE).copy()
    inputs, answers = (
        torch.from_numpy(shown).float() / 255,
        torch.from_numpy(np.frombuffer(labels, np.int64).copy()),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(inputs), answers).backward()
            optimizer.step()
    with torch.no_grad():  # statistics of what the weights are now, for eval mode
        for _ in range(20):
            network(inputs)
    return network.eval()


def trained(parts: Parts):
    """Return the network, trained for a few steps on the train part; each call gives a copy of its own."""
    pictures, labels = parts.pictures("train"), parts.labels("train")
    return copy.deepcopy(_trained(pictures.tobytes(), labels.tobytes()))


def with_outlier(network):
    """Return a copy one of whose channels has huge weights and is always silent.

    Its layer has no use for one scale for all channels: the others' weights would all be rounded to zero.
    """
    changed = copy.deepcopy(network)
    norm = changed.body[5]
    with torch.no_grad():
        norm.weight[0] = 1e3
        norm.bias[0] = -3e4
    return changed


contents: dict[str, bytes] = {}


def float_model_of(network, image_size=SIZE) -> onnx.ModelProto:
    """Return the network's float32 model; equal weights are exported once, which takes seconds."""
    state = network.state_dict()
    key = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in state.values())).hexdigest()
    if key not in contents:
        contents[key] = content_of(float_model(network, image_size))
    return onnx.ModelProto.FromString(contents[key])


def export_once(monkeypatch):
    """Let what ships take a network's model from `float_model_of`."""
    for module in (float32, narrow):
        monkeypatch.setattr(module, "float_model", float_model_of)


def finalist(network, **changes) -> Finalist:
    """Return the network as one that a search wants to ship."""
    facts = {
        "id": "trial-003",
        "role": "student",
        "architecture": ARCHITECTURE,
        "epochs": 1,
        "trial": 3,
        "training": TRAINING,
        "licences": LICENCES,
    }
    return Finalist(network=network, **{**facts, **changes})


def run_in(folder, parts: Parts) -> RunDirectory:
    """Return a run directory that says which pictures it was made with, and holds no model yet."""
    run, split = RunDirectory(folder), parts.split
    data = DataRecord(
        name="bright",
        fingerprint="fingerprint",
        classes=list(CLASSES),
        pictures=len(parts.store.labels),
        split=SplitRecord(
            scheme=split.scheme,
            seed=split.seed,
            hash=split.hash,
            train=TRAIN,
            validation=VALIDATION,
            test=TEST,
        ),
    )
    run.write_run(
        RunRecord(
            name="small",
            kind="search",
            command=["hkbench", "search"],
            created="2026-01-01T00:00:00+00:00",
            config={},
            data=data,
            versions={},
            hardware={},
        )
    )
    return run


def without_waiting(monkeypatch):
    """Time layouts by the fewest calls: no test asks which is faster."""
    monkeypatch.setattr(
        int8, "timed_in_turns", lambda contents, size, **_: timed_in_turns(contents, size, seconds=0.0)
    )


def float_record(run, wanted):
    """Return the record of a float32 model of a run."""
    return next(each for each in run.model_records() if (each.id, each.precision) == (wanted, "fp32"))
