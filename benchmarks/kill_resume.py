"""What `kill -9` costs a search: 50 kills at random moments, after each the same command and `--resume`.

The driver is hit most, then the whole machine, a worker and Ray's raylet, while the search starts, trains or
exports. What was trained is counted by notes that the trainings write themselves, not from the records. Ray
Tune's `Tuner.restore` with `OptunaSearch` goes through the same moments.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.claim import Claim, machine, main
from benchmarks.killed.moments import IN_A_SEARCH, Phase, Victim, moments_of
from benchmarks.killed.ours import HkbenchSearch, Size
from benchmarks.killed.search import KilledSearch, Outcome, Pace, Subject
from benchmarks.killed.tune import TuneSearch

KILLS = 50
SEED = 7
SIZE = Size(trials=8, epochs=6)
QUICK_SIZE = Size(trials=2, epochs=4, taught=False)
QUICK_KILLS: tuple[tuple[Phase, Victim], ...] = (("training", "driver"),)
PICTURES_A_CLASS = 120
SIDE = 40
CLASSES = ("mug", "rug", "vase")
MOST_REDONE = 1

Make = Callable[[Path, Path, Path, Size, int], Subject]


def measure(quick: bool) -> Claim:
    """Kill hkbench's searches, and Ray Tune's unless it must be quick."""
    kills, size = (len(QUICK_KILLS), QUICK_SIZE) if quick else (KILLS, SIZE)
    kinds = QUICK_KILLS if quick else IN_A_SEARCH
    # Short, for the paths of Ray's sockets lie below it and must not pass 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="killed-", dir="/tmp"))
    try:
        pictures = draw_pictures(folder / "pictures")
        ours = killed(HkbenchSearch, folder / "ours", pictures, size, kills, kinds)
        peer = None if quick else killed(TuneSearch, folder / "tune", pictures, size, kills, kinds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found = summary(ours, size)
    return Claim(
        name="kill_resume",
        value=found["resumed"],
        unit=f"of {kills} kills gone on from; {found['lost']} finished trials lost, {found['doubles']} "
        f"doubles, at most {found['most_redone']} epochs redone by a live trial",
        target=f"all of {KILLS}, 0 lost, 0 doubles, at most {MOST_REDONE} epoch redone a live trial",
        holds=_holds(found, kills),
        details={
            "hkbench": found,
            "ray_tuner_restore": None if peer is None else summary(peer, size),
            "search": asdict(size),
            "pictures": PICTURES_A_CLASS * len(CLASSES),
            **machine(threads=1),
        },
    )


def _holds(found: dict[str, Any], kills: int) -> bool:
    nothing_wrong = not (found["lost"] or found["doubles"] or found["flaws"] or found["unfinished_searches"])
    return found["resumed"] == kills and nothing_wrong and found["most_redone"] <= MOST_REDONE


def killed(
    make: Make,
    home: Path,
    pictures: Path,
    size: Size,
    kills: int,
    kinds: tuple[tuple[Phase, Victim], ...],
) -> list[Outcome]:
    """Kill searches, one after the other, until so many kills have come about.

    One that ends before all of its kills leaves the rest to another; twice as many searches as are needed
    are begun at most.
    """
    home.mkdir()
    pace = Pace()
    outcomes: list[Outcome] = []
    for number in range(2 * -(-kills // len(kinds))):
        left = kills - sum(len(outcome.kills) for outcome in outcomes)
        if left == 0:
            break
        seed = SEED + number
        search = make(home / f"search_{number}", home, pictures, size, seed)
        outcomes.append(KilledSearch(search, pace).outcome(moments_of(seed, kinds)[:left]))
    return outcomes


def summary(outcomes: list[Outcome], size: Size) -> dict[str, Any]:
    """Return the figures over all searches, and what went wrong in words."""
    kills = [kill for outcome in outcomes for kill in outcome.kills]
    verdicts = [outcome.verdict for outcome in outcomes]
    redone = [
        {"search": at, "kill": kill, "victim": _victim(outcome, kill), "trial": trial, "epochs": epochs}
        for at, outcome in enumerate(outcomes)
        for (kill, trial), epochs in outcome.verdict.redone.items()
    ]
    return {
        "kills": len(kills),
        "resumed": sum(kill.problem is None for kill in kills),
        "lost": sum(len(verdict.lost) for verdict in verdicts),
        "doubles": sum(len(verdict.doubles) for verdict in verdicts),
        "most_redone": max((verdict.most_redone for verdict in verdicts), default=0),
        "epochs_redone": sum(row["epochs"] for row in redone),
        "epochs_cut": sum(verdict.cut for verdict in verdicts),
        "epochs_trained": sum(verdict.trained for verdict in verdicts),
        "epochs_accounted": sum(sum(outcome.accounts.epochs.values()) for outcome in outcomes),
        "trials_abandoned": sum(len(verdict.abandoned) for verdict in verdicts),
        "unfinished_searches": sum(not outcome.finished for outcome in outcomes),
        "flaws": [flaw for outcome in outcomes for flaw in outcome.accounts.flaws],
        "searches": len(outcomes),
        "trials_a_search": size.trials,
        "seconds": sum(outcome.seconds for outcome in outcomes),
        "by_victim": dict(Counter(kill.victim for kill in kills)),
        "resumed_by_victim": dict(Counter(kill.victim for kill in kills if kill.problem is None)),
        "by_phase": dict(Counter(kill.phase for kill in kills)),
        "lost_trials": [text for verdict in verdicts for text in verdict.lost],
        "doubled": [text for verdict in verdicts for text in verdict.doubles],
        "redone": redone,
        "problems": [kill.problem for kill in kills if kill.problem is not None],
        "remarks": [remark for outcome in outcomes for remark in outcome.remarks],
        "moments": [
            {"search": at, "phase": kill.phase, "victim": kill.victim, "after_s": round(kill.after_s, 2)}
            for at, outcome in enumerate(outcomes)
            for kill in outcome.kills
        ],
    }


def _victim(outcome: Outcome, kill: int) -> str | None:
    return outcome.kills[kill].victim if kill >= 0 else None


def draw_pictures(folder: Path) -> Path:
    """Write three classes of noisy pictures, each class with a little more of a colour of its own.

    They overlap, so that trials differ in accuracy and the frontier that is exported is short.
    """
    rng = np.random.default_rng(0)
    for channel, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(PICTURES_A_CLASS):
            colour = rng.normal(110, 20, 3)
            colour[channel] += 30
            pixels = np.clip(colour + rng.normal(0, 30, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03d}.png")
    return folder


if __name__ == "__main__":
    main(measure)
