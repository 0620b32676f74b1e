"""A search that is extended, or goes on in a narrower space; and one that is refused."""

import json
from dataclasses import replace

import pytest
from search_fakes import SPACE, Heard, fake_costs, result_of, tiny_plan

from hkbench.driver.budget import parse_budget
from hkbench.driver.plan import SearchPlan
from hkbench.driver.session import SearchSession
from hkbench.errors import UsageError
from hkbench.runs.extend import NO_LIMIT, asked_for
from hkbench.runs.record import refuse_foreign, update_record
from hkbench.runs.retire import retire
from hkbench.spaces.space import Space
from hkbench.store.records import EpochRecord, ModelRecord, RunRecord
from hkbench.store.rundir import RunDirectory
from hkbench.study.ask_tell import AskTell
from hkbench.study.narrowing import differences, inside


def asked(plan, **flags):
    return asked_for(plan, **{"trials": None, "budget": None, "sampler": None, **flags})


def recorded(plan, **config):
    """Put a run on disk that was asked for by this plan, and return the plan of its resumption."""
    run = RunDirectory(plan.out)
    run.write_run(
        RunRecord(
            name="tiny",
            kind="search",
            command=["hkbench"],
            created="2026-01-01T00:00:00Z",
            config={**plan.described(), **config},
            versions={},
            hardware={},
        )
    )
    return replace(plan, resume=True)


def totals(plan):
    return plan.space.schedule.trials, str(plan.budget) if plan.budget else None, plan.sampler


def test_a_new_search_takes_what_flags_and_space_say(tmp_path):
    plan = tiny_plan(tmp_path)
    assert totals(asked(plan)) == (3, None, "frontier")
    assert totals(asked(plan, trials="9", budget="10m", sampler="gp")) == (9, "600s", "gp")


def test_more_comes_on_top_of_what_was_asked_for_and_a_plain_number_is_the_total(tmp_path):
    first = asked(tiny_plan(tmp_path), trials="20", budget="10m", sampler="gp")
    plan = recorded(first)
    again = tiny_plan(tmp_path, resume=True)
    assert totals(asked(again)) == (20, "600s", "gp")
    assert totals(asked(again, trials="+50")) == (70, "600s", "gp")
    assert totals(asked(again, trials="50", budget="5m")) == (50, "300s", "gp")
    assert totals(asked(again, trials="+1", budget="+1h", sampler="random")) == (21, "4200s", "random")
    assert totals(asked(plan, budget="+200s")) == (NO_LIMIT, "800s", "gp")


def test_a_first_budget_of_a_search_that_had_none_begins_now(tmp_path):
    plan = recorded(tiny_plan(tmp_path), concurrency=2)
    run = RunDirectory(plan.out)
    for epoch in (1, 2):
        run.append(EpochRecord(trial=0, epoch=epoch, train_loss=1, learning_rate=1, seconds=50, metrics={}))
    assert asked(plan, budget="+100s").budget == parse_budget("150s")
    assert asked(plan, budget="+4 epochs").budget == parse_budget("6 epochs")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"trials": "+50"}, "add --resume"),
        ({"budget": "+1h"}, "add --resume"),
        ({"trials": "many"}, "found 'many'"),
        ({"trials": "0"}, "above 0"),
        ({"budget": "soon"}, "A budget is a number"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, flags, said):
    with pytest.raises(UsageError, match=said.replace("+", r"\+")):
        asked(tiny_plan(tmp_path), **flags)


def test_a_budget_in_seconds_of_a_gpu_is_refused_on_the_cpu(tmp_path):
    with pytest.raises(UsageError, match="needs --device cuda"):
        tiny_plan(tmp_path, budget=parse_budget("600 gpu-s"))
    plan = tiny_plan(tmp_path, budget=parse_budget("600 gpu-s"), device="cuda")
    assert isinstance(plan, SearchPlan)


NARROW = {
    "model": {"type": "categorical", "choices": ["household_s"]},
    "loss": {"type": "categorical", "choices": ["kd", "hard"]},
    "temperature": {"type": "float", "low": 2, "high": 4, "log": True, "when": {"loss": "kd"}},
    "alpha": {"type": "float", "low": 0, "high": 0.9, "when": {"loss": "kd"}},
}


def test_a_narrower_space_and_another_sampler_are_changes_and_no_other_study(tmp_path):
    first = recorded(asked(tiny_plan(tmp_path)))
    plan = asked(
        replace(first, space=tiny_plan(tmp_path, space={"parameters": NARROW}).space),
        trials="+5",
        sampler="random",
    )
    assert refuse_foreign(plan, RunDirectory(plan.out)) == [
        "sampler: frontier → random",
        "space.schedule.trials: 3 → 8",
        "model: [household_s, baseline_cnn] → [household_s]",
        "temperature: 1.0 to 10.0 → 2.0 to 4.0",
    ]


def test_a_search_that_goes_on_as_it_was_has_no_changes(tmp_path):
    plan = asked(recorded(asked(tiny_plan(tmp_path), budget="10m")))
    assert refuse_foreign(plan, RunDirectory(plan.out)) == []


def changed(name, **parameter):
    return {**NARROW, name: {**NARROW[name], **parameter}}


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"parameters": changed("temperature", high=20)}, "temperature: 1.0 to 10.0 → 2.0 to 20.0"),
        ({"parameters": changed("temperature", log=False)}, "temperature"),
        ({"parameters": changed("model", choices=["household_s", "squeezenet1_1"])}, "squeezenet1_1"),
        ({"parameters": changed("alpha", default=0.2)}, "alpha"),
        (
            {
                "parameters": {k: v for k, v in NARROW.items() if k != "model"},
                "defaults": {"image_size": 32, "batch_size": 16, "model": "household_s"},
            },
            "model: .* → none",
        ),
        ({"defaults": {"image_size": 32, "batch_size": 8}}, "space.defaults.batch_size is 16, asked for 8"),
        ({"augmentation": {"erasing": 0.3}}, "augmentation"),
        ({"teacher": {"model": "household_m", "image_size": 64}}, "space.teacher.image_size is 32"),
        ({"constraints": {"accuracy": {"at_least": 0.5}}}, "space.constraints.accuracy"),
        ({"schedule": {"trials": 3, "max_epochs": 9}}, "space.schedule.max_epochs is 2, asked for 9"),
    ],
)
def test_what_is_no_narrower_space_is_refused_with_the_difference(tmp_path, space, said):
    first = recorded(asked(tiny_plan(tmp_path)))
    plan = replace(first, space=tiny_plan(tmp_path, space={"start_with": [], **space}).space)
    with pytest.raises(UsageError, match=f"is another study's: .*{said}"):
        refuse_foreign(plan, RunDirectory(plan.out))


def test_objectives_in_another_order_are_another_study(tmp_path):
    first = recorded(asked(tiny_plan(tmp_path)))
    objectives = dict(reversed(first.space.objectives.items()))
    plan = replace(first, space=first.space.model_copy(update={"objectives": objectives}))
    with pytest.raises(UsageError, match="the objectives' order"):
        refuse_foreign(plan, RunDirectory(plan.out))


def test_other_data_or_another_split_are_refused(tmp_path):
    first = recorded(asked(tiny_plan(tmp_path)))
    for change, said in (({"data": "mine"}, "data is goods69"), ({"split": "by-group"}, "split is random")):
        with pytest.raises(UsageError, match=said):
            refuse_foreign(replace(first, **change), RunDirectory(first.out))


def test_a_record_of_an_older_version_lacks_what_there_was_not_yet(tmp_path):
    plan = recorded(asked(tiny_plan(tmp_path)))
    run = RunDirectory(plan.out)
    config = run.read_run().config
    for key in ("unit", "brackets", "confidence"):
        del config["space"]["schedule"][key]
    config["budget_s"] = config.pop("budget")
    update_record(run, config=config)
    assert refuse_foreign(plan, run) == []


def test_a_choice_may_take_the_parameters_with_it_that_depended_on_it():
    old = Space.model_validate(SPACE)
    without = {k: v for k, v in SPACE["parameters"].items() if k not in ("temperature", "alpha")}
    without["loss"] = {"type": "categorical", "choices": ["hard"]}
    new = Space.model_validate({**SPACE, "parameters": without, "start_with": []})
    narrower, other = differences(old, new)
    assert other == []
    assert [line.split(":")[0] for line in narrower] == [
        "alpha",
        "loss",
        "seed points left out",
        "temperature",
    ]
    _, other = differences(new, old)
    assert other


class Going:
    def __init__(self, folder):
        self.folder = folder

    def open(self, sampler="tpe", **space):
        space = {"start_with": [], **space}
        plan = tiny_plan(self.folder, space=space, sampler=sampler)
        self.run, self.plan = RunDirectory(plan.out), plan
        self.study = AskTell.open(self.run.path / "study.log", plan.space, 0, sampler)
        self.study.narrow_to(plan.space)
        return SearchSession(plan, self.study, self.run, fake_costs, Heard())

    def play(self, session):
        found = []
        while (ready := session.next_trial()) is not None:
            session.on_end(ready.number, result_of(ready.number, 2))
            found.append(self.study.params_of(ready.number))
        return found


@pytest.mark.parametrize("sampler", ["frontier", "tpe", "random", "nsga2", "qmc", "gp"])
def test_points_of_a_narrowed_study_lie_in_the_narrower_space(tmp_path, sampler):
    going = Going(tmp_path)
    wide = going.play(going.open(schedule={"trials": 12, "max_epochs": 2}))
    assert {point["model"] for point in wide} == {"household_s", "baseline_cnn"}
    session = going.open(sampler, parameters=NARROW, schedule={"trials": 24, "max_epochs": 2})
    narrow = going.play(session)
    assert len(narrow) == 12
    assert all(inside(going.plan.space, point) for point in narrow)
    assert {point["model"] for point in narrow} == {"household_s"}
    assert all(2 <= point["temperature"] <= 4 for point in narrow if "temperature" in point)


def test_a_point_that_waits_outside_a_narrowed_space_is_not_trained(tmp_path):
    going = Going(tmp_path)
    outside = {"model": "baseline_cnn", "loss": "hard"}
    going.open(start_with=[{"name": "old", "source": "me", "params": outside}])
    session = going.open(parameters=NARROW)
    going.play(session)
    refused = [trial for trial in going.run.trials() if trial.state == "PRUNED"]
    assert [trial.params for trial in refused] == [outside]
    assert "outside the space" in refused[0].reason
    assert going.study.trained() == 3


def test_a_trial_under_way_goes_on_though_the_space_was_narrowed(tmp_path):
    going = Going(tmp_path)
    outside = {"model": "baseline_cnn", "loss": "hard"}
    session = going.open(start_with=[{"name": "old", "source": "me", "params": outside}])
    number = session.next_trial().number
    session.on_epoch(result_of(number, 1))
    session = going.open(parameters=NARROW)
    assert session.next_trial().number == number


def test_twins_and_trials_tried_again_are_not_among_those_asked_for(tmp_path):
    going = Going(tmp_path)
    session = going.open(schedule={"trials": 2, "max_epochs": 2})
    going.play(session)
    asked = going.study.additions.insist({"model": "household_s", "loss": "hard"}, 0, "twin of 0")
    session.only([asked])
    going.play(session)
    assert len(going.run.trials()) == 3
    assert going.study.trained() == 2
    assert session.idle
    session = going.open(schedule={"trials": 3, "max_epochs": 2})
    assert not session.idle
    assert len(going.play(session)) == 1


def model(number, name, source=None):
    return ModelRecord(
        id=name,
        role="teacher" if number is None else "student",
        trial=number,
        model="m",
        image_size=32,
        parameters=1,
        sha256="0",
        size_bytes=1,
        source=source,
    )


def test_models_that_are_no_longer_on_the_frontier_go(tmp_path):
    run = RunDirectory(tmp_path)
    for record in (
        model(None, "teacher"),
        model(1, "trial-001"),
        model(1, "trial-001-int8", "trial-001"),
        model(2, "trial-002"),
    ):
        run.write_model(record)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "00001.pt").write_bytes(b"kept")
    assert retire(run, {2, 3}) == ["trial-001", "trial-001-int8"]
    assert [record.id for record in run.model_records()] == ["teacher", "trial-002"]
    assert (tmp_path / "checkpoints" / "00001.pt").exists()


def test_the_history_of_a_run_is_readable(tmp_path):
    plan = recorded(tiny_plan(tmp_path))
    assert json.loads((plan.out / "run.json").read_text())["history"] == []
