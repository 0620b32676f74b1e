"""Plans the views of every model, runs the workers and shares out what a lost model leaves."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from .catalogue import Model, Rotation, models_by_class
from .counts import spread_evenly
from .errors import Goods69Error
from .shards import Look, read_shard
from .worker import EXIT_REFUSED, Job

logger = logging.getLogger(__name__)

# A split by group into train, validation and test needs one model for each.
FEWEST_GROUPS = 3
_UPRIGHT: Rotation = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_REPOSITORY_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to render; paths are absolute."""

    look: Look
    unpacked: Path
    shards: Path
    jobs: int
    timeout_s: float
    rotations: dict[tuple[str, str], Rotation] = field(default_factory=dict)

    def shard_path(self, model: Model) -> Path:
        """Where the pictures of `model` are kept."""
        return self.shards / f"{model.slug}.parquet"


RunModel = Callable[[Settings, Model, int], str | None]
"""Renders that many views of a model into its shard; returns why it could not, or None."""


def plan(models: list[Model], counts: dict[str, int], lost: dict[str, str]) -> dict[str, int]:
    """Views of each group, shared evenly within each class among the models not lost.

    Raises Goods69Error when a class is left with fewer than three models.
    """
    views: dict[str, int] = {}
    for class_name, members in models_by_class(models).items():
        groups = [model.group for model in members if model.group not in lost]
        if len(groups) < FEWEST_GROUPS:
            gone = "; ".join(f"{m.group}: {lost[m.group]}" for m in members if m.group in lost)
            raise Goods69Error(
                f"class {class_name} keeps {len(groups)} models, and {FEWEST_GROUPS} are needed "
                f"for a split by model; lost are {gone}"
            )
        views.update(spread_evenly(counts[class_name], groups))
    return views


def run_worker(settings: Settings, model: Model, count: int) -> str | None:
    """Render in a process of its own; the reason when it fails, crashes or takes too long."""
    job = Job(
        class_name=model.class_name,
        group=model.group,
        obj_path=str(settings.unpacked / model.catalogue / model.model_path),
        rotation=[list(row) for row in settings.rotations.get(_key(model), _UPRIGHT)],
        count=count,
        seed=settings.look.seed,
        size_px=settings.look.size_px,
        quality=settings.look.quality,
        shard_path=str(settings.shard_path(model)),
    )
    settings.shards.mkdir(parents=True, exist_ok=True)
    job_path = settings.shards / f"{model.slug}.json"
    job_path.write_text(job.to_json(), encoding="utf-8")
    command = [sys.executable, "-m", "tools.goods69.worker", str(job_path)]
    # The software renderer would start a thread per core for each worker.
    environment = {**os.environ, "LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=_REPOSITORY_ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=settings.timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {settings.timeout_s:g} s"
    finally:
        job_path.unlink()
    return _reason(done.returncode, done.stderr)


def _key(model: Model) -> tuple[str, str]:
    return model.catalogue, model.model_path


def _reason(exit_status: int, stderr: str) -> str | None:
    if exit_status == 0:
        return None
    last = (stderr.strip().splitlines() or ["no message"])[-1]
    if exit_status == EXIT_REFUSED:
        return last
    if exit_status < 0:
        return f"crashed with {signal.Signals(-exit_status).name}"
    return f"failed: {last}"


def render_all(
    models: list[Model],
    counts: dict[str, int],
    settings: Settings,
    run_model: RunModel = run_worker,
) -> tuple[dict[str, int], dict[str, str]]:
    """Render until every class has its count.

    Returns the views of each group, and each lost group with its reason. Shards of an earlier run
    with the same look are kept.
    """
    lost: dict[str, str] = {}
    while True:
        views = plan(models, counts, lost)
        failures = _render_missing(models, views, settings, run_model)
        if not failures:
            return views, lost
        lost.update(failures)


def _render_missing(
    models: list[Model], views: dict[str, int], settings: Settings, run_model: RunModel
) -> dict[str, str]:
    missing = [
        model
        for model in models
        if model.group in views
        and len(read_shard(settings.shard_path(model), settings.look)) < views[model.group]
    ]
    failures: dict[str, str] = {}
    began_s = time.perf_counter()
    with ThreadPoolExecutor(settings.jobs) as pool:
        running = {pool.submit(run_model, settings, model, views[model.group]): model for model in missing}
        for number, future in enumerate(as_completed(running), start=1):
            model, reason = running[future], future.result()
            if reason is not None:
                failures[model.group] = reason
                logger.warning("%s is left out: %s", model.group, reason)
            if number % 20 == 0 or number == len(missing):
                elapsed_s = time.perf_counter() - began_s
                logger.info("%d of %d models, %.0f s", number, len(missing), elapsed_s)
    return failures
