"""What a peer searches and how it is set up: plain values that travel to another process as JSON."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class PeerPlan:
    """One fixed search: what to train on what, for how long.

    Attributes:
        pictures: a folder with `train/CLASS/` and `validation/CLASS/`.
        teacher: a state dict of torchvision's DenseNet-121.
        classes: the number of classes.
        image_size: the side in pixels that both networks see.
        batch_size: pictures a step; a last batch with fewer is left out.
        trials: how many points to try.
        epochs: epochs a trial.
        steps: steps an epoch; None is the whole train part.
    """

    pictures: Path
    teacher: Path
    classes: int
    image_size: int
    batch_size: int
    trials: int
    epochs: int
    steps: int | None = None

    def described(self) -> dict[str, Any]:
        """Return the plan as JSON holds it."""
        return {**asdict(self), "pictures": str(self.pictures), "teacher": str(self.teacher)}

    @classmethod
    def of(cls, described: dict[str, Any]) -> Self:
        """Return the plan that `described` tells of."""
        paths = {name: Path(described[name]) for name in ("pictures", "teacher")}
        return cls(**{**described, **paths})


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """How a peer uses the machine.

    Attributes:
        workers: processes of each `DataLoader`; 0 loads in the trial's own process.
        threads: torch's threads in a trial; None leaves them to Ray, which gives a trial one for each CPU.
        channels_last: the memory layout of networks and pictures.
        cpus: the CPUs that Ray sets aside for a trial, so that `cores // cpus` trials run at once.
    """

    workers: int
    threads: int | None
    channels_last: bool
    cpus: int

    def concurrency(self, cores: int) -> int:
        """Return how many trials run at once."""
        return max(1, cores // self.cpus)


def documented(cores: int) -> PeerSettings:
    """Return what Ray's PyTorch example has: 2 CPUs a trial, 8 workers a loader, torch's own layout.

    Source: "How to use Tune with PyTorch" in Ray's documentation (tune-pytorch-cifar).
    """
    return PeerSettings(workers=8, threads=None, channels_last=False, cpus=min(2, cores))


@dataclass(frozen=True, kw_only=True)
class PeerRun:
    """A search as it was timed, in seconds; the last three are sums over all epochs of all trials.

    Attributes:
        ray_start_s: starting Ray, once.
        fit_s: from the first trial's process to the last trial's end.
        trials: trials that were run.
        concurrency: trials that ran at once.
        epochs: epochs of each trial.
        steps: steps of each epoch.
        first_batch_s: waiting for an epoch's first batch while the loader's workers start.
        train_s: train loops, first batches included.
        validation_s: passes over the validation part.
    """

    ray_start_s: float
    fit_s: float
    trials: int
    concurrency: int
    epochs: int
    steps: int
    first_batch_s: float
    train_s: float
    validation_s: float

    @property
    def measured_s(self) -> float:
        """What the run itself took."""
        return self.ray_start_s + self.fit_s


def scaled_seconds(run: PeerRun, *, trials: int, epochs: int, steps: int) -> float:
    """Return how long a search of `trials` trials of `epochs` epochs of `steps` steps would take.

    Linear in each. Ray's start counts once; what a trial takes beside its epochs (a process, imports,
    checkpoints) counts once a trial, and so do the loader's start and the validation once an epoch. A run
    of the whole search gives back the time that it took. The measured trials must fill whole rounds.
    """
    measured_epochs = run.trials * run.epochs
    step_s = (run.train_s - run.first_batch_s) / (measured_epochs * run.steps)
    epoch_s = (run.first_batch_s + run.validation_s) / measured_epochs + steps * step_s
    beside_s = (run.fit_s * run.concurrency - run.train_s - run.validation_s) / run.trials
    rounds = math.ceil(trials / run.concurrency)
    return run.ray_start_s + rounds * (beside_s + epochs * epoch_s)


def scaled_from(run: PeerRun, *, trials: int, epochs: int, steps: int) -> str:
    """Say in words what was measured of the whole."""
    if (run.trials, run.epochs, run.steps) == (trials, epochs, steps):
        return "measured whole"
    return (
        f"{run.trials} of {trials} trials, {run.epochs} of {epochs} epochs, {run.steps} of {steps} steps an "
        "epoch; linear in each, Ray's start counted once"
    )
