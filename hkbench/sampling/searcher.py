"""What the search asks for its next trial: the study, with hkbench's own sampler where that suits the
space.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hkbench.analysis.trials import losses_of
from hkbench.errors import UsageError
from hkbench.sampling.foresight import Ending, Foresight
from hkbench.sampling.proposer import CostsOf, FrontierProposer, unsuited
from hkbench.spaces.space import STATIC, Space
from hkbench.store.records import EpochRecord, TrialRecord
from hkbench.study.ask_tell import AskTell
from hkbench.study.points import Asked, Propose
from hkbench.study.recorded import Recorded
from hkbench.study.samplers import FRONTIER
from hkbench.trials.failures import GPU_BYTES

STATES: dict[str, Ending] = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "gone"}


def sampler_for(space: Space, wanted: str | None) -> str:
    """Return the sampler that is asked for; without a wish hkbench's own where it suits the space, else TPE.

    Raises:
        UsageError: hkbench's own was asked for, and doesn't suit the space.
    """
    why = unsuited(space)
    if wanted is None:
        return FRONTIER if why is None else "tpe"
    if wanted == FRONTIER and why is not None:
        raise UsageError(f"The sampler '{FRONTIER}' can't be used here: {why}. Take tpe or another.")
    return wanted


class Searcher:
    """Asks the study for trials, and tells the sampler of theirs what it learns from.

    Args:
        study: keeps what was asked, and asks Optuna's samplers.
        space: whose points.
        sampler: by name.
        costs: of a point, known beforehand.
        seed: of everything random.
    """

    def __init__(self, study: AskTell, space: Space, sampler: str, costs: CostsOf, seed: int) -> None:
        self._study = study
        self._objectives = dict(space.objectives)
        self._trained = next((at for at, name in enumerate(space.objectives) if name not in STATIC), 0)
        trained = [name for name in space.objectives if name not in STATIC]
        self._foresight = Foresight(space, seed) if len(trained) == 1 else None
        self._propose: Propose | None = None
        if sampler == FRONTIER and self._foresight is not None:
            self._propose = FrontierProposer(space, self._foresight, costs, seed).propose

    def ask(self) -> Asked | None:
        """Return the next point; None when the space holds no other."""
        return self._study.ask(self._propose)

    def learn(self, recorded: Recorded) -> None:
        """Take note of the trials that have ended on record."""
        if self._foresight is None:
            return
        for number, trial in sorted(recorded.ended.items()):
            if trial.confirms is None:
                self._foresight.started(number, trial.params, trial.thaws)
                self._note(number, recorded.epochs(number))
                self.ended(trial)

    def started(self, asked: Asked, recorded: Sequence[EpochRecord] = ()) -> None:
        """Take note of a trial that begins, or goes on after the epochs that are on record."""
        if self._foresight is not None and asked.confirms is None:
            self._foresight.started(asked.number, asked.params, asked.thaws)
            self._note(asked.number, recorded)

    def _note(self, number: int, epochs: Sequence[EpochRecord]) -> None:
        for row in epochs:
            self.trained(number, row.epoch, row.metrics)

    def trained(self, number: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Take note of what a trial that has started reports after an epoch."""
        if self._foresight is not None:
            loss = losses_of(values, self._objectives)[self._trained]
            self._foresight.trained(number, epoch, loss)

    def best_case(self, number: int, epoch: int, losses: list[float]) -> list[float]:
        """Return the least losses that a trial may end with, for the rule that stops trials."""
        del epoch
        assert self._foresight is not None
        best = list(losses)
        if number in self._foresight.trials:
            best[self._trained] = min(best[self._trained], self._foresight.least_loss(number))
        return best

    @property
    def foresees(self) -> bool:
        """Whether `best_case` can be asked for: one objective is trained for."""
        return self._foresight is not None

    def ended(self, trial: TrialRecord) -> None:
        """Take note of a trial's end."""
        refused = trial.state == "PRUNED" and (trial.epochs == 0 or GPU_BYTES in trial.constraints)
        self.finished(trial.number, "gone" if refused else STATES[trial.state])

    def finished(self, number: int, how: Ending) -> None:
        """Take note of how a trial has ended: `gone` is one that can neither count nor go on."""
        if self._foresight is not None:
            self._foresight.ended(number, how)
