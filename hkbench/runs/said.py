"""What a search says of itself at its end: what it left out, and why it has nothing to show."""

from collections.abc import Sequence
from datetime import timedelta

from hkbench.driver.plan import SearchPlan
from hkbench.runs.finish import best_student, twin_params
from hkbench.store.records import DataRecord, TrialRecord
from hkbench.store.rundir import RunDirectory

NAMED_PICTURES = 5


def why_nothing(run: RunDirectory) -> str:
    """Say why a search has no trial to show."""
    reasons = [trial.reason for trial in run.trials() if trial.reason]
    last = f" The last one: {reasons[-1].rstrip('.')}." if reasons else ""
    record = run.read_run()
    took = timedelta(seconds=round(sum(record.phase_seconds.values())))
    advice = "" if record.kind == "train" else " Give the search more --budget, or fewer --epochs."
    return f"No trial came to its end in {took}.{last}{advice}"


def rejections(data: DataRecord) -> list[str]:
    """Name the pictures that were left out."""
    rejected = data.rejected
    if not rejected:
        return []
    named = ", ".join(f"{name} ({reason})" for name, reason in rejected[:NAMED_PICTURES])
    more = " and more, listed in run.json" if len(rejected) > NAMED_PICTURES else ""
    what = "1 picture" if len(rejected) == 1 else f"{len(rejected)} pictures"
    return [f"Left out {what} that can't be used: {named}{more}."]


def untold(plan: SearchPlan, trials: Sequence[TrialRecord], *, exhausted: bool) -> list[str]:
    """Say what the search could not do as asked."""
    said = []
    if exhausted:
        said.append("The space holds no point that was not tried: the search ended before its trials did.")
    student = best_student(list(trials))
    if plan.kind == "search" and student is not None and twin_params(student, plan.space) is None:
        said.append("The space doesn't let loss be 'hard', so no twin without a teacher was trained.")
    return said
