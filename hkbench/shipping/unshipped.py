"""A trial that no file was made of: what is to be shipped of it, from the checkpoint that it has left."""

from collections.abc import Callable
from pathlib import Path

from hkbench.errors import HkbenchError, UsageError
from hkbench.models.architecture import Architecture
from hkbench.shipping.float32 import Finalist, finalist_of
from hkbench.store.records import DataRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.checkpoint import Stored

CheckpointOf = Callable[[int], Path | Stored]
"""Trial number → where its checkpoint lies, or would."""


def unshipped(
    run: RunDirectory, number: int, data: DataRecord, checkpoint_of: CheckpointOf | None
) -> Finalist:
    """Return a trial with the weights of its checkpoint, which lies in the run directory or elsewhere.

    Raises:
        UsageError: no such trial, or no checkpoint of it.
        HkbenchError: the checkpoint is out of reach, or damaged.
    """
    trial = next((each for each in run.trials() if each.number == number), None)
    if trial is None:
        raise _nothing(run, number, "it is none of its trials")
    where = checkpoint_of or _in_run(run)
    checkpoint = where(number)
    try:
        there = checkpoint.exists()
    except HkbenchError as error:
        raise HkbenchError(
            f"No file was made of trial {number}, and its checkpoint {checkpoint} can't be reached from "
            f"here: {error.__cause__ or error}. This machine needs the network and the credentials that "
            "the search had."
        ) from error
    if not there:
        raise _nothing(run, number, f"there is no model of it, and no checkpoint {checkpoint}")
    architecture = Architecture.model_validate(
        {name: trial.settings[name] for name in Architecture.model_fields if name in trial.settings}
    )
    return finalist_of(trial, architecture, checkpoint, data)


def _in_run(run: RunDirectory) -> CheckpointOf:
    return lambda number: run.path / "checkpoints" / f"{number:05d}.pt"


def _nothing(run: RunDirectory, number: int, why: str) -> UsageError:
    numbers = sorted({each.trial for each in run.model_records() if each.trial is not None})
    models = ", ".join(map(str, numbers))
    return UsageError(
        f"{run.path} has nothing to export of trial {number}: {why}. It has models of the trials "
        f"{models or '(none)'}."
    )
