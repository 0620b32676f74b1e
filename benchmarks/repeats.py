"""How many points of a search are trained that it has trained before, out of 200 that it is asked for.

The space is `thesis` with T and α on a grid; what a point is worth follows a made-up surface, since only
the points count here. hkbench answers an equal point from the record, and looks further; Ray Tune's
OptunaSearch trains it again.
"""

import math
from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch

from benchmarks.claim import Claim, machine, main
from hkbench.sampling.searcher import Searcher
from hkbench.spaces.file import load_space
from hkbench.spaces.space import Space
from hkbench.study.ask_tell import AskTell
from hkbench.study.points import point_key
from hkbench.study.samplers import FRONTIER, SAMPLERS

ASKS = 200
SIDE_BY_SIDE = 4
LARGE = {
    "parameters.temperature.step": "0.125",
    "parameters.alpha.low": "0.05",
    "parameters.alpha.high": "0.95",
    "parameters.alpha.step": "0.05",
}
"""25 temperatures × 19 weights, and one point without a teacher: 476. The space's seed points lie on it."""
SMALL = {"parameters.temperature.step": "0.5", "parameters.alpha.step": "0.16", "start_with": "[]"}
"""7 × 7 and one: 50."""
QUICK_SAMPLERS = (FRONTIER, "tpe")


def accuracy_of(params: dict[str, Any]) -> float:
    """Return a made-up accuracy: best near the study's T = 2, α = 0.3, and flat around it."""
    if params["loss"] == "hard":
        return 0.85
    away = (params["alpha"] - 0.3) ** 2 + math.log(params["temperature"] / 2) ** 2
    return round(0.89 - 0.1 * min(away, 0.5), 3)


def measure(quick: bool) -> Claim:
    """Ask for 200 points with every sampler, and with OptunaSearch as Ray's documentation sets it up."""
    large, small = load_space("thesis", LARGE), load_space("thesis", SMALL)
    samplers = QUICK_SAMPLERS if quick else tuple(SAMPLERS)
    ours = {name: trainings(large, name) for name in samplers}
    ends = {name: trainings(small, name) for name in samplers}
    repeats = max(row["repeated"] for row in (*ours.values(), *ends.values()))
    ended = all(row["trained"] == len(small.points() or ()) and row["exhausted"] for row in ends.values())
    return Claim(
        name="repeats",
        value=repeats,
        unit=f"points trained again in {ASKS} asks, the most of any sampler",
        target="0, and a grid of 50 points ends after 50",
        holds=repeats == 0 and ended,
        details={
            "points_of_the_grid": len(large.points() or ()),
            "hkbench": ours,
            "hkbench_on_50_points": ends,
            "ray_optuna_search": {"trained": ASKS, "repeated": repeats_of_optuna_search(large)},
            **machine(threads=1),
        },
    )


def trainings(space: Space, sampler: str) -> dict[str, Any]:
    """Ask a search for points, some side by side; return how many were trained, how many of them again."""
    study = AskTell.in_memory(space, seed=0, sampler=sampler)
    searcher = Searcher(study, space, sampler, lambda _: {}, seed=0)
    keys, live, exhausted = [], [], False
    while len(keys) < ASKS and not exhausted:
        asked = searcher.ask()
        exhausted = asked is None
        if asked is not None:
            searcher.started(asked)
            keys.append(point_key(asked.params))
            live.append(asked)
        while live and (exhausted or len(live) == SIDE_BY_SIDE):
            done = live.pop(0)
            values = {"accuracy": accuracy_of(done.params)}
            for epoch in range(1, space.schedule.max_epochs + 1):
                searcher.trained(done.number, epoch, values)
            study.tell_complete(done.number, values, {})
            searcher.finished(done.number, "complete")
    return {"trained": len(keys), "repeated": len(keys) - len(set(keys)), "exhausted": exhausted}


def repeats_of_optuna_search(space: Space) -> int:
    """Return how many of OptunaSearch's points it had proposed before."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def choose(trial: optuna.Trial) -> None:
        space.choose(trial)

    searcher = OptunaSearch(space=choose, metric="accuracy", mode="max", seed=0)
    keys, live = [], []
    for number in range(ASKS):
        params = searcher.suggest(str(number))
        keys.append(point_key(params))
        live.append((str(number), params))
        if len(live) == SIDE_BY_SIDE:
            trial, done = live.pop(0)
            searcher.on_trial_complete(trial, {"accuracy": accuracy_of(done)})
    return len(keys) - len(set(keys))


if __name__ == "__main__":
    main(measure)
