"""A search whose trials share GPUs, on the driver's side: what each holds, what too little memory does."""

import optuna
import pytest
from search_fakes import Heard, fake_costs, result_of, tiny_plan

from hkbench.driver.cluster import Node
from hkbench.driver.gpu_packing import GpuPacking
from hkbench.driver.session import SearchSession
from hkbench.driver.shares import GpuShares
from hkbench.store.records import TelemetryRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.training.gpu_memory import TORCHS_OWN
from hkbench.trials.failures import GPU_BYTES

MIB, GIB = 1024**2, 1024**3
ONE_MODEL = {
    "parameters": {
        "model": {"type": "categorical", "choices": ["household_s"]},
        "loss": {"type": "categorical", "choices": ["hard"]},
        "weight_decay": {"type": "float", "low": 1e-5, "high": 1e-3},
    },
    "start_with": [],
    "schedule": {"trials": 3, "max_epochs": 3, "grace": 1, "reduction": 3},
}


class Opened:
    """A session on a folder, opened again and again, its trials on one GPU of 16 GiB and eight cores."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *, gpus=1, **changes):
        self.plan = tiny_plan(self.folder, **{"space": ONE_MODEL, "max_failures": 1} | changes)
        self.run = RunDirectory(self.plan.out)
        self.study = AskTell.open(self.run.path / "study.log", self.plan.space, seed=0)
        self.study.narrow_to(self.plan.space)
        self.heard = Heard()
        session = SearchSession(self.plan, self.study, self.run, fake_costs, self.heard)
        if gpus:
            packing = GpuPacking(device_bytes=16 * GIB, cores_per_gpu=8, data_bytes={})
            shares = GpuShares(packing, lambda: [Node(name="here", cpus=8.0 * gpus, gpus=gpus)])
            shares.recall(self.run, self.plan.space)
            session.shares = shares
        return session

    def optuna_trial(self, number):
        (name,) = optuna.get_all_study_names(self._storage)
        return optuna.load_study(study_name=name, storage=self._storage).trials[number]

    @property
    def _storage(self):
        backend = optuna.storages.journal.JournalFileBackend(str(self.run.path / "study.log"))
        return optuna.storages.JournalStorage(backend)


@pytest.fixture
def opened(tmp_path):
    return Opened(tmp_path)


def took(number, epoch, peak_bytes):
    """Return the report of an epoch in which torch has reserved so much."""
    gpu = {"usage_peak_gpu_bytes": peak_bytes, "usage_gpu_reason": TORCHS_OWN, "device": "cuda:0"}
    return result_of(number, epoch) | gpu


def out_of_memory(number, asked_bytes=64 * MIB, others_bytes=None):
    return {
        "number": number,
        "failed": "OutOfMemoryError: CUDA out of memory.",
        "cause": "gpu_memory",
        "oom_asked_bytes": asked_bytes,
        "oom_others_bytes": others_bytes,
        "done": True,
    }


def in_an_eighth(session):
    """Train one trial to its end on a whole device, and return the next, which needs an eighth."""
    first = session.next_trial()
    assert (first.held.gpus, first.held.threads, first.held.memory_fraction) == (1.0, 8, 1.0)
    for epoch in (1, 2):
        session.on_epoch(took(first.number, epoch, 300 * MIB))
    session.on_end(first.number, took(first.number, 3, 300 * MIB))
    return session.next_trial()


def test_trials_hold_a_whole_gpu_until_one_was_measured_then_their_share(opened):
    session = opened()
    ready = in_an_eighth(session)
    assert (ready.held.gpus, ready.held.cpus, ready.held.threads) == (0.125, 1, 1)
    assert 0 < ready.held.memory_fraction < 0.125
    session.on_epoch(took(ready.number, 1, 300 * MIB))
    rows = [(row.name, row.gpu_share) for row in opened.run.read(TelemetryRecord)]
    assert rows == [("0", 1.0)] * 3 + [("1", 0.125)]
    assert [trial.gpu_share for trial in opened.run.trials()] == [1.0]


def test_on_a_cpu_nothing_is_shared_and_nothing_said_of_it(opened):
    session = opened(gpus=0)
    ready = session.next_trial()
    assert ready.held is None
    session.on_end(ready.number, out_of_memory(ready.number))
    (trial,) = opened.run.trials()
    assert (trial.state, trial.gpu_share, trial.constraints) == ("FAIL", None, {})


def test_out_of_memory_in_a_share_goes_on_in_a_larger_one_from_its_last_epoch(opened):
    session = opened()
    ready = in_an_eighth(session)
    session.on_epoch(took(ready.number, 1, 300 * MIB))
    session.on_end(ready.number, out_of_memory(ready.number))
    again = session.next_trial()
    assert (again.number, again.recorded_epochs, again.attempt) == (ready.number, 1, 1)
    assert again.held.gpus == 0.1666
    assert opened.heard.retried == [
        (
            ready.number,
            "trial 1 ran out of memory in 1/8 of a GPU; 64 MiB more were asked for; it goes on in 1/6, and "
            "all of household_s is packed less",
            1,
        )
    ]
    assert session.next_trial().held.gpus == 0.1666  # others of its kind too
    session.on_end(ready.number, took(ready.number, 3, 1800 * MIB))
    (_, trial) = opened.run.trials()
    assert (trial.state, trial.gpu_share, len(trial.failures)) == ("COMPLETE", 0.1666, 1)


def test_a_share_that_was_too_small_is_not_counted_as_a_failure(opened):
    session = opened(max_failures=1)
    ready = in_an_eighth(session)
    for _ in range(3):
        session.on_end(ready.number, out_of_memory(ready.number))
        assert session.next_trial().number == ready.number
    session.on_lost(ready.number, "")
    assert session.next_trial().number == ready.number  # its one retry
    session.on_lost(ready.number, "")
    assert opened.run.trials()[-1].reason == "the worker process was lost (attempt 5, the last)"


def test_alone_on_a_gpu_it_is_infeasible_by_the_bytes_that_were_asked_for(opened):
    session = opened()
    number = session.next_trial().number
    session.on_epoch(took(number, 1, 15 * GIB))
    session.on_end(number, out_of_memory(number, asked_bytes=2 * GIB))
    (trial,) = opened.run.trials()
    assert (trial.state, trial.epochs, trial.constraints) == ("PRUNED", 1, {GPU_BYTES: 2.0 * GIB})
    assert trial.reason == "out of memory alone on a GPU of 16.0 GiB; 2.0 GiB more were asked for"
    told = opened.optuna_trial(number)
    assert (told.state.name, told.constraints) == ("PRUNED", {GPU_BYTES: 2.0 * GIB})


def test_one_that_no_gpu_holds_counts_as_trained_even_before_its_first_epoch(opened):
    session = opened()
    for number in range(3):
        assert session.next_trial().number == number
        session.on_end(number, out_of_memory(number))
    assert opened.study.trained() == 3
    assert session.next_trial() is None
    assert session.idle


def test_a_gpu_that_others_hold_fails_the_trial_with_that_reason(opened):
    session = opened()
    number = session.next_trial().number
    session.on_end(number, out_of_memory(number, others_bytes=12 * GIB))
    (trial,) = opened.run.trials()
    assert (trial.state, trial.constraints) == ("FAIL", {})
    assert trial.reason.startswith("out of memory on a GPU of which other processes held 12.0 GiB")
    assert session.next_trial().number == number + 1


def test_a_search_that_is_resumed_remembers_peaks_and_shares_that_were_too_small(opened):
    session = opened()
    ready = in_an_eighth(session)
    session.on_epoch(took(ready.number, 1, 300 * MIB))
    session.on_end(ready.number, out_of_memory(ready.number))
    session = opened()
    again = session.next_trial()
    assert (again.number, again.recorded_epochs, again.held.gpus) == (ready.number, 1, 0.1666)
    session.on_end(again.number, took(again.number, 3, 1800 * MIB))
    assert opened().next_trial().held.gpus == 0.1666


def test_a_trial_gives_its_share_back_however_it_ends(opened):
    session = opened(space=ONE_MODEL | {"schedule": {"trials": 9, "max_epochs": 3, "grace": 1}})
    for end in (
        lambda number: session.on_end(number, took(number, 3, 15 * GIB)),
        lambda number: session.on_end(number, out_of_memory(number)),
        lambda number: session.on_lost(number, ""),
        lambda number: session.on_lost(number, ""),
        lambda number: session.on_end(number, took(number, 1, 15 * GIB)),
    ):
        assert session.shares.has_room
        number = session.next_trial().number
        assert not session.shares.has_room
        end(number)
    assert session.shares.has_room
