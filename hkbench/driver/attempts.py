"""Trials that failed and go on from their checkpoint: how often, and with whom shut out."""

from dataclasses import dataclass, replace

from hkbench.driver.gpu_packing import Decision, Verdict
from hkbench.driver.trial_records import LiveTrial, State
from hkbench.spaces.settings import TrialSettings
from hkbench.store.environment import now
from hkbench.study.ask_tell import AskTell
from hkbench.study.points import Asked
from hkbench.trials.failures import Cause, Failure, final_reason, retries
from hkbench.trials.fence import Fence


@dataclass(frozen=True, kw_only=True)
class End:
    """How a trial ends that can't go on."""

    state: State
    reason: str


class Attempts:
    """Remembers what is known of trials between two of their workers.

    Failures are kept in the study too, so that those of earlier runs count.
    """

    def __init__(self, study: AskTell, most: int, fence: Fence | None) -> None:
        """`most` is how often a trial is taken up again; the fence shuts out the worker that it had."""
        self._study = study
        self._most = most
        self._fence = fence
        self._waiting: dict[int, LiveTrial] = {}

    def begin(self, asked: Asked, settings: TrialSettings) -> LiveTrial:
        """Return a trial that begins, or that goes on."""
        live = self._waiting.pop(asked.number, None)
        if live is None:
            known = self._study.failures(asked.number)
            live = LiveTrial(asked=asked, settings=settings, started=now())
            live.failures = [Failure(cause=Cause(cause), reason=reason) for cause, reason in known]
        live.overdue = False
        return live

    def after(self, live: LiveTrial, failure: Failure, verdict: Verdict | None) -> End | None:
        """Return how a trial ends that has failed; None if it goes on later, its worker shut out.

        `verdict` is what was decided of one that ran out of a GPU's memory.
        """
        if verdict is not None and verdict.decision is Decision.TOO_LARGE:
            live.broken = verdict.constraints
            return End(state="PRUNED", reason=verdict.reason)
        if verdict is not None:
            failure = replace(failure, reason=verdict.reason)
        goes_on = verdict is not None and verdict.decision is Decision.REQUEUE
        if not goes_on and not retries(failure, [each.cause for each in live.failures], self._most):
            return End(state="FAIL", reason=final_reason(failure, len(live.failures) + 1))
        self._take_back(live, failure)
        return None

    def _take_back(self, live: LiveTrial, failure: Failure) -> None:
        number = live.asked.number
        self._study.note_failure(number, failure.cause, failure.reason)
        live.failures.append(failure)
        live.attempts += 1
        if self._fence is not None:
            self._fence.begin_attempt(number, live.attempts)
        self._waiting[number] = live
