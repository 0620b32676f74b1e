"""`findings.json`: what follows from a run's trials, in a file that can be made again."""

import pytest
from search_fakes import MODELS, tiny_plan

from hkbench.errors import UsageError
from hkbench.runs.findings import distributions_of, find_out
from hkbench.spaces.file import load_space
from hkbench.store.findings import read_findings
from hkbench.store.records import TrialRecord
from hkbench.store.rundir import RunDirectory


def keep(run, count):
    for number in range(count):
        taught = number > 1
        alpha, temperature = (0.03 * number, 1.0 + 0.3 * number) if taught else (1.0, None)
        model = MODELS[number % 2]
        params = {"model": model, "loss": "kd" if taught else "hard"}
        params |= {"temperature": temperature, "alpha": alpha} if taught else {}
        accuracy = 0.5 + (0.2 if number % 2 else 0.0) + 0.001 * number
        run.append(
            TrialRecord(
                number=number, state="COMPLETE", params=params, settings={"model": model}, model=model,
                image_size=32, loss=params["loss"], weight_hard=alpha,
                weight_soft=temperature**2 * (1 - alpha) if taught else 0.0, temperature=temperature,
                epochs=2,
                values={"accuracy": accuracy, "artifact_bytes": 100.0, "latency_ms": 1.0 + number % 2},
                metrics={"accuracy": accuracy},
            )
        )  # fmt: skip


def test_a_run_has_its_importances_its_gain_and_its_confirmations(tmp_path):
    plan = tiny_plan(tmp_path)
    run = RunDirectory(plan.out)
    assert read_findings(run) is None
    keep(run, 24)
    first = run.trials()[0]
    again = first.model_copy(update={"number": 24, "confirms": 0, "settings": {"seed": 1001}})
    run.append(again)
    found = find_out(run, plan.space)
    assert read_findings(run) == found
    assert {row.objective for row in found.importances} == set(plan.space.objectives)
    assert {row.parameter for row in found.importances} == set(plan.space.parameters)
    model = next(row for row in found.importances if row.parameter == "model")
    assert (model.objective, model.trials) == ("accuracy", 24)
    assert model.value > 0
    assert all(row.reason for row in found.importances if row.objective == "artifact_bytes")
    assert found.gain.trials == 22
    assert [row.trial for row in found.confirmed] == [0]


def test_a_damaged_file_is_told_as_such(tmp_path):
    run = RunDirectory(tmp_path)
    (tmp_path / "findings.json").write_text('{"gain": 1}')
    with pytest.raises(UsageError, match="can't be read, 1 of its fields"):
        read_findings(run)


@pytest.mark.parametrize("name", ["thesis", "distill", "everything"])
def test_every_parameter_of_a_space_has_a_distribution_that_holds_its_seed_points(name):
    space = load_space(name)
    known = distributions_of(space)
    assert known.keys() == space.parameters.keys()
    for _, point in space.seed_points():
        for each, value in point.items():
            known[each].to_internal_repr(value)
