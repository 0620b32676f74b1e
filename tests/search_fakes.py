"""What the search's tests share: a tiny space, its costs, and a listener that keeps what it is told."""

import threading

import numpy as np
import yaml
from PIL import Image

from hkbench.driver.plan import SearchPlan
from hkbench.models.architecture import Architecture
from hkbench.spaces.file import load_space
from hkbench.study.costs import ArchitectureCost

MODELS = ("household_s", "baseline_cnn")
COSTS = {
    Architecture(model="household_s", image_size=32): ArchitectureCost(
        artifact_bytes=200_000, latency_ms=1.0, parameters=50_000, macs=1_000_000
    ),
    Architecture(model="baseline_cnn", image_size=32): ArchitectureCost(
        artifact_bytes=1_400_000, latency_ms=2.0, parameters=350_000, macs=2_000_000
    ),
}
SPACE = {
    "name": "tiny",
    "about": "a space for tests",
    "parameters": {
        "model": {"type": "categorical", "choices": list(MODELS)},
        "loss": {"type": "categorical", "choices": ["kd", "hard"]},
        "temperature": {"type": "float", "low": 1, "high": 10, "log": True, "when": {"loss": "kd"}},
        "alpha": {"type": "float", "low": 0, "high": 0.9, "when": {"loss": "kd"}},
    },
    "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize", "latency_ms": "minimize"},
    "start_with": [
        {
            "name": "study",
            "source": "S12",
            "params": {"model": "household_s", "loss": "kd", "temperature": 2, "alpha": 0.3},
        }
    ],
    "schedule": {"trials": 3, "max_epochs": 2, "grace": 1, "reduction": 3},
    "teacher": {"model": "household_m", "image_size": 32, "max_epochs": 3, "patience": 1},
    "defaults": {"image_size": 32, "batch_size": 16},
}


COLOURS = {"mug": (200, 60, 60), "rug": (60, 200, 60), "vase": (60, 60, 200)}


def draw_pictures(folder, each):
    """Fill a new folder with three classes of noisy pictures in their own colours, `each` of every class."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            noise = rng.integers(-50, 50, (40, 40, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02d}.png")
    return folder


def write_space(folder, **changes):
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**SPACE, **changes}))
    return path


def tiny_plan(folder, **changes):
    space = load_space(str(write_space(folder, **changes.pop("space", {}))))
    return SearchPlan(space=space, out=folder / "run", **changes)


def fake_costs(architecture, precision="fp32"):
    return COSTS[architecture]


class Heard:
    """A listener that keeps what it is told; like a terminal's, it can be neither copied nor pickled."""

    def __init__(self):
        self.lock = threading.Lock()
        self.phases, self.started, self.epochs, self.ended, self.retried = [], [], [], [], []

    def phase(self, name):
        self.phases.append(name)

    def advance(self, done, total):
        assert 0 < done <= total

    def planned(self, plan):
        self.plan = plan

    def teacher_epoch(self, result, recipe):
        self.epochs.append(("teacher", result.epoch))

    def trial_started(self, number, settings, seed_point):
        self.started.append((number, seed_point))

    def trial_epoch(self, epoch):
        self.epochs.append((epoch.trial, epoch.epoch))

    def trial_retried(self, number, reason, epoch):
        self.retried.append((number, reason, epoch))

    def trial_ended(self, trial):
        self.ended.append(trial)


def result_of(number, epoch, accuracy=0.5):
    return {
        "number": number,
        "epoch": epoch,
        "train_loss": 1.0,
        "learning_rate": 0.1,
        "seconds": 2.0,
        "accuracy": accuracy,
        "top5": 0.9,
        "balanced_accuracy": accuracy,
        "calibration_error": 0.05,
        "macro_f1": accuracy,
        "log_loss": 1.5,
        "usage_seconds": 2.0,
        "usage_cpu_seconds": 1.5,
        "usage_peak_rss_bytes": 1000 * epoch,
        "usage_gpu_seconds": None,
        "usage_peak_gpu_bytes": None,
        "usage_energy_j": None,
        "usage_gpu_reason": "no GPU",
        "device": "cpu",
        "node": "here",
    }
