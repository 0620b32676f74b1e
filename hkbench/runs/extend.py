"""A search that goes on: what it is asked for anew, on top of what it was asked for before."""

from dataclasses import replace
from pathlib import Path

from hkbench.driver.budget import Budget, Spending, parse_budget
from hkbench.driver.plan import SearchPlan
from hkbench.errors import UsageError
from hkbench.sampling.searcher import sampler_for
from hkbench.spaces.space import Space
from hkbench.store.records import RunRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.recorded import Recorded

NO_LIMIT = 1_000_000
"""The number of trials of a search that only its budget ends."""


def record_of(out: Path) -> RunRecord | None:
    """Return what a run directory says of its search; None where there is none."""
    run = RunDirectory(out)
    return run.read_run() if run.run_file.is_file() else None


def is_more(text: str | None) -> bool:
    """Whether a number is one to add, such as `+50`."""
    return text is not None and text.lstrip().startswith("+")


def asked_for(plan: SearchPlan, *, trials: str | None, budget: str | None, sampler: str | None) -> SearchPlan:
    """Return the plan with its number of trials, its budget and its sampler, as flags and record have it.

    Of a search that is resumed, `+50` trials or `+1h` come on top of what was asked for before, a number
    without a plus is the new total, and what isn't said stays as it was; a space file that asks for more
    trials than before is followed. To a search without a budget `+1h` gives that much from now on; more of a
    budget alone means as many trials as it lasts for.

    Raises:
        UsageError: a number that can't be read, or one to add where there is nothing to add to.
    """
    there = record_of(plan.out) if plan.resume else None
    if there is None:
        for name, text in (("--trials", trials), ("--budget", budget)):
            if is_more(text):
                raise UsageError(f"{name} {text} adds to a search that is there: add --resume.")
    space = _with_trials(plan.space, trials, there, budget_alone=is_more(budget))
    found = _budget(plan, budget, there)
    if found is not None:
        schedule = space.schedule.model_copy(update={"budget": str(found)})
        space = space.model_copy(update={"schedule": schedule})
    before = there.config.get("sampler") if there is not None else None
    return replace(plan, space=space, budget=found, sampler=sampler_for(space, sampler or before))


def _with_trials(space: Space, text: str | None, there: RunRecord | None, *, budget_alone: bool) -> Space:
    before = int(there.config["space"]["schedule"]["trials"]) if there is not None else None
    if text is None:
        total = NO_LIMIT if budget_alone else max(space.schedule.trials, before or 0)
    else:
        number = _whole(text)
        total = number + before if is_more(text) and before is not None else number
    schedule = space.schedule.model_copy(update={"trials": total})
    return space.model_copy(update={"schedule": schedule})


def _whole(text: str) -> int:
    digits = text.strip().removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and int(digits) > 0):
        raise UsageError(
            "--trials takes a whole number above 0, or +N to add to a search that is resumed; found "
            f"'{text}'."
        )
    return int(digits)


def _budget(plan: SearchPlan, text: str | None, there: RunRecord | None) -> Budget | None:
    config = there.config if there is not None else {}
    written = config.get("budget") or config.get("space", {}).get("schedule", {}).get("budget")
    before = parse_budget(written) if written else None
    if text is None:
        own = parse_budget(plan.space.schedule.budget) if plan.space.schedule.budget else None
        return before or own
    asked = parse_budget(text.strip().removeprefix("+"))
    if not is_more(text):
        return asked
    if before is not None:
        return before.extended(asked)
    spending = Spending(config.get("concurrency") or 1)
    recorded = Recorded(RunDirectory(plan.out))
    confirming = [trial.number for trial in recorded.ended.values() if trial.confirms is not None]
    for epoch, usage in recorded.costs(without=confirming):
        spending.note(epoch.seconds, usage, epoch.search_seconds)
    spending.begin(asked)
    return spending.on_top()
