"""The searcher: which sampler a space gets, and that one which is resumed knows what the one before knew."""

import pytest

from hkbench.errors import UsageError
from hkbench.sampling.searcher import Searcher, sampler_for
from hkbench.spaces.space import Space
from hkbench.store.records import EpochRecord, TrialRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.study.recorded import Recorded

LAST = 4
RATES = [0.001, 0.002, 0.004, 0.008, 0.016, 0.032]


def space_of(**changes):
    found = {
        "name": "small",
        "about": "for tests",
        "parameters": {
            "model": {"type": "categorical", "choices": ["household_s", "household_m"]},
            "learning_rate": {"type": "categorical", "choices": RATES},
        },
        "objectives": {"accuracy": "maximize", "artifact_bytes": "minimize"},
        "schedule": {"max_epochs": LAST},
        "defaults": {"loss": "hard", "image_size": 32},
    }
    return Space.model_validate(found | changes)


def costs_of(point):
    return {"artifact_bytes": 1e5 if point["model"] == "household_s" else 4e5}


def accuracy_after(params, epoch):
    return (0.5 + 4 * params["learning_rate"] + 0.1 * (params["model"] == "household_m")) * epoch / LAST


@pytest.mark.parametrize("wanted", [None, "frontier"])
def test_a_space_that_suits_it_gets_our_own_sampler(wanted):
    assert sampler_for(space_of(), wanted) == "frontier"


def test_another_sampler_is_taken_where_it_is_asked_for():
    assert sampler_for(space_of(), "nsga2") == "nsga2"


def test_two_trained_objectives_get_tpe_and_ours_is_refused_with_the_reason():
    space = space_of(objectives={"accuracy": "maximize", "log_loss": "minimize"})
    assert sampler_for(space, None) == "tpe"
    with pytest.raises(UsageError, match="one objective that is trained for, and small has 2"):
        sampler_for(space, "frontier")


def searcher_of(study):
    return Searcher(study, space_of(), "frontier", costs_of, seed=0)


def ended(run, asked, epochs, state, **changes):
    """Record a trial with its epochs."""
    for epoch in range(1, epochs + 1):
        metrics = {"accuracy": accuracy_after(asked.params, epoch)}
        run.append(
            EpochRecord(
                trial=asked.number, epoch=epoch, train_loss=1, learning_rate=1, seconds=1, metrics=metrics
            )
        )
    found = {"reason": "why", "model": "m", "image_size": 32, "loss": "hard", "values": {}}
    found |= {"weight_hard": 1, "weight_soft": 0, "thaws": asked.thaws}
    record = TrialRecord(
        number=asked.number, state=state, params=asked.params, epochs=epochs, **(found | changes)
    )
    run.append(record)
    return record


def tell(study, searcher, asked, epochs, state):
    """Let a trial run in a search that is under way."""
    searcher.started(asked)
    for epoch in range(1, epochs + 1):
        searcher.trained(asked.number, epoch, values_of(asked.params, epoch))
    if state == "COMPLETE":
        study.tell_complete(asked.number, values_of(asked.params, epochs), {})
    else:
        study.tell_pruned(asked.number, values_of(asked.params, epochs), "beaten")


def values_of(params, epoch):
    return {"accuracy": accuracy_after(params, epoch), **costs_of(params)}


def test_a_searcher_that_learns_from_the_record_proposes_what_the_one_before_would(tmp_path):
    study, run = AskTell.in_memory(space_of(), 0), RunDirectory(tmp_path)
    before = searcher_of(study)
    for number in range(7):
        asked = before.ask()
        epochs, state = (LAST, "COMPLETE") if number % 2 else (2, "PRUNED")
        tell(study, before, asked, epochs, state)
        before.ended(ended(run, asked, epochs, state))
    after = searcher_of(study)
    after.learn(Recorded(run))
    known, found = before._foresight.trials, after._foresight.trials
    assert {n: (past.params, past.curve, past.state) for n, past in found.items()} == {
        n: (past.params, past.curve, past.state) for n, past in known.items()
    }


@pytest.mark.parametrize("changes", [{"state": "FAIL"}, {"constraints": {"gpu_bytes": 1.0}}])
def test_what_failed_or_found_no_room_is_not_learned_from(tmp_path, changes):
    study, run = AskTell.in_memory(space_of(), 0), RunDirectory(tmp_path)
    searcher = searcher_of(study)
    asked = searcher.ask()
    searcher.started(asked)
    searcher.trained(asked.number, 1, values_of(asked.params, 1))
    record = ended(run, asked, 1, changes.get("state", "PRUNED"), constraints=changes.get("constraints", {}))
    searcher.ended(record)
    assert searcher._foresight.known == []


def test_confirmations_are_not_learned_from(tmp_path):
    study, run = AskTell.in_memory(space_of(), 0), RunDirectory(tmp_path)
    asked = study.ask()
    ended(run, asked, LAST, "COMPLETE", confirms=0)
    searcher = searcher_of(study)
    searcher.learn(Recorded(run))
    assert searcher._foresight.trials == {}
