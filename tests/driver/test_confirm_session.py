"""Confirmations in a study and a run directory: they run once each, survive a kill, and steer nothing."""

import optuna
import pytest
from search_fakes import Heard, fake_costs, result_of, tiny_plan

from hkbench.analysis.trials import frontier_numbers
from hkbench.driver.budget import parse_budget
from hkbench.driver.session import SearchSession
from hkbench.runs.confirm import confirmed, due
from hkbench.scheduling.judging import recorded_epochs
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell


@pytest.fixture
def opened(tmp_path):
    """Open (session, study, run, plan) on a plan, again and again on the same folder."""

    def open_(**changes):
        plan = tiny_plan(tmp_path, **changes)
        run = RunDirectory(plan.out)
        study = AskTell.open(run.path / "study.log", plan.space, seed=0)
        return SearchSession(plan, study, run, fake_costs, Heard()), study, run, plan

    return open_


def search(session):
    """Let a session's trials run to their ends, each better than the one before."""
    while (ready := session.next_trial()) is not None:
        session.on_epoch(result_of(ready.number, 1))
        session.on_end(ready.number, result_of(ready.number, 2, accuracy=0.5 + 0.01 * ready.number))


def missing(study, run, plan, k=2, seeds=2):
    return due(study, run.trials(), plan.space.objectives, k, seeds)


def in_optuna(run):
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(run.path / "study.log"))
    )
    return optuna.load_study(study_name="tiny", storage=storage)


def test_each_is_trained_from_its_own_seed_and_recorded_as_what_it_confirms(opened):
    session, study, run, plan = opened()
    search(session)
    frontier = frontier_numbers(run.trials(), plan.space.objectives)
    asked = missing(study, run, plan)
    session.only(asked)
    seeds = set()
    while (ready := session.next_trial()) is not None:
        seeds.add(ready.settings.seed)
        session.on_end(ready.number, result_of(ready.number, 2, accuracy=0.4))
    assert seeds == {1001, 1002}
    assert missing(study, run, plan) == []
    found = confirmed(run.trials())
    assert [(len(row.seeds), row.mean) for row in found] == [(2, 0.4)] * len(found)
    assert {row.trial for row in found} == {each.confirms for each in asked}
    own = {trial.number: trial for trial in run.trials()}
    assert all(own[each.number].params == own[each.confirms].params for each in asked)
    assert frontier_numbers(run.trials(), plan.space.objectives) == frontier


def test_no_sampler_and_no_stopping_rule_hears_of_them(opened):
    session, study, run, plan = opened()
    search(session)
    before = [trial.number for trial in in_optuna(run).best_trials]
    trained = study.trained()
    session.only(missing(study, run, plan))
    search(session)
    told = in_optuna(run)
    assert [trial.number for trial in told.best_trials] == before
    assert study.trained() == trained
    again = [trial for trial in told.trials if "confirms" in trial.user_attrs]
    assert {trial.state.name for trial in again} == {"FAIL"}
    assert {trial.user_attrs["ended"]["state"] for trial in again} == {"COMPLETE"}
    numbers = {epoch.number for epoch in recorded_epochs(plan.space, run, study.running(), fake_costs)}
    assert not numbers & {trial.number for trial in again}


def test_after_a_kill_those_that_were_on_go_on_and_none_is_redone(opened):
    session, study, run, plan = opened()
    search(session)
    asked = missing(study, run, plan)
    session.only(asked)
    first, second = session.next_trial(), session.next_trial()
    session.on_end(first.number, result_of(first.number, 2))
    session.on_epoch(result_of(second.number, 1))

    session, study, run, plan = opened()
    assert study.running() == []  # the search itself has none left
    left = missing(study, run, plan)
    assert [each.number for each in left] == [each.number for each in asked[1:]]
    session.only(left)
    ready = session.next_trial()
    assert (ready.number, ready.recorded_epochs, ready.settings.seed) == (
        second.number,
        1,
        second.settings.seed,
    )
    session.on_end(ready.number, result_of(ready.number, 2))
    search(session)
    assert missing(study, run, plan) == []
    assert len(run.trials()) == 3 + len(asked)


def test_a_kill_between_record_and_study_is_mended_without_telling_the_sampler(opened, monkeypatch):
    session, study, run, plan = opened()
    search(session)
    session.only(missing(study, run, plan, k=1, seeds=1))
    ready = session.next_trial()
    monkeypatch.setattr(study.additions, "tell_confirmed", lambda *_: None)
    session.on_end(ready.number, result_of(ready.number, 2, accuracy=0.9))

    session, study, run, plan = opened()
    session.only(missing(study, run, plan, k=1, seeds=1))
    assert session.next_trial() is None
    assert in_optuna(run).trials[ready.number].state.name == "FAIL"
    assert len(confirmed(run.trials())) == 1


def test_one_that_the_study_has_lost_is_given_back_as_what_it_is(opened):
    session, study, run, plan = opened()
    search(session)
    whole = (run.path / "study.log").read_bytes()
    session.only(missing(study, run, plan, k=1, seeds=1))
    search(session)
    (run.path / "study.log").write_bytes(whole)

    session, study, run, plan = opened()
    assert study.trained() == 3
    assert missing(study, run, plan, k=1, seeds=1)[0].confirms is not None
    session.only(study.additions.confirming())
    assert session.next_trial() is None
    assert study.trained() == 3
    assert missing(study, run, plan, k=1, seeds=1) == []


def test_a_study_that_is_extended_goes_on_with_its_own_trials_first(opened):
    session, study, run, plan = opened()
    search(session)
    session.only(missing(study, run, plan))
    session.next_trial()
    session, study, run, plan = opened(space={"schedule": {"trials": 5, "max_epochs": 2}})
    search(session)
    own = [trial for trial in run.trials() if trial.confirms is None]
    assert len(own) == 5
    assert len(study.additions.confirming()) > 0


def test_one_that_fails_is_told_as_failed_and_not_asked_for_again(opened):
    session, study, run, plan = opened(max_failures=0)
    search(session)
    session.only(missing(study, run, plan, k=1, seeds=1))
    ready = session.next_trial()
    session.on_end(ready.number, {"number": ready.number, "failed": "DivergedError: NaN", "cause": "error"})
    (row,) = confirmed(run.trials())
    assert (row.mean, row.reason) == (None, "none ran to its end: DivergedError: NaN")
    assert missing(study, run, plan, k=1, seeds=1) == []


def test_beside_trials_end_a_search_whose_budget_is_spent(opened):
    session, study, _run, _plan = opened(space={"schedule": {"trials": 16, "max_epochs": 2}})
    session.start_clock(parse_budget("2 epochs"))
    search(session)
    session.close()
    session.only(
        [study.additions.insist({"model": "household_s", "loss": "hard"}, 0, "twin of 0 without a teacher")]
    )
    twin = session.next_trial()
    assert twin is not None
    session.on_end(twin.number, result_of(twin.number, 2))
    assert session.next_trial() is None
