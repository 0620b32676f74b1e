"""Trials that failed and go on from their checkpoint: how often, and with whom shut out."""

from hkbench.driver.trial_records import LiveTrial
from hkbench.spaces.settings import TrialSettings
from hkbench.store.environment import now
from hkbench.study.ask_tell import AskTell
from hkbench.study.points import Asked
from hkbench.trials.failures import Cause, Failure, retries
from hkbench.trials.fence import Fence


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

    def take_back(self, live: LiveTrial, failure: Failure) -> bool:
        """Say whether a trial that has failed is to go on later; then its worker is shut out."""
        if not retries(failure, [each.cause for each in live.failures], self._most):
            return False
        number = live.asked.number
        self._study.note_failure(number, failure.cause, failure.reason)
        live.failures.append(failure)
        live.attempts += 1
        if self._fence is not None:
            self._fence.begin_attempt(number, live.attempts)
        self._waiting[number] = live
        return True
