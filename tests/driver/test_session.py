"""The driver's side of a search over a real study and a real run directory, without Ray."""

import optuna
import pytest
from search_fakes import COSTS, Heard, fake_costs, result_of, tiny_plan

from hkbench.driver.budget import Budget
from hkbench.driver.session import SearchSession
from hkbench.store.records import TelemetryRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell


@pytest.fixture
def opened(tmp_path):
    """Open (session, study, run, heard) on a plan, again and again on the same folder."""

    def open_(**changes):
        plan = tiny_plan(tmp_path, **changes)
        run = RunDirectory(plan.out)
        study = AskTell.open(run.path / "study.log", plan.space, seed=0)
        heard = Heard()
        return SearchSession(plan, study, run, fake_costs, heard), study, run, heard

    return open_


def optuna_trials(run):
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(run.path / "study.log"))
    )
    return optuna.load_study(study_name="tiny", storage=storage).trials


def test_a_search_asks_seed_points_first_and_ends_at_its_number_of_trials(opened):
    session, _, run, heard = opened()
    ready = [session.next_trial() for _ in range(4)]
    assert ready[0].settings.temperature == 2
    assert heard.started[0] == (0, "study")
    assert [r.number for r in ready[:3]] == [0, 1, 2]
    assert ready[3] is None
    for r in ready[:3]:
        session.on_epoch(result_of(r.number, 1))
        session.on_end(r.number, result_of(r.number, 2, accuracy=0.6))
    assert session.next_trial() is None
    assert [t.state for t in run.trials()] == ["COMPLETE"] * 3
    assert run.trials()[0].values == {"accuracy": 0.6, "artifact_bytes": 200_000, "latency_ms": 1.0}


def test_states_in_the_study_and_in_the_records_agree(opened):
    session, _, run, _ = opened(max_failures=0)
    numbers = [session.next_trial().number for _ in range(3)]
    session.on_end(numbers[0], result_of(numbers[0], 1, accuracy=0.2))
    session.on_end(numbers[1], {"number": numbers[1], "failed": "DivergedError: NaN", "cause": "error"})
    session.on_end(numbers[2], None)
    trials = run.trials()
    assert [t.state for t in trials] == ["PRUNED", "FAIL", "FAIL"]
    assert [t.reason for t in trials] == [
        "beaten by others at this epoch",
        "DivergedError: NaN",
        "the worker process was lost",
    ]
    assert [t.state.name for t in optuna_trials(run)] == ["PRUNED", "FAIL", "FAIL"]
    assert optuna_trials(run)[0].user_attrs["ended"]["last_values"]["accuracy"] == 0.2


def test_telling_twice_changes_nothing(opened):
    session, study, run, _ = opened()
    number = session.next_trial().number
    session.on_end(number, result_of(number, 2))
    session.on_end(number, result_of(number, 2, accuracy=0.9))
    study.tell_failed(number, "late")
    assert len(run.trials()) == 1
    assert optuna_trials(run)[0].values[0] == 0.5


def test_usage_adds_up_and_missing_stays_missing(opened):
    session, _, run, _ = opened()
    number = session.next_trial().number
    session.on_epoch(result_of(number, 1))
    session.on_end(number, result_of(number, 2))
    usage = run.trials()[0].usage
    assert (usage.seconds, usage.cpu_seconds, usage.peak_rss_bytes) == (4.0, 3.0, 2000)
    assert usage.gpu_seconds is None
    assert usage.gpu_reason == "no GPU"
    assert [row.epoch for row in run.read(TelemetryRecord)] == [1, 2]


def test_records_hold_effective_weights_never_a_bare_alpha(opened):
    session, _, run, _ = opened()
    number = session.next_trial().number
    session.on_end(number, result_of(number, 2))
    trial = run.trials()[0]
    assert (trial.weight_hard, trial.weight_soft, trial.temperature) == (0.3, pytest.approx(2.8), 2)


def test_after_an_interruption_live_trials_go_on_where_they_were(opened):
    session, _, run, _ = opened()
    first, second = session.next_trial().number, session.next_trial().number
    session.on_end(first, result_of(first, 2))
    session.on_epoch(result_of(second, 1, accuracy=0.4))
    session.interrupted = True
    session.on_end(second, None)
    session.close()
    assert session.next_trial() is None
    assert [t.number for t in run.trials()] == [first]

    resumed, _, run, heard = opened()
    ready = resumed.next_trial()
    assert (ready.number, ready.recorded_epochs) == (second, 1)
    resumed.on_end(second, result_of(second, 2, accuracy=0.7))
    third = resumed.next_trial().number
    resumed.on_end(third, result_of(third, 2))
    assert resumed.next_trial() is None
    trials = run.trials()
    assert [t.number for t in trials] == [0, 1, 2]
    assert trials[1].usage.seconds == 4.0
    assert [n for n, _ in heard.started] == [second, third]


def test_a_torn_last_line_of_the_study_is_cut(opened):
    session, _, run, _ = opened()
    number = session.next_trial().number
    session.on_end(number, result_of(number, 2))
    with (run.path / "study.log").open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    again, study, run, _ = opened()
    assert study.trained() == 1
    assert again.next_trial().number == number + 1


def test_the_budget_ends_what_is_running(opened):
    session, _, run, _ = opened()
    numbers = [session.next_trial().number for _ in range(2)]
    session.on_epoch(result_of(numbers[0], 1))
    session.start_clock(Budget(amount=1.0, unit="seconds"))
    assert session.over
    assert session.next_trial() is None
    session.close()
    assert [(t.state, t.reason) for t in run.trials()] == [
        ("PRUNED", "out of budget"),
        ("FAIL", "out of budget before the end of its first epoch"),
    ]


def test_an_architecture_over_its_limit_is_never_started(opened):
    space = {
        "constraints": {"artifact_bytes": {"at_most": 500_000}},
        "schedule": {"trials": 6, "max_epochs": 2},
    }
    session, _, run, _heard = opened(space=space)
    started = []
    while (ready := session.next_trial()) is not None:
        started.append(ready.settings.model)
        session.on_end(ready.number, result_of(ready.number, 2))
    assert set(started) == {"household_s"}
    refused = [t for t in run.trials() if t.state == "PRUNED"]
    assert refused
    assert {t.model for t in refused} == {"baseline_cnn"}
    assert all(t.epochs == 0 and "artifact_bytes" in t.reason for t in refused)


def test_no_point_is_trained_twice_and_a_small_space_ends(opened):
    space = {
        "parameters": {"model": {"type": "categorical", "choices": ["household_s", "baseline_cnn"]}},
        "defaults": {"image_size": 32, "loss": "hard"},
        "start_with": [],
        "schedule": {"trials": 10, "max_epochs": 2},
    }
    session, _, _run, _ = opened(space=space)
    asked = []
    while (ready := session.next_trial()) is not None:
        asked.append(ready.settings.model)
        session.on_end(ready.number, result_of(ready.number, 2))
    assert sorted(asked) == ["baseline_cnn", "household_s"]
    assert session.exhausted


def test_no_trial_begins_that_could_not_end_an_epoch(opened):
    session, *_ = opened()
    number = session.next_trial().number
    session.start_clock(Budget(amount=3600, unit="seconds"))
    session.on_end(number, result_of(number, 2))
    assert session.next_trial() is not None
    session.start_clock(Budget(amount=3, unit="seconds"))  # of which the first epoch has spent 2
    assert not session.over
    assert session.next_trial() is None


def test_a_point_of_which_no_network_can_be_made_fails_and_the_search_goes_on(tmp_path):
    parameters = {
        "model": {"type": "categorical", "choices": ["efficientnet_lite0"]},
        "cut": {"type": "categorical", "choices": [5, 2]},
        "unfreeze": {"type": "categorical", "choices": ["all", "last-4"]},
    }
    space = {"parameters": parameters, "start_with": [], "defaults": {"image_size": 32, "loss": "hard"}}
    plan = tiny_plan(tmp_path, space={**space, "schedule": {"trials": 4, "max_epochs": 1}})
    run, heard = RunDirectory(plan.out), Heard()
    study = AskTell.open(run.path / "study.log", plan.space, seed=0)
    cost = next(iter(COSTS.values()))
    session = SearchSession(plan, study, run, lambda *_: cost, heard)
    while (ready := session.next_trial()) is not None:
        session.on_end(ready.number, result_of(ready.number, 1))
    states = {(trial.params["cut"], trial.params["unfreeze"]): trial.state for trial in run.trials()}
    assert states[2, "last-4"] == "FAIL"
    assert "body has 2 stages" in next(trial.reason for trial in run.trials() if trial.state == "FAIL")
    assert [state for point, state in states.items() if point != (2, "last-4")] == ["COMPLETE"] * 3
