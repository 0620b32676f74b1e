"""A training by itself: the session's trials one after the other in this process, without Ray."""

import logging
from collections.abc import Iterator
from typing import Any

from hkbench.driver.session import SearchSession
from hkbench.store.blocks import Advance
from hkbench.training.ahead import torch_threads
from hkbench.trials.trial import Job, TrialRun, failure_of

log = logging.getLogger(__name__)


def run_alone(session: SearchSession, job: Job, advance: Advance) -> None:
    """Run the session's trials until it has no more; `advance` is called with the steps of an epoch.

    Ctrl-C leaves as KeyboardInterrupt; the trial is left to be resumed from its last whole epoch.
    """
    with torch_threads(job.threads):
        while (ready := session.next_trial()) is not None:
            data = job.shared.open(ready.settings.image_size)
            run = TrialRun(
                job,
                ready.number,
                ready.settings,
                ready.recorded_epochs,
                attempt=ready.attempt,
                on_step=advance,
            )
            results = run.results(data)
            while (result := _next(results)) is not None:
                if "built" in result:
                    continue
                result |= ready.costs.objectives()
                if "failed" in result or result["epoch"] >= job.max_epochs:
                    session.on_end(ready.number, result)
                    break
                session.on_epoch(result)


def _next(results: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the next epoch's result, or why the trial can't go on."""
    try:
        return next(results, None)
    except Exception as error:
        log.debug("the training failed", exc_info=True)
        return failure_of(error)
