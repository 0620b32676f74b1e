"""`findings.json`: what follows from a search's trials once they have ended. Made again whenever they change.

It holds nothing that `trials.jsonl` and the space don't, so it may be deleted. Written as a whole.
"""

from pydantic import Field, ValidationError

from hkbench.errors import UsageError
from hkbench.store import atomic
from hkbench.store.records import Record
from hkbench.store.rundir import RunDirectory

FINDINGS_FILE = "findings.json"


class ImportanceRecord(Record):
    """How much one parameter alone tells of which trials are among the best in one objective.

    An association in this run's trials, not a cause. `value` is a share in [0, 1], `low` and `high` its
    interval of 95 %, `chance` what 95 of 100 parameters without any bearing stay below on as many trials. Of
    `trials` the parameter had a value. All four are null where they can't be had, and `reason` says why.
    """

    parameter: str
    objective: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    trials: int
    reason: str | None = None


class GainCell(Record):
    """What distillation gains in a cell of temperature and α: accuracy, of 95 %, as shares.

    `trials` in the cell count, `stopped` are those that were stopped early and don't.
    """

    temperature: tuple[float, float]
    alpha: tuple[float, float]
    estimate: float
    low: float
    high: float
    trials: int
    stopped: int


class GainRecord(Record):
    """Where distillation by `kd` beats the same training without a teacher.

    `cells` are those within the hull of the trials. `temperature` and `alpha` span the cells whose lower
    bound is above 0, each by itself: not every pair of a T and an α within both spans is such a cell.
    Both are null where there is no such cell, and `reason` says why. `trials` have a twin, of which `exact`
    differ from theirs by the teacher alone; `unpaired` have none, `stopped` were stopped early.
    """

    trials: int
    exact: int
    unpaired: int
    stopped: int
    twins: int
    cells: list[GainCell] = Field(default_factory=list)
    temperature: tuple[float, float] | None = None
    alpha: tuple[float, float] | None = None
    reason: str | None = None


class ConfirmedRecord(Record):
    """What a trial reaches when it is trained again from fresh seeds: accuracy on validation, as shares.

    `mean`, its interval of 95 % and `spread`, the standard deviation between seeds, are over `accuracies`,
    one for each of `seeds`. `found`, the accuracy that the trial was picked for, isn't among them. `failed`
    seeds gave no accuracy.
    """

    trial: int
    model: str
    image_size: int
    seeds: list[int]
    accuracies: list[float]
    found: float
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    failed: int = 0
    reason: str | None = None


class FindingsRecord(Record):
    """What a search found out; `confirmed` begins with the best mean."""

    importances: list[ImportanceRecord] = Field(default_factory=list)
    gain: GainRecord | None = None
    confirmed: list[ConfirmedRecord] = Field(default_factory=list)


def write_findings(run: RunDirectory, record: FindingsRecord) -> None:
    """Replace `findings.json`."""
    atomic.write_text(run.path / FINDINGS_FILE, record.model_dump_json(indent=1) + "\n")


def read_findings(run: RunDirectory) -> FindingsRecord | None:
    """Read `findings.json`; None where there is none, as in runs of earlier versions.

    Raises:
        UsageError: it is damaged or of a newer version.
    """
    path = run.path / FINDINGS_FILE
    if not path.is_file():
        return None
    try:
        return FindingsRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise UsageError(
            f"{path} can't be read, {error.error_count()} of its fields are not as expected: it is damaged "
            "or of a newer hkbench. Delete it; a search that is resumed makes it again."
        ) from error
