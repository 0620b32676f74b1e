"""The losses of a search: what its settings hand on, what its records hold, and the twin of any student."""

import pytest
from search_fakes import SPACE, Heard, fake_costs, result_of, tiny_plan

from hkbench.driver.session import SearchSession
from hkbench.errors import UsageError
from hkbench.runs.finish import best_student, twin_of, twin_params
from hkbench.spaces.settings import settings_of
from hkbench.store.records import TrialRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell

DECOUPLED = {
    "parameters": {
        "model": SPACE["parameters"]["model"],
        "loss": {"type": "categorical", "choices": ["dkd", "hard"]},
        "beta": {"type": "float", "low": 1, "high": 8, "when": {"loss": "dkd"}},
    },
    "start_with": [
        {"name": "decoupled", "source": "-", "params": {"model": "household_s", "loss": "dkd", "beta": 2}},
        {"name": "no teacher", "source": "-", "params": {"model": "household_s", "loss": "hard"}},
    ],
    "defaults": {"image_size": 32, "batch_size": 16, "alpha": 0.5, "temperature": 2},
}


def settings(**values):
    return settings_of({"model": "household_s", **values})


def test_settings_hand_each_loss_its_own_arguments():
    told = {"alpha": 0.5, "beta": 3, "gamma": 4, "temperature": 2}
    assert dict(settings(loss="dkd", **told).loss_config.weights) == {"hard": 1, "tckd": 2, "nckd": 12}
    assert dict(settings(loss="dist", **told).loss_config.weights) == {"hard": 1, "inter": 12, "intra": 16}
    assert dict(settings(loss="lskd", **told).loss_config.weights) == {"hard": 0.5, "soft": 2}
    assert not settings(loss="hard", **told).loss_config.needs_teacher


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": "dkdd"}, "no loss 'dkdd'.*Did you mean 'dkd'"),
        ({"loss": "dkd", "beta": -1}, "beta must be a finite number of at least 0, found -1"),
        ({"loss": "dist", "gamma": -1}, "gamma must be a finite number of at least 0, found -1"),
    ],
)
def test_a_loss_out_of_range_is_refused_before_anything_is_built(values, message):
    with pytest.raises(UsageError, match=message):
        settings(**values)


def test_records_hold_the_weight_of_each_term_and_the_twin_is_found(tmp_path):
    plan = tiny_plan(tmp_path, space=DECOUPLED)
    run = RunDirectory(plan.out)
    study = AskTell.open(run.path / "study.log", plan.space, seed=0)
    session = SearchSession(plan, study, run, fake_costs, Heard())
    for _ in range(2):
        number = session.next_trial().number
        session.on_end(number, result_of(number, 2))
    taught, alone = run.trials()
    assert taught.loss_weights == {"hard": 1, "tckd": 2, "nckd": 8}
    assert (taught.weight_hard, taught.weight_soft) == (1, 10)
    assert (alone.loss_weights, alone.weight_soft) == ({"hard": 1}, 0)
    assert best_student([taught, alone]) is taught
    assert twin_params(taught, plan.space) == {"model": "household_s", "loss": "hard"}
    assert twin_of(taught, plan.space, [taught, alone]) is alone


def test_a_record_from_before_there_were_weights_by_term_still_loads():
    old = {
        "number": 0, "state": "COMPLETE", "params": {}, "model": "m", "image_size": 64, "loss": "kd",
        "weight_hard": 0.3, "weight_soft": 2.8, "temperature": 2, "epochs": 1, "values": {},
    }  # fmt: skip
    record = TrialRecord.model_validate(old)
    assert (record.weight_soft, record.loss_weights) == (2.8, {})
