"""Where a study begins: created or found in its storage, with its sampler and the points to begin with."""

import logging
from pathlib import Path

import optuna
from optuna.trial import TrialState

from hkbench.errors import UsageError
from hkbench.spaces.space import Space
from hkbench.study.points import SEED_POINT
from hkbench.study.samplers import build_sampler, experimental_parts
from hkbench.study.storage import RunStorage

log = logging.getLogger(__name__)


def stored_study(storage: RunStorage, run: Path, space: Space, seed: int, sampler: str) -> optuna.Study:
    """Open the study of a run directory, or create it with the space's seed points enqueued.

    Raises:
        UsageError: a sampler that there isn't, or a journal that holds nothing.
        StorageError: its storage is out of reach.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mend_journal(storage.journal(run))
    study = optuna.create_study(
        study_name=storage.name,
        storage=storage.open(run),
        directions=list(space.objectives.values()),
        load_if_exists=True,  # the name is this run's alone
    )
    trials = study.get_trials(deepcopy=False)
    # Another seed for each opening: the same one would propose the first points again.
    study.sampler = build_sampler(sampler, seed + len(trials), space.derived())
    # A kill may have come before the seed points were all there.
    if all(trial.state == TrialState.WAITING for trial in trials):
        _begin(study, space)
    return study


def study_in_memory(space: Space, seed: int, sampler: str) -> optuna.Study:
    """Create a study that nobody else will see, such as one of a simulated search."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        directions=list(space.objectives.values()), sampler=build_sampler(sampler, seed, space.derived())
    )
    _begin(study, space)
    return study


def _begin(study: optuna.Study, space: Space) -> None:
    """Name the objectives, and put the space's seed points before all others."""
    with experimental_parts():
        study.set_metric_names(list(space.objectives))
    for name, params in space.seed_points():
        study.enqueue_trial(params, user_attrs={SEED_POINT: name}, skip_if_exists=True)


def mend_journal(path: Path) -> None:
    """Drop a last line without its newline, a killed driver's: the next append would hide behind it.

    Its lock goes too, which Optuna would wait for; whoever opens a study has the run's own lock.
    """
    if not path.exists():
        return
    Path(f"{path}.lock").unlink(missing_ok=True)
    written = path.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) != len(written):
        log.warning("%s had a torn last line, which was cut", path)
        path.write_bytes(whole)
    if not whole:
        raise UsageError(f"{path} is empty: it holds no study. Remove the run directory and search again.")
