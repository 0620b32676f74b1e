"""Lets hkbench's workers write a note when they begin and end an epoch; Python runs this at its start."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

NOTED = "hkbench.trials.trial"


class NotingFinder(MetaPathFinder):
    """Finds the module of trials and changes what it builds; leaves all others alone."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the module's spec, with a loader that adds the notes."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname == NOTED else None
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_noting(module: Any) -> None:
                load(module)
                _note_epochs(module.TrialRun)

            spec.loader.exec_module = load_noting  # type: ignore[method-assign]
        return spec


def _note_epochs(trial_run: Any) -> None:
    """Let the trainings that a trial builds say which epoch they are at."""
    from benchmarks.killed.notes import write

    build = trial_run.build

    def built(run: Any, data: Any) -> Any:
        training = build(run, data)
        train_epoch, point = training.train_epoch, run._settings.model_dump_json()

        def noted() -> float:
            number, epoch = str(run._number), training.epoch + 1
            write("began", number, epoch, point)
            loss: float = train_epoch()
            write("ended", number, epoch, point)
            return loss

        training.train_epoch = noted
        return training

    trial_run.build = built


sys.meta_path.insert(0, NotingFinder())
