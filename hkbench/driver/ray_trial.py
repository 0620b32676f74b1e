"""A trial as Ray Tune's trainable, in a worker that is kept from trial to trial."""

import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray
import torch
from ray import tune

from hkbench.driver.cluster import TrialResources, device_name, node_name
from hkbench.spaces.settings import TrialSettings
from hkbench.training.gpu_memory import limit_memory
from hkbench.trials.arrival import ensure_here
from hkbench.trials.fence import FencedOffError, end_at_once
from hkbench.trials.shared import OpenData, SharedData
from hkbench.trials.trial import Job, TrialRun, failure_of
from hkbench.trials.watchdog import hang_file, step_limit, watchdog

log = logging.getLogger(__name__)


class RayTrial(tune.Trainable):  # type: ignore[misc]
    """A `TrialRun` inside a worker that Ray reuses from trial to trial.

    Nothing is built in `setup` or `reset_config`: an exception there would end the trial without its reason.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Keep the config of the worker's first trial."""
        self._mapped: dict[int, OpenData] = {}
        self._shared: SharedData | None = None
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Keep the config of the worker's next trial."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._job: Job = config["job"]
        self._held: TrialResources | None = config.get("held")
        self._costs: dict[str, float] = config["costs"]
        self._number = int(config["number"])
        self._settings = TrialSettings.model_validate(config["settings"])
        self._recorded_epochs = int(config["recorded_epochs"])
        self._attempt = int(config["attempt"])
        self._thaws: int | None = config["thaws"]
        self._epoch_limit_s: float | None = config["epoch_limit_s"]
        self._reports = 0
        self._epoch = self._recorded_epochs
        self._results: Iterator[dict[str, Any]] | None = None

    def step(self) -> dict[str, Any]:
        """Build the trial, or train one epoch, and report it; or report why the trial can't go on.

        An epoch that takes too long ends the process, and so does a checkpoint that another worker's is the
        newer of: nobody listens.
        """
        try:
            if self._results is None:
                self._results = self._start()
                result = next(self._results)  # of unknown length: frozen stages see all views here
            else:
                with watchdog(hang_file(self._job.notes, self._number), self._limit_s()):
                    result = next(self._results)
        except FencedOffError as error:
            log.error("%s", error)
            end_at_once()
        except Exception as error:  # whatever ends a trial is its record, not the study's end
            log.exception("trial %d failed", self._number)
            return {"number": self._number, **failure_of(error), "done": True}
        if "built" in result:
            return result
        self._reports, self._epoch = self._reports + 1, result["epoch"]
        return {**result, **self._costs, **self._place(), "done": result["epoch"] >= self._job.max_epochs}

    def _place(self) -> dict[str, str]:
        """Return on which node of a cluster, and on which of its devices, this worker is."""
        if self._job.origin is None:
            return {}
        here = ray.get_runtime_context()
        return {
            "node": node_name(socket.gethostname(), here.get_node_id()),
            "device": device_name(self._job.device, here.get_accelerator_ids().get("GPU", [])),
        }

    def _limit_s(self) -> float | None:
        last = self._epoch + 1 >= self._job.max_epochs
        return step_limit(self._epoch_limit_s, self._settings, first=self._reports == 0, last=last)

    def _start(self) -> Iterator[dict[str, Any]]:
        torch.set_num_threads(self._job.threads)
        if self._held is not None and self._held.memory_fraction is not None:
            limit_memory(torch.device(self._job.device), self._held.memory_fraction)
        if self._job.origin is not None:
            self._shared = self._shared or ensure_here(self._job.shared, self._job.origin)
            self._job = replace(self._job, shared=self._shared)
        size = self._settings.image_size
        if size not in self._mapped:
            self._mapped[size] = self._job.shared.open(size)
        run = TrialRun(
            self._job,
            self._number,
            self._settings,
            self._recorded_epochs,
            attempt=self._attempt,
            thaws=self._thaws,
        )
        return run.results(self._mapped[size])
