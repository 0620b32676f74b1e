"""A training by itself: the session's trials one after the other in this process, without Ray."""

from typing import Any

from hkbench.search.session import SearchSession
from hkbench.search.trial import Job, TrialRun, is_full_disk, reason_of
from hkbench.store.blocks import Advance
from hkbench.training.ahead import torch_threads


def run_alone(session: SearchSession, job: Job, advance: Advance) -> None:
    """Run the session's trials until it has no more; `advance` is called with the steps of an epoch.

    Ctrl-C leaves as KeyboardInterrupt; the trial is left to be resumed from its last whole epoch.
    """
    with torch_threads(job.threads):
        while (ready := session.next_trial()) is not None:
            data = job.shared.open(ready.settings.image_size)
            run = TrialRun(job, ready.number, ready.settings, ready.recorded_epochs, on_step=advance)
            last: dict[str, Any] | None = None
            try:
                for result in run.results(data):
                    last = {**result, **ready.costs.objectives()}
                    if result["epoch"] < job.max_epochs:
                        session.on_epoch(last)
            except Exception as error:  # noqa: BLE001 - whatever ends a trial is its record
                last = {"failed": reason_of(error), "no_room": is_full_disk(error)}
            session.on_end(ready.number, last)
