"""The driver's side of a search: which trial comes next, what each reported, when to stop.

Knows nothing of Ray: `runner` turns Ray Tune's calls into these.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from hkbench.driver.attempts import Attempts
from hkbench.driver.budget import Budget, Spending
from hkbench.driver.ledger import Ledger, TrialListener
from hkbench.driver.plan import SearchPlan
from hkbench.driver.recover import give_back_to_records, give_back_to_study
from hkbench.driver.shares import Shares, Unshared
from hkbench.driver.trial_records import LiveTrial, Ready, State, problem_with, usage_of
from hkbench.driver.workers import Workers
from hkbench.errors import HkbenchError, UsageError
from hkbench.sampling.searcher import Searcher
from hkbench.scheduling.judging import Judged, judged
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.study.costs import ArchitectureCost, CostOf
from hkbench.study.narrowing import why_not
from hkbench.study.point_costs import PointCosts
from hkbench.study.points import Asked
from hkbench.study.recorded import Recorded
from hkbench.study.storage import CHECKPOINTS
from hkbench.trials.failures import Cause, Failure
from hkbench.trials.patience import Patience
from hkbench.trials.trial import Job

MOST_REFUSED = 200
"""So many points in a row that break a limit before training end a search: it would ask for ever."""


class SearchSession:
    """Asks the study, keeps the records, and tells the study what came of each trial."""

    def __init__(
        self,
        plan: SearchPlan,
        study: AskTell,
        run: RunDirectory,
        costs: CostOf,
        listener: TrialListener,
        *,
        job: Job | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._plan = plan
        self._study = study
        self._run = run
        self._costs = costs
        self._listener = listener
        self._live: dict[int, LiveTrial] = {}
        self._recorded = Recorded(run)
        self._limit = plan.space.schedule.trials
        self.searcher = Searcher(study, plan.space, plan.sampler, PointCosts(plan.space, costs), plan.seed)
        where = f"{run.path}, or its study at {study.place}," if study.place else str(run.path)
        self._patiently = Patience(where, mend=study.mend, sleep=sleep)
        succeeded = self._recorded.any_succeeded()
        self._ledger = Ledger(
            plan.space, study, run, costs, listener, self._patiently, any_succeeded=succeeded
        )
        give_back_to_study(study, self._recorded)
        if job is not None:
            give_back_to_records(study, self._recorded, self._ledger, plan.space, costs, job)
        self._attempts = Attempts(study, plan.max_failures, job.fence if job is not None else None)
        self.shares: Shares = Unshared()  # others may be set before the first trial
        self._unfinished = study.running()
        self.searcher.learn(self._recorded)
        self._refused = 0
        notes = job.notes if job is not None else run.path / CHECKPOINTS
        self._workers = Workers(notes, plan.space.schedule.max_epochs, plan.epoch_limit_s, clock)
        self.interrupted = False
        self.fault: Exception | None = None
        self.exhausted = False
        self._spending = Spending(plan.concurrency or 1, clock)
        for epoch, usage in self._recorded.costs(without=study.additions.beside()):
            self._spending.note(epoch.seconds, usage, epoch.search_seconds)

    def start_clock(self, budget: Budget | None) -> None:
        """Start a budget, of which earlier runs have spent a part."""
        self._spending.begin(budget)

    def only(self, asked: Sequence[Asked]) -> None:
        """Let these trials run, and no other: the search itself is over, its budget spent or not."""
        self._unfinished = list(asked)
        self._limit = 0
        self._spending.lift()

    def try_failed_again(self) -> None:
        """Let each point that has failed run once more, as a trial of its own."""
        for trial in self._recorded.ended.values():
            again = self._study.additions.again(trial.number) if trial.state == "FAIL" else None
            if again is not None:
                self._unfinished.append(again)

    @property
    def out_of_budget(self) -> bool:
        """Whether the budget is spent."""
        return self._spending.over

    @property
    def over(self) -> bool:
        """Whether nothing may go on: the user or a fault has stopped the search, or the budget is spent."""
        stopped = self.interrupted or self.fault is not None or self._ledger.hopeless is not None
        return stopped or self.out_of_budget

    @property
    def idle(self) -> bool:
        """Whether no trial is under way, and none is left to begin."""
        left = self._unfinished or (not self.exhausted and self._study.trained() < self._limit)
        return not self._live and (self.over or not left)

    def interrupt(self) -> None:
        """Stop at the next report; all that is under way is left to be resumed."""
        self.interrupted = True

    @property
    def hopeless(self) -> str | None:
        """The reason for which all trials have failed, where no other needs to be tried."""
        return self._ledger.hopeless

    @property
    def live(self) -> int:
        """How many trials are under way."""
        return len(self._live)

    def next_trial(self) -> Ready | None:
        """Return the next trial to train: first those that were cut off, then what the study proposes."""
        while not self.over and self._spending.allows_another(len(self._live)):
            if self._unfinished:
                asked = self._unfinished.pop(0)
            elif self._study.trained() + len(self._live) < self._limit:
                fresh = self._ask() if self._refused < MOST_REFUSED else None
                if fresh is None:
                    self.exhausted = True
                    return None
                asked = fresh
            else:
                return None
            ready = self._admit(asked)
            if ready is not None:
                return ready
        return None

    def _ask(self) -> Asked | None:
        """Ask the study; a point of which the storage has only a part waits for later."""
        tries = self._patiently.retried
        fresh = self._patiently(self.searcher.ask)
        if self._patiently.retried > tries:
            known = {*self._live, *(asked.number for asked in self._unfinished)}
            known |= {fresh.number} if fresh is not None else set()
            self._unfinished += [asked for asked in self._study.running() if asked.number not in known]
        return fresh

    def _admit(self, asked: Asked) -> Ready | None:
        """Start a trial, unless it has ended on record already or its architecture alone breaks a limit."""
        if asked.number in self._recorded.ended:  # a kill came between the record and the study
            self._ledger.tell(self._recorded.ended[asked.number])
            return None
        try:
            settings = asked.settings(self._plan.space)
            cost = self._costs(settings.architecture, settings.precision)
        except HkbenchError as error:  # a combination that no check of the space had met
            self._refused += 1
            self._ledger.note_end(self._ledger.end_unbuilt(asked, str(error)))
            return None
        self._live[asked.number] = live = self._attempts.begin(asked, settings)
        beside = self._study.additions.is_beside(asked.number)
        begun = beside or self._recorded.epochs(asked.number) or live.failures
        refusal = why_not(self._plan.space, asked.params, cost, begun=bool(begun))
        if refusal is not None:
            self._refused += 1
            self._end(asked.number, "PRUNED", refusal)
            return None
        self._refused = 0
        return self._started(live, cost)

    def _started(self, live: LiveTrial, cost: ArchitectureCost) -> Ready | None:
        number, settings = live.asked.number, live.settings
        recorded = self._recorded.epochs(number)
        self.searcher.started(live.asked, recorded)
        if recorded and not live.last:
            live.take_up(recorded, self._recorded.usage(number), cost.objectives())
        if live.recorded >= self._plan.space.schedule.max_epochs:
            self._end(number, "COMPLETE", None)
            return None
        self._workers.began(live)
        self._listener.trial_started(number, settings, live.asked.seed_point)
        return Ready(
            number=number,
            settings=settings,
            recorded_epochs=live.recorded,
            costs=cost,
            attempt=live.attempts,
            epoch_limit_s=self._workers.limit_s(live),
            thaws=live.asked.thaws,
            held=self.shares.give(live),
        )

    def worker_began(self, number: int) -> None:
        """Note that a worker has been given a trial, from when on it is watched."""
        live = self._live.get(number)
        if live is not None:
            live.overdue = False
            self._workers.began(live)
            self.shares.began(number)

    def expects(self, report: dict[str, Any]) -> bool:
        """Whether a report is of a live trial, and whole."""
        return int(report["number"]) in self._live and problem_with(report) is None

    def judged(self, report: dict[str, Any]) -> Judged | None:
        """Return what the stopping rule may judge a report by; None for an epoch that is on record."""
        if not self.expects(report):
            return None
        live = self._live[int(report["number"])]
        if int(report["epoch"]) <= live.recorded:
            return None
        return judged(self._plan.space, report, [*live.usage, usage_of(report)])

    def on_epoch(self, result: dict[str, Any]) -> None:
        """Record an epoch that a trial reported, or that its worker has built it.

        An epoch that is on record was trained again, its checkpoint being lost: it isn't counted twice.
        """
        number = int(result["number"])
        live = self._live.get(number)
        if live is None:
            return
        if result.get("built"):
            self._workers.built(number)
            return
        problem = problem_with(result)
        if problem is not None:
            self._end(number, "FAIL", problem)
            return
        self._workers.trained(live, int(result["epoch"]), None if result.get("thawed") else result["seconds"])
        if int(result["epoch"]) <= live.recorded:
            return
        epoch, usage = self._ledger.epoch(live, result, self._spending.elapsed_s)
        self._spending.note(epoch.seconds, usage)
        self.shares.note(live, usage)
        self.searcher.trained(number, epoch.epoch, epoch.metrics)

    def overdue(self) -> list[int]:
        """Return the trials whose workers are to be ended, for they have reported nothing for too long."""
        return self._workers.overdue(self._live)

    def on_lost(self, number: int, said: str) -> None:
        """Take in that a trial's worker is gone; `said` is what Ray says of it."""
        live = self._live.get(number)
        if live is not None and not self.interrupted:
            self._failed(live, self._workers.failure_of(live, said))

    def on_end(self, number: int, result: dict[str, Any] | None) -> None:
        """Record that a trial is over; None for a result says that its worker was lost.

        Raises:
            UsageError: its worker found no room on the disk, and neither will another trial's.
        """
        if number not in self._live:
            return
        if result is None:
            self.on_lost(number, "")
            return
        if "failed" in result:
            self._failed(self._live[number], Failure.reported(result))
            return
        self.on_epoch(result)
        if number not in self._live:
            return
        if int(result["epoch"]) >= self._plan.space.schedule.max_epochs:
            self._end(number, "COMPLETE", None)
        else:
            why = "out of budget" if self.out_of_budget else "beaten by others at this epoch"
            self._end(number, "PRUNED", why)

    def _failed(self, live: LiveTrial, failure: Failure) -> None:
        """Let a trial go on later from its checkpoint where that may help, else end it."""
        if failure.cause == Cause.NO_ROOM:
            raise UsageError(failure.reason)
        number, verdict = live.asked.number, self.shares.verdict_on(live, failure)
        end = self._patiently(lambda: self._attempts.after(live, failure, verdict))
        if end is not None:
            self._end(number, end.state, end.reason)
            return
        self._let_go(number)
        self._unfinished.insert(0, live.asked)
        self._listener.trial_retried(number, live.failures[-1].reason, live.recorded)

    def close(self) -> None:
        """End what the budget has cut off; after an interruption or a fault leave it to be resumed."""
        if self.interrupted or self.fault is not None or self._ledger.hopeless is not None:
            return
        for number, live in list(self._live.items()):
            if live.last:
                self._end(number, "PRUNED", "out of budget")
            else:
                why = "out of budget before the end of its first epoch"
                self._end(number, "FAIL", why, telling=False)

    def _let_go(self, number: int) -> LiveTrial:
        """Return a trial that is live no more, and its worker and share are free."""
        self._workers.ended(number)
        self.shares.ended(number)
        return self._live.pop(number)

    def _end(self, number: int, state: State, reason: str | None, *, telling: bool = True) -> None:
        """End a live trial; `telling` says that its end tells something of others."""
        record = self._ledger.end(self._let_go(number), state, reason)
        self._recorded.ended[number] = record
        self.searcher.ended(record)
        if telling:
            self._ledger.note_end(record)
