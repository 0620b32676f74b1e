"""What a search does with trials that fail, on the driver's side, with fakes and a clock of its own."""

import time

import optuna
import pytest
from search_fakes import Heard, fake_costs, result_of, tiny_plan

from hkbench.driver.session import SearchSession
from hkbench.driver.watch import LATER_S
from hkbench.errors import UsageError
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.study.storage import CHECKPOINTS
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.fence import Fence
from hkbench.trials.patience import StorageError
from hkbench.trials.watchdog import hang_file


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Opened:
    """A session on a folder, opened again and again."""

    def __init__(self, folder):
        self.folder, self.clock, self.waits = folder, Clock(), []

    def __call__(self, **changes):
        self.plan = tiny_plan(self.folder, **changes)
        self.run = RunDirectory(self.plan.out)
        self.study = AskTell.open(self.run.path / "study.log", self.plan.space, seed=0)
        self.study.narrow_to(self.plan.space)
        self.heard = Heard()
        self.session = SearchSession(
            self.plan,
            self.study,
            self.run,
            fake_costs,
            self.heard,
            clock=self.clock,
            sleep=self.waits.append,
        )
        return self.session

    def look_for(self, seconds):
        late = []
        for _ in range(round(seconds)):
            self.clock.now += 1
            late += self.session.overdue()
        return late


@pytest.fixture
def opened(tmp_path):
    return Opened(tmp_path)


def failed(number, reason, cause="error"):
    return {"number": number, "failed": reason, "cause": cause, "done": True}


def test_a_lost_worker_costs_its_trial_nothing_that_is_on_record(opened):
    session = opened()
    number = session.next_trial().number
    session.on_epoch(result_of(number, 1))
    session.on_lost(number, "")
    assert opened.heard.retried == [(number, "the worker process was lost", 1)]
    again = session.next_trial()
    assert (again.number, again.recorded_epochs, again.attempt) == (number, 1, 1)
    session.on_end(number, result_of(number, 2))
    (trial,) = opened.run.trials()
    assert (trial.state, trial.epochs, trial.usage.seconds) == ("COMPLETE", 2, 4.0)
    assert trial.failures == ["the worker process was lost"]


def test_a_trial_is_given_up_after_its_last_attempt_and_the_search_goes_on(opened):
    session = opened(max_failures=2)
    number = session.next_trial().number
    for attempt in range(3):
        if attempt:
            assert session.next_trial().attempt == attempt
        session.on_lost(number, "")
    (trial,) = opened.run.trials()
    assert (trial.state, trial.reason) == ("FAIL", "the worker process was lost (attempt 3, the last)")
    assert len(trial.failures) == 2
    assert session.next_trial().number == number + 1


def test_failures_of_an_earlier_run_count(opened):
    session = opened(max_failures=1)
    number = session.next_trial().number
    session.on_lost(number, "")
    session = opened(max_failures=1)
    ready = session.next_trial()
    assert (ready.number, ready.attempt) == (number, 0)
    session.on_lost(number, "")
    assert [trial.state for trial in opened.run.trials()] == ["FAIL"]


def test_a_worker_that_hung_is_told_by_where(opened):
    session = opened(max_failures=0)
    number = session.next_trial().number
    note = hang_file(opened.run.path / CHECKPOINTS, number)
    note.parent.mkdir()
    note.write_text(
        'Thread 0x2 (most recent call first):\n  File "/x/hkbench/training/loop.py", line 9 in _step\n'
    )
    session.on_lost(number, "ActorDiedError")
    assert opened.run.trials()[0].reason == (
        "the epoch took too long: it hung at hkbench/training/loop.py, line 9 (_step)"
    )


def test_a_worker_that_froze_is_found_by_the_drivers_own_clock(opened):
    session = opened(epoch_limit_s=30)
    number = session.next_trial().number
    session.on_epoch({"number": number, "built": True})
    assert opened.look_for(30 + LATER_S - 1) == []
    assert opened.look_for(5) == [number]
    assert opened.look_for(100) == []  # once is enough
    session.on_lost(number, "killed by `ray.kill`")
    assert "froze" in opened.heard.retried[0][1]
    assert session.next_trial().number == number


def test_a_clock_on_the_wall_that_jumps_changes_nothing(opened, monkeypatch):
    def play(session):
        told = []
        for jump in (0, 1e9, -1e9):
            monkeypatch.setattr(time, "time", lambda jump=jump: 1.7e9 + jump)
            ready = session.next_trial()
            session.on_epoch(result_of(ready.number, 1))
            told.append((ready.number, session.over, opened.look_for(3)))
        return told

    session = opened(epoch_limit_s=30)
    assert play(session) == [(0, False, []), (1, False, []), (2, False, [])]


def test_an_exception_is_not_tried_again(opened):
    session = opened()
    number = session.next_trial().number
    session.on_end(number, failed(number, "The loss became nan at step 2."))
    (trial,) = opened.run.trials()
    assert (trial.state, trial.reason, trial.failures) == ("FAIL", "The loss became nan at step 2.", [])


def test_memory_is_tried_again_once_and_then_named(opened):
    session = opened(max_failures=5)
    number = session.next_trial().number
    session.on_lost(number, "ray.exceptions.OutOfMemoryError: node running low on memory")
    assert session.next_trial().number == number
    session.on_lost(number, "ray.exceptions.OutOfMemoryError: node running low on memory")
    (trial,) = opened.run.trials()
    assert trial.state == "FAIL"
    assert "memory" in trial.reason


@pytest.mark.parametrize("spoiled", [{"accuracy": None}, {"accuracy": float("nan")}, {"log_loss": "low"}])
def test_a_report_without_its_numbers_fails_its_trial_alone(opened, spoiled):
    session = opened()
    number = session.next_trial().number
    report = {**result_of(number, 1), **spoiled}
    report = {name: value for name, value in report.items() if value is not None or name.startswith("usage")}
    assert not session.expects(report)
    session.on_end(number, report)
    assert opened.run.trials()[0].reason.startswith("its report ")
    assert opened.study.running() == []
    assert session.next_trial().number == number + 1


def test_five_trials_that_fail_alike_stop_the_search_and_are_tried_again_later(opened):
    changes = {"space": {"schedule": {"trials": 20, "max_epochs": 2}}}
    session = opened(**changes)
    for _ in range(5):
        number = session.next_trial().number
        session.on_end(number, failed(number, f"No kernel image for device {number}."))
    assert session.next_trial() is None
    assert session.hopeless == f"No kernel image for device {number}."
    tried = [trial.params for trial in opened.run.trials()]
    assert len(tried) == 5
    session = opened(**changes)
    session.try_failed_again()
    again = [session.next_trial() for _ in range(5)]
    assert [opened.study.params_of(ready.number) for ready in again] == tried
    assert opened.heard.started[0] == (number + 1, "study")
    for ready in again:
        session.on_end(ready.number, result_of(ready.number, 2))
    assert session.hopeless is None
    assert opened.study.trained() == 5
    session.try_failed_again()
    assert session.next_trial().number > again[-1].number  # each is tried again once


def test_other_failures_and_one_success_keep_a_search_going(opened):
    session = opened(space={"schedule": {"trials": 20, "max_epochs": 2}})
    number = session.next_trial().number
    session.on_end(number, result_of(number, 2))
    for _ in range(7):
        number = session.next_trial().number
        session.on_end(number, failed(number, "The loss became nan."))
    assert session.hopeless is None
    assert session.next_trial() is not None


def test_trials_cut_off_by_the_budget_are_no_sign_of_anything(opened):
    session = opened(space={"schedule": {"trials": 20, "max_epochs": 2}})
    for _ in range(7):
        session.next_trial()
    session.close()
    assert [trial.state for trial in opened.run.trials()] == ["FAIL"] * 7
    assert session.hopeless is None


def test_a_trial_taken_from_a_worker_shuts_it_out(opened, tmp_path):
    session = opened()
    fence = Fence.raised(CheckpointStore.at(opened.run.path / CHECKPOINTS))
    session._attempts._fence = fence
    number = session.next_trial().number
    session.on_lost(number, "")
    with pytest.raises(Exception, match="taken over"):
        fence.check(number)
    fence.of_attempt(session.next_trial().attempt).check(number)


def test_records_on_a_disk_that_comes_back_are_complete(opened, monkeypatch):
    session = opened()
    number = session.next_trial().number
    append, failing = RunDirectory.append, [3]

    def flaky(run, record):
        if failing[0]:
            failing[0] -= 1
            raise OSError(5, "Input/output error")
        append(run, record)

    monkeypatch.setattr(RunDirectory, "append", flaky)
    session.on_end(number, result_of(number, 2))
    assert opened.waits == [0.5, 1.0, 2.0]
    assert [row.epoch for row in opened.run.epochs()] == [2]
    assert [trial.state for trial in opened.run.trials()] == ["COMPLETE"]


def journal_that_fails(monkeypatch, times, error, write_half=False):
    append, left = optuna.storages.journal.JournalFileBackend.append_logs, [times]

    def flaky(backend, logs):
        if left[0]:
            left[0] -= 1
            if write_half:
                with open(backend._file_path, "ab") as file:  # noqa: PTH123 - as Optuna has it
                    file.write(b'{"op_code": 4, "wor')
            raise error
        append(backend, logs)

    monkeypatch.setattr(optuna.storages.journal.JournalFileBackend, "append_logs", flaky)


def test_a_study_on_a_disk_that_comes_back_is_whole(opened, monkeypatch):
    session = opened()
    journal_that_fails(monkeypatch, 2, OSError(5, "Input/output error"), write_half=True)
    first = session.next_trial()
    session.on_end(first.number, result_of(first.number, 2))
    session = opened()
    assert opened.study.trained() == 1
    assert opened.study.running() == []


def test_a_study_on_a_disk_that_stays_away_stops_and_loses_nothing(opened, monkeypatch):
    session = opened()
    number = session.next_trial().number
    with monkeypatch.context() as patch:
        journal_that_fails(patch, 99, OSError(5, "Input/output error"))
        with pytest.raises(StorageError, match="--resume"):
            session.on_end(number, result_of(number, 2))
    session = opened()
    assert session.next_trial().number == number + 1  # its end was on record, and is told now
    assert opened.study.trained() == 1


def test_a_full_disk_under_the_study_is_said_at_once_and_leaves_it_readable(opened, monkeypatch):
    session = opened()
    number = session.next_trial().number
    with monkeypatch.context() as patch:
        journal_that_fails(patch, 1, OSError(28, "No space left on device"), write_half=True)
        with pytest.raises(OSError, match="No space"):
            session.on_end(number, result_of(number, 2))
    assert opened.waits == []
    assert opened().next_trial().number == number + 1
    session = opened()
    ready = session.next_trial()
    with pytest.raises(UsageError, match="No room"):
        session.on_end(ready.number, failed(ready.number, "No room on the disk to write x.", "no_room"))
