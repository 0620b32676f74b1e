"""Where a kill, a crash or a copied file leaves study, records and checkpoints in disagreement."""

import json

import optuna
import pytest
import torch
from search_fakes import Heard, fake_costs, result_of, tiny_plan

from hkbench.driver.session import SearchSession
from hkbench.errors import UsageError
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.study.storage import CHECKPOINTS
from hkbench.training.checkpoint import load_checkpoint, save_checkpoint
from hkbench.trials.checkpoint_store import CheckpointStore
from hkbench.trials.fence import Fence
from hkbench.trials.trial import Job, TrialRun

SCHEDULE = {"trials": 6, "max_epochs": 4, "grace": 4}


class Opened:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self):
        plan = tiny_plan(self.folder, space={"schedule": SCHEDULE})
        self.run = RunDirectory(plan.out)
        self.study = AskTell.open(self.run.path / "study.log", plan.space, seed=0)
        self.heard = Heard()
        self.job = Job(
            shared=None,
            checkpoints=CheckpointStore.at(self.run.path / CHECKPOINTS),
            max_epochs=4,
            seed=0,
            threads=1,
            device="cpu",
        )
        return SearchSession(plan, self.study, self.run, fake_costs, self.heard, job=self.job)

    def keep(self, number, epochs):
        """Write a trial's checkpoint as it is after so many epochs."""
        results = [result_of(number, epoch) for epoch in range(1, epochs + 1)]
        save_checkpoint(self.job.checkpoint(number), {"training": {}, "results": results})

    def cut(self, name, lines):
        """Keep so many lines of a file in the run directory."""
        path = self.run.path / name
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


@pytest.fixture
def opened(tmp_path):
    return Opened(tmp_path)


def test_epochs_count_as_far_as_they_follow_without_a_gap(opened):
    session = opened()
    number = session.next_trial().number
    for epoch in (1, 2, 3):
        session.on_epoch(result_of(number, epoch))
    path = opened.run.path / "epochs.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:20], lines[2]]) + "\n")
    session = opened()
    ready = session.next_trial()
    assert (ready.number, ready.recorded_epochs) == (number, 1)
    for epoch in (2, 3, 4):  # reported again from the checkpoint
        session.on_epoch(result_of(number, epoch))
    assert [row.epoch for row in opened.run.epochs()] == [1, 2, 3, 4]


def test_recorded_epochs_that_are_trained_again_are_neither_counted_nor_judged(opened):
    session = opened()
    number = session.next_trial().number
    for epoch in (1, 2):
        session.on_epoch(result_of(number, epoch, accuracy=0.5))
    session = opened()
    assert session.next_trial().recorded_epochs == 2
    for epoch in (1, 2):
        again = result_of(number, epoch, accuracy=0.1)
        assert session.expects(again)
        assert session.judged(again) is None
        session.on_epoch(again)
    assert session.judged(result_of(number, 3)).epoch == 3
    assert [row.metrics["accuracy"] for row in opened.run.epochs()] == [0.5, 0.5]
    assert opened.heard.epochs == []
    session.on_epoch(result_of(number, 3))
    session.on_end(number, result_of(number, 4))
    (trial,) = opened.run.trials()
    assert (trial.epochs, trial.usage.seconds) == (4, 8.0)


def test_a_trial_that_the_study_knows_and_the_records_lost_is_written_again(opened):
    session = opened()
    first, second = session.next_trial().number, session.next_trial().number
    for number in (first, second):
        opened.keep(number, 4)
        for epoch in (1, 2, 3):
            session.on_epoch(result_of(number, epoch))
        session.on_end(number, result_of(number, 4, accuracy=0.5))
    before = opened.run.trials()
    opened.cut("trials.jsonl", 1)
    opened.cut("epochs.jsonl", 5)
    opened.cut("telemetry.jsonl", 5)
    session = opened()
    after = opened.run.trials()
    assert [trial.number for trial in after] == [first, second]
    assert after[1].model_copy(update={"started": None, "ended": None}) == before[1].model_copy(
        update={"started": None, "ended": None}
    )
    assert len(opened.run.epochs()) == 8
    assert opened.study.trained() == 2


def test_a_trial_whose_record_and_checkpoint_are_lost_is_no_candidate(opened):
    session = opened()
    number = session.next_trial().number
    session.on_end(number, result_of(number, 4))
    for name in ("trials.jsonl", "epochs.jsonl", "telemetry.jsonl"):
        opened.cut(name, 0)
    opened()
    (trial,) = opened.run.trials()
    assert (trial.state, trial.reason) == ("FAIL", "its record and its checkpoint were lost")


def test_a_trial_that_is_on_record_and_the_study_lost_is_given_back(opened):
    session = opened()
    kept = (opened.run.path / "study.log").read_text()
    numbers = [session.next_trial().number for _ in range(3)]
    for number in numbers:
        session.on_end(number, result_of(number, 4))
    (opened.run.path / "study.log").write_text(kept)  # as it was copied back
    session = opened()
    assert session.next_trial().number > max(numbers)
    assert opened.study.trained() == 3
    assert [opened.study.params_of(number) for number in numbers] == [
        trial.params for trial in opened.run.trials()
    ]


def test_a_study_of_other_points_than_the_records_is_refused(opened):
    session = opened()
    number = session.next_trial().number
    session.on_end(number, result_of(number, 4))
    path = opened.run.path / "trials.jsonl"
    record = json.loads(path.read_text())
    record["params"]["temperature"] = 9.5
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(UsageError, match=r"don't belong together: trial 0"):
        opened()


def test_a_point_that_a_kill_cut_off_while_it_was_asked_for_is_completed(opened):
    session = opened()
    session.next_trial()  # the seed point
    ask = optuna.storages.JournalStorage.set_trial_param
    with pytest.MonkeyPatch.context() as patch:
        calls = []

        def die(storage, *arguments):
            calls.append(arguments)
            if len(calls) == 2:
                raise KeyboardInterrupt
            ask(storage, *arguments)

        patch.setattr(optuna.storages.JournalStorage, "set_trial_param", die)
        with pytest.raises(KeyboardInterrupt):
            session.next_trial()
    session = opened()
    points = [session.next_trial() for _ in range(2)]
    assert [ready.number for ready in points] == [0, 1]
    for ready in points:
        assert (ready.settings.loss == "kd") == (ready.settings.temperature is not None)
        session.on_end(ready.number, result_of(ready.number, 4))


def test_a_lock_that_a_killed_driver_left_on_the_study_is_removed(opened):
    session = opened()
    (opened.run.path / "study.log.lock").write_text("")
    session = opened()
    assert session.next_trial() is not None


class Counting:
    """A training that only counts its epochs, as `TrialRun` uses one."""

    precision = "float32"

    def __init__(self):
        self.epoch, self.on_step, self.device_share = 0, None, None

    def load_state_dict(self, state):
        self.epoch = state["epoch"]

    def state_dict(self):
        return {"epoch": self.epoch}

    def epochs(self):
        while self.epoch < 4:
            self.epoch += 1
            yield self


class CountingRun(TrialRun):
    def build(self, data):
        return Counting()

    def _result(self, epoch, sampler, precision):
        return result_of(self._number, epoch.epoch)


class Shared:
    def touch(self): ...


@pytest.fixture
def trained(tmp_path, opened):
    """Run trial 0, of which so many epochs are on record; return the epochs that it reports."""
    opened()
    fence = Fence.raised(opened.job.checkpoints)
    job = Job(
        shared=Shared(),
        checkpoints=opened.job.checkpoints,
        max_epochs=4,
        seed=0,
        threads=1,
        device="cpu",
        fence=fence,
    )
    settings = tiny_plan(tmp_path).space.first_settings()

    def run(recorded, stop_after=4):
        found = []
        for result in CountingRun(job, 0, settings, recorded).results(None):
            if "epoch" in result:
                found.append(result["epoch"])
            if found and found[-1] == stop_after:
                break
        return found, job.checkpoint(0)

    return run


def test_a_trial_goes_on_from_its_checkpoint(trained):
    assert trained(0, stop_after=2)[0] == [1, 2]
    assert trained(2)[0] == [3, 4]


def test_an_epoch_that_was_never_recorded_is_reported_again(trained):
    trained(0, stop_after=3)
    assert trained(1)[0] == [2, 3, 4]


def test_a_checkpoint_behind_the_record_trains_again_what_it_lacks(trained):
    trained(0, stop_after=1)
    assert trained(3)[0] == [2, 3, 4]


@pytest.mark.parametrize("length", [None, 0, 200])
def test_a_checkpoint_that_is_gone_or_torn_begins_the_trial_anew(trained, length):
    _, path = trained(0, stop_after=2)
    if length is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:length])
    assert trained(2)[0] == [1, 2, 3, 4]
    assert [result["epoch"] for result in load_checkpoint(path)["results"]] == [1, 2, 3, 4]


def test_a_checkpoint_of_something_else_begins_the_trial_anew(trained):
    _, path = trained(0, stop_after=1)
    torch.save({"weights": [1.0]}, path)
    assert trained(1)[0] == [1, 2, 3, 4]
