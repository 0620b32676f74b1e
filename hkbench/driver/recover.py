"""Where the study and the run directory disagree: each is mended from the other, and from the checkpoints.

A record is written before the study is told, so a kill leaves at most a trial that the study thinks is under
way. More can be lost with the machine, whose disk hadn't written all yet, or where a file was copied back.
"""

import logging
import math
from typing import Any

from hkbench.driver.ledger import Ledger
from hkbench.driver.trial_records import LiveTrial, problem_with
from hkbench.errors import HkbenchError, UsageError
from hkbench.spaces.parameters import is_number
from hkbench.spaces.space import Space
from hkbench.store.environment import now
from hkbench.store.records import TrialRecord
from hkbench.study.ask_tell import AskTell
from hkbench.study.costs import CostOf
from hkbench.study.points import Asked, Ended
from hkbench.study.recorded import Recorded
from hkbench.training.checkpoint import load_checkpoint
from hkbench.trials.trial import Job

log = logging.getLogger(__name__)


def give_back_to_study(study: AskTell, recorded: Recorded) -> None:
    """Add trials that are on record to a study that has lost them.

    Raises:
        UsageError: the study has another point under a record's number.
    """
    for number, trial in sorted(recorded.ended.items()):
        known = study.params_of(number)
        if known is None:
            log.warning("the study has lost trial %d, which is on record: it is added again", number)
            study.adopt(_asked_as(trial))
        elif not _is_same(known, trial.params):
            raise UsageError(
                f"The study and the records don't belong together: trial {number} is {known} in the study, "
                f"{trial.params} in trials.jsonl. Put back the files that belong together, or search again."
            )


def _asked_as(trial: TrialRecord) -> Asked:
    """Return what was asked for a trial that is on record."""
    return Asked(
        number=trial.number,
        params=trial.params,
        seed_point=trial.seed_point,
        thaws=trial.thaws,
        confirms=trial.confirms,
        seed=trial.settings.get("seed") if trial.confirms is not None else None,
    )


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two points are equal: the study has 2.0 where a seed point had 2."""
    return one.keys() == other.keys() and all(
        value == other[name]
        or (is_number(value) and is_number(other[name]) and math.isclose(value, other[name], rel_tol=1e-6))
        for name, value in one.items()
    )


def give_back_to_records(
    study: AskTell, recorded: Recorded, ledger: Ledger, space: Space, costs: CostOf, job: Job
) -> None:
    """Record again the trials that the study knows to have ended and the run directory doesn't."""
    for ended in study.unrecorded(recorded.ended):
        number = ended.asked.number
        log.warning("trial %d has ended, and its record was lost: it is written again", number)
        try:
            settings = ended.asked.settings(space)
            cost = costs(settings.architecture, settings.precision)
        except HkbenchError as error:
            recorded.ended[number] = ledger.end_unbuilt(ended.asked, str(error))
            continue
        live = LiveTrial(asked=ended.asked, settings=settings, started=now())
        known = recorded.epochs(number)
        live.recorded, live.usage = len(known), recorded.usage(number)
        if known:
            live.last = {"number": number, "epoch": known[-1].epoch, **known[-1].metrics}
        for result in _kept(job, number, ended):
            if result["epoch"] > live.recorded:
                ledger.epoch(live, {**result, **cost.objectives()})
        state, reason = ended.state, ended.reason
        if state == "COMPLETE" and live.recorded < job.max_epochs:
            state, reason = "FAIL", "its record and its checkpoint were lost"
        recorded.ended[number] = ledger.end(live, state, reason)


def _kept(job: Job, number: int, ended: Ended) -> list[dict[str, Any]]:
    """Return the results in a trial's checkpoint."""
    path = job.checkpoint(number)
    if ended.refused or not path.exists():
        return []
    try:
        results: list[dict[str, Any]] = load_checkpoint(path)["results"]
    except (HkbenchError, KeyError) as error:
        log.warning("trial %d: %s", number, error)
        return []
    return [result for result in results if problem_with(result) is None]
