"""What a search has found out: importances, the gain of distillation, what confirmations have shown."""

from typing import TYPE_CHECKING

from hkbench.analysis.distillation_gain import distillation_gain
from hkbench.analysis.importance import importances
from hkbench.runs.confirm import confirmed
from hkbench.spaces.parameters import CategoricalParameter, FloatParameter, IntParameter
from hkbench.spaces.space import Space
from hkbench.store.findings import FindingsRecord, write_findings
from hkbench.store.rundir import RunDirectory

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def find_out(run: RunDirectory, space: Space) -> FindingsRecord:
    """Draw from a run's trials what can be drawn, and put it into `findings.json`.

    It takes seconds to about a minute: importances are computed some hundred times for their intervals. A
    space without distillation has no gain.
    """
    trials = run.trials()
    record = FindingsRecord(
        importances=importances(trials, space.objectives, distributions_of(space)),
        gain=distillation_gain(trials) if any(trial.loss == "kd" for trial in trials) else None,
        confirmed=confirmed(trials),
    )
    write_findings(run, record)
    return record


def distributions_of(space: Space) -> dict[str, "BaseDistribution"]:
    """Return each parameter of a space as Optuna has it, at its widest where its limits follow another.

    Steps are left out: densities are smoothed over them.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for name in space.order():
        match space.parameters[name]:
            case FloatParameter(log=log):
                found[name] = FloatDistribution(*space.widest(name), log=log)
            case IntParameter(log=log):
                low, high = map(int, space.widest(name))
                found[name] = IntDistribution(low, high, log=log)
            case CategoricalParameter(choices=choices):
                found[name] = CategoricalDistribution(choices)
    return found
