"""A whole search against plain Ray Tune: 24 trials of 3 epochs, DenseNet-121 teaching SqueezeNet 1.1.

The peers (benchmarks/peers) take long, so they run a part of the plan and are scaled by trials, epochs and
steps. `--full` runs all of it, `--peer-trials N` that many trials of the tuned peer, and
`--documented-steps N` that many steps of the documented one. `--float32` keeps hkbench from mixed precision.
"""

import argparse
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.claim import Claim, cold_cache, main
from benchmarks.peers.plan import PeerPlan, PeerRun, PeerSettings, documented, scaled_from, scaled_seconds
from benchmarks.peers.shared import keep_teacher, split_of, steps_of, write_densenet, write_parts, write_some
from benchmarks.peers.sweep import Swept, settings_to_try, sweep
from benchmarks.peers.tune_search import timed_searches
from hkbench.config import usable_cores
from hkbench.data.source import Source
from hkbench.data.sources import open_source
from hkbench.driver.plan import SearchPlan
from hkbench.errors import HkbenchError
from hkbench.runs.search import run_search
from hkbench.spaces.file import load_space
from hkbench.spaces.space import Space
from hkbench.store.environment import hardware, versions
from hkbench.store.rundir import RunDirectory

SPACE = Path(__file__).with_suffix(".yaml")
OVER_DOCUMENTED = 5.0
OVER_TUNED = 3.0
VIEWS = 3
"""At most: one for each epoch, as the peer augments anew in each."""
SWEPT_STEPS = 24
QUICK = {"schedule.trials": "1", "schedule.max_epochs": "1", "schedule.grace": "1"}
QUICK_PER_CLASS = 4
QUICK_SWEPT_STEPS = 2
NOTES = [
    "the teacher's training is the same on both sides and left out; its weights are random, seeded, and the "
    "same on both sides: no step's time depends on their values",
    "hkbench is timed from the call to the end of its last trial, with its stores, views, logits and costs "
    "made in an empty cache; the peer from before Ray's start to the end of its last trial, its pictures "
    "lying ready as files",
    "hkbench trains in mixed precision where this CPU has bfloat16 instructions, the peers in float32 as "
    "their documentation has it; --float32 keeps hkbench to that too",
]
QUICK_NOTE = "quick: start-up dominates on both sides, so the ratios say little"


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much of the peers' plan is run; None for the trials is as many as run at once."""

    peer_trials: int | None = None
    documented_steps: int = 60
    full: bool = False
    float32: bool = False


@dataclass(frozen=True, kw_only=True)
class Ours:
    """hkbench's search as it was timed, in seconds from the call; a quick one ends with its last trial."""

    last_trial_s: float
    whole_s: float | None
    phase_seconds: dict[str, float]
    concurrency: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer as it was timed, and the seconds that its whole plan would take."""

    settings: PeerSettings
    run: PeerRun
    seconds: float
    scaled_from: str

    def described(self) -> dict[str, Any]:
        """Return what a reader needs to judge the figure."""
        return {
            "settings": asdict(self.settings),
            "concurrency": self.run.concurrency,
            "seconds": self.seconds,
            "measured_s": self.run.measured_s,
            "measured_trials": self.run.trials,
            "measured_epochs": self.run.epochs,
            "measured_steps": self.run.steps,
            "scaled_from": self.scaled_from,
            "run": asdict(self.run),
        }


class EnoughError(Exception):
    """The search is past its last trial, and no more is asked for."""


class Clock:
    """A listener that notes when trials end, and can end the search after them."""

    def __init__(self, *, trials_only: bool) -> None:
        self.ends: list[float] = []
        self._trials_only = trials_only

    def phase(self, name: str) -> None:
        """Leave where the trials are over."""
        if self._trials_only and name == "export":
            raise EnoughError

    def trial_ended(self, trial: object) -> None:
        """Note the moment."""
        del trial
        self.ends.append(time.perf_counter())

    def __getattr__(self, name: str) -> Any:
        """Hear nothing else."""
        return _nothing


def _nothing(*_: object, **__: object) -> None:
    """Do nothing with what is heard."""


def measure(quick: bool, options: Options) -> Claim:
    """Time hkbench's search and both peers', one after the other."""
    with tempfile.TemporaryDirectory(prefix="hkbench-speed-") as name, cold_cache():
        folder = Path(name)
        changed = (QUICK if quick else {}) | (
            {"defaults.mixed_precision": "false"} if options.float32 else {}
        )
        space = load_space(str(SPACE), changed)
        data = _data(folder, quick)
        source = open_source(data)
        split = split_of(source)
        plan = _peer_plan(folder, space, source)
        write_parts(source, split, plan.pictures)
        write_densenet(keep_teacher(space.teacher, source, split).network(), plan.teacher)
        ours = _hkbench(space, data, folder / "run", quick)
        swept = _swept(plan, quick)
        steps = steps_of(split, plan.batch_size)
        peers = _peers(plan, steps, swept[0].settings, options)
    return _claim(ours, peers, swept, quick)


def _data(folder: Path, quick: bool) -> str:
    """Return the pictures' name, or, where it must be quick, a folder with some of them."""
    if not quick:
        return "goods69"
    write_some(open_source("goods69"), folder / "some", per_class=QUICK_PER_CLASS)
    return str(folder / "some")


def _peer_plan(folder: Path, space: Space, source: Source) -> PeerPlan:
    return PeerPlan(
        pictures=folder / "parts",
        teacher=folder / "teacher.pt",
        classes=len(source.classes),
        image_size=int(space.defaults["image_size"]),
        batch_size=int(space.defaults["batch_size"]),
        trials=space.schedule.trials,
        epochs=space.schedule.max_epochs,
    )


def _hkbench(space: Space, data: str, out: Path, quick: bool) -> Ours:
    """Run the whole plan with hkbench.

    Raises:
        HkbenchError: a trial didn't train all its epochs, so that the times can't be compared.
    """
    trials = space.schedule.trials
    plan = SearchPlan(
        space=space,
        out=out,
        data=data,
        views=min(VIEWS, space.schedule.max_epochs),
        concurrency=None,
        quick=quick,
    )
    clock = Clock(trials_only=quick)
    whole_s = None
    started = time.perf_counter()
    with suppress(EnoughError):
        run_search(plan, clock)
        whole_s = time.perf_counter() - started
    run = RunDirectory(out)
    trained = [trial for trial in run.trials() if trial.epochs == space.schedule.max_epochs]
    if len(trained) != trials:
        raise HkbenchError(f"{trials} trials were to train to their end, and {len(trained)} did.")
    return Ours(
        last_trial_s=clock.ends[trials - 1] - started,
        whole_s=whole_s,
        phase_seconds=run.read_run().phase_seconds,
        concurrency=run.read_run().config["concurrency"],
        threads=run.read_run().config["threads"],
    )


def _swept(plan: PeerPlan, quick: bool) -> list[Swept]:
    """Find the peer's fastest settings; a quick run compares the two layouts for a single trial."""
    cores = usable_cores()
    settings = settings_to_try(cores)
    if not quick:
        return sweep(plan, settings, steps=SWEPT_STEPS)
    alone = [one for one in settings if (one.workers, one.threads, one.cpus) == (0, cores, cores)]
    return sweep(plan, alone, steps=QUICK_SWEPT_STEPS)


def _peers(plan: PeerPlan, steps: int, best: PeerSettings, options: Options) -> dict[str, Peer]:
    """Time both peers: as documented, and with the settings that the sweep found best."""
    asked = {
        "documented": (_documented_part(plan, steps, options), documented(usable_cores())),
        "tuned": (tuned_part(plan, best, options), best),
    }
    runs = timed_searches(list(asked.values()))
    whole = {"trials": plan.trials, "epochs": plan.epochs, "steps": steps}
    return {
        name: Peer(
            settings=settings,
            run=run,
            seconds=scaled_seconds(run, **whole),
            scaled_from=scaled_from(run, **whole),
        )
        for (name, (_, settings)), run in zip(asked.items(), runs, strict=True)
    }


def _documented_part(plan: PeerPlan, steps: int, options: Options) -> PeerPlan:
    """Return what the documented peer runs: the first steps of a round of trials, unless all is asked for."""
    if options.full:
        return plan
    trials = min(plan.trials, documented(usable_cores()).concurrency(usable_cores()))
    return replace(plan, trials=trials, epochs=1, steps=min(steps, options.documented_steps))


def tuned_part(plan: PeerPlan, settings: PeerSettings, options: Options) -> PeerPlan:
    """Return what the tuned peer runs: some whole trials.

    Raises:
        HkbenchError: trials that leave cores idle in their last round can't be scaled.
    """
    concurrency = settings.concurrency(usable_cores())
    trials = plan.trials if options.full else min(plan.trials, options.peer_trials or concurrency)
    if trials % concurrency and trials != plan.trials:
        raise HkbenchError(
            f"{trials} trials don't fill rounds of {concurrency}, which run at once. "
            f"Give --peer-trials a multiple of {concurrency}."
        )
    return replace(plan, trials=trials)


def _claim(ours: Ours, peers: dict[str, Peer], swept: list[Swept], quick: bool) -> Claim:
    ratios = {name: peer.seconds / ours.last_trial_s for name, peer in peers.items()}
    return Claim(
        name="search_speed",
        value=ratios["tuned"],
        unit="times",
        target=f"at least {OVER_TUNED:g} times as fast as Ray Tune at its best settings, "
        f"{OVER_DOCUMENTED:g} times as fast as documented",
        holds=ratios["tuned"] >= OVER_TUNED and ratios["documented"] >= OVER_DOCUMENTED,
        details={
            "times_as_fast": ratios,
            "hkbench": asdict(ours),
            **{name: peer.described() for name, peer in peers.items()},
            "sweep": [asdict(one) for one in swept],
            "hardware": hardware(),
            "versions": versions(),
            "notes": [*NOTES, *([QUICK_NOTE] if quick else [])],
        },
    )


def _options() -> Options:
    """Take this module's own flags from the command line and leave the others to `claim.main`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--peer-trials", type=int)
    parser.add_argument("--documented-steps", type=int, default=Options.documented_steps)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--float32", action="store_true")
    flags, sys.argv[1:] = parser.parse_known_args()
    return Options(**vars(flags))


if __name__ == "__main__":
    chosen = _options()
    main(lambda quick: measure(quick, chosen))
