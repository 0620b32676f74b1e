"""How a search looks while it goes on: a table on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hkbench.cli.console import PLAIN_INTERVAL_S, err
from hkbench.driver.plan import SearchPlan
from hkbench.runs.extend import NO_LIMIT
from hkbench.spaces.settings import TrialSettings
from hkbench.store.records import EpochRecord, TrialRecord
from hkbench.store.rundir import RunDirectory
from hkbench.training.loop import EpochResult
from hkbench.training.losses import LossConfig
from hkbench.training.teacher import TeacherRecipe

SHOWN_TRIALS = 12
REDRAWS_A_SECOND = 4
WIDTH_WITHOUT_POINT = 34
SHORTEST_POINT = 20
MARKS = {"COMPLETE": "done", "PRUNED": "stopped", "FAIL": "failed"}


def minutes(seconds: float) -> str:
    """Return a time as minutes and seconds, such as 3m05s."""
    whole = round(seconds)
    return f"{whole // 60}m{whole % 60:02d}s"


def point_text(settings: TrialSettings) -> str:
    """Return the searched part of a trial's settings in a few words."""
    taught = _taught_text(settings.loss_config)
    optimizer = f"{settings.optimizer} {settings.learning_rate:.3g}"
    precision = "" if settings.precision == "fp32" else f" {settings.precision}"
    return f"{settings.architecture.label} {settings.image_size}px{precision}, {taught}, {optimizer}"


def _taught_text(loss: LossConfig) -> str:
    if loss.temperature is None:
        return "no teacher"
    if loss.name == "kd":
        return f"T {loss.temperature:.3g} α {loss.weight_hard:.2f}"
    weights = " ".join(f"{term} {weight:.3g}" for term, weight in loss.weights)
    return f"{loss.name} T {loss.temperature:.3g} {weights}"


class PlainLines:
    """One line for each thing that happens: for logs, pipes and CI."""

    def __init__(self, plan: SearchPlan) -> None:
        self._plan = plan
        self._started = time.perf_counter()
        self._last_line = self._started
        self._phase = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def _say(self, text: str) -> None:
        self._last_line = time.perf_counter()
        err.print(f"{minutes(self._last_line - self._started)}  {text}", markup=False)

    def phase(self, name: str) -> None:
        """Say which phase begins."""
        self._phase = name
        self._say(f"{name} …")

    def advance(self, done: int, total: int) -> None:
        """Say every few seconds how far the phase is."""
        if done < total and time.perf_counter() - self._last_line >= PLAIN_INTERVAL_S:
            self._say(f"{self._phase}: {done} of {total}")

    def planned(self, plan: SearchPlan) -> None:
        """Take the number of epochs that was chosen."""
        self._plan = plan

    def teacher_epoch(self, result: EpochResult, recipe: TeacherRecipe) -> None:
        """Say how well the teacher does."""
        self._say(
            f"teacher, epoch {result.epoch} of at most {recipe.max_epochs}: "
            f"{result.metrics['accuracy']:.1%} in {result.seconds:.0f} s"
        )

    def trial_started(self, number: int, settings: TrialSettings, seed_point: str | None) -> None:
        """Say which point a trial tries."""
        named = f" ({seed_point})" if seed_point else ""
        self._say(f"trial {number}{named}: {point_text(settings)}")

    def trial_epoch(self, epoch: EpochRecord) -> None:
        """Say how well a trial does."""
        last = self._plan.space.schedule.max_epochs
        self._say(f"trial {epoch.trial}, epoch {epoch.epoch} of {last}: {epoch.metrics['accuracy']:.1%}")

    def trial_retried(self, number: int, reason: str, epoch: int) -> None:
        """Say that a trial goes on in another worker."""
        self._say(f"trial {number} goes on from epoch {epoch}: {reason}")

    def trial_ended(self, trial: TrialRecord) -> None:
        """Say how a trial ended."""
        why = f": {trial.reason}" if trial.reason else ""
        self._say(f"trial {trial.number} {MARKS[trial.state]} after {trial.epochs} epochs{why}")


class LiveTable:
    """The trials of a search as a table that is drawn again as it goes on."""

    def __init__(self, plan: SearchPlan) -> None:
        self._plan = plan
        self._started = time.perf_counter()
        self._phase = ""
        self._phase_started = self._started
        self._progress = ""
        self._search_started: float | None = None
        self._points: dict[int, str] = {}
        self._accuracy: dict[int, float] = {}
        self._epochs: dict[int, int] = {}
        before = RunDirectory(plan.out).trials() if plan.resume else []
        self._ended = {trial.number: trial for trial in before}
        self._ended_before = len(before)
        recorded = RunDirectory(plan.out).epochs() if plan.resume else []
        at_once = plan.concurrency or 1
        self._spent_before_s = sum(row.seconds for row in recorded if row.trial != "teacher") / at_once
        self._epochs_before = max((row.epoch for row in recorded if row.trial == 0), default=0)
        self._live = Live(
            console=err, get_renderable=self._draw, refresh_per_second=REDRAWS_A_SECOND, transient=True
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def phase(self, name: str) -> None:
        """Show the phase that begins, and leave a line for the one that ends."""
        now = time.perf_counter()
        if self._phase:
            err.print(f"{self._phase}: {minutes(now - self._phase_started)}", markup=False, style="dim")
        self._phase, self._phase_started, self._progress = name, now, ""
        if name == "search":
            self._search_started = now

    def advance(self, done: int, total: int) -> None:
        """Show how far the phase is."""
        self._progress = f"{done} of {total}"

    def planned(self, plan: SearchPlan) -> None:
        """Take the number of epochs that was chosen."""
        self._plan = plan

    def teacher_epoch(self, result: EpochResult, recipe: TeacherRecipe) -> None:
        """Show how well the teacher does."""
        self._progress = (
            f"epoch {result.epoch} of at most {recipe.max_epochs}, {result.metrics['accuracy']:.1%}"
        )

    def trial_started(self, number: int, settings: TrialSettings, seed_point: str | None) -> None:
        """Show the point that a trial tries."""
        self._points[number] = point_text(settings) + (f" ({seed_point})" if seed_point else "")
        self._epochs.setdefault(number, 0)

    def trial_epoch(self, epoch: EpochRecord) -> None:
        """Show how well a trial does."""
        if isinstance(epoch.trial, int):
            self._epochs[epoch.trial] = epoch.epoch
            self._accuracy[epoch.trial] = epoch.metrics["accuracy"]

    def trial_retried(self, number: int, reason: str, epoch: int) -> None:
        """Leave a line for a trial that goes on in another worker."""
        err.print(f"trial {number} goes on from epoch {epoch}: {reason}", markup=False, style="dim")

    def trial_ended(self, trial: TrialRecord) -> None:
        """Show how a trial ended."""
        self._ended[trial.number] = trial

    def _draw(self) -> RenderableType:
        now = time.perf_counter()
        line = Text(f"{minutes(now - self._started)}  {self._phase}  {self._progress}{self._eta(now)}")
        if not self._points:
            return line
        return Group(self.table(err.width), line)

    def _eta(self, now: float) -> str:
        """Return when the trials should be through, from those that have ended or from the budget."""
        if self._phase == "train":
            return self._training_left(now)
        if self._search_started is None or self._phase != "search":
            return ""
        spent = now - self._search_started
        total, budget = self._plan.space.schedule.trials, self._plan.budget
        guesses = []
        ended = len(self._ended) - self._ended_before
        if ended:
            guesses.append(spent / ended * (total - len(self._ended)))
        if budget is not None and budget.unit == "seconds":
            guesses.append(budget.amount - self._spent_before_s - spent)
        left = f", about {minutes(max(0.0, min(guesses)))} left" if guesses else ""
        return f"{len(self._ended)}{'' if total >= NO_LIMIT else f' of {total}'} trials{left}"

    def _training_left(self, now: float) -> str:
        """Return how long a single training will take, from its epochs since it began or was resumed."""
        done = max(self._epochs.values(), default=0)
        since = done - self._epochs_before
        if since < 1:
            return " steps"
        left = (now - self._phase_started) / since * (self._plan.space.schedule.max_epochs - done)
        return f" steps, about {minutes(left)} left"

    def table(self, width: int) -> Table:
        """Return the newest trials and the best one, the points cut to what `width` characters leave them."""
        table = Table(box=None, pad_edge=False)
        table.add_column("trial", justify="right")
        table.add_column("epoch", justify="right")
        table.add_column("accuracy", justify="right")
        table.add_column("state")
        room = max(SHORTEST_POINT, width - WIDTH_WITHOUT_POINT)
        table.add_column("point", no_wrap=True, overflow="ellipsis", max_width=room)
        best = max(self._accuracy, key=self._accuracy.__getitem__, default=None)
        newest = sorted(self._points)[-SHOWN_TRIALS:]
        shown = sorted({*newest, *([best] if best is not None else [])})
        for number in shown:
            accuracy = self._accuracy.get(number)
            table.add_row(
                str(number),
                f"{self._epochs[number]}/{self._plan.space.schedule.max_epochs}",
                "–" if accuracy is None else f"{accuracy:.1%}",
                self._state(number),
                self._points[number],
                style="bold" if number == best else "",
            )
        return table

    def _state(self, number: int) -> str:
        ended = self._ended.get(number)
        return MARKS[ended.state] if ended is not None else "training"
