"""What a search keeps at its end: the frontier, the best student, its twin, and what it must say."""

from search_fakes import SPACE, tiny_plan

from hkbench.analysis.trials import frontier_numbers
from hkbench.runs.finish import best_student, twin_of, twin_params, weak_teacher
from hkbench.store.records import ModelRecord, PartMetrics, TrialRecord

OBJECTIVES = {"accuracy": "maximize", "artifact_bytes": "minimize"}


def trial(number, accuracy, size, *, state="COMPLETE", taught=True, violation=0.0):
    return TrialRecord(
        number=number,
        state=state,
        params={"model": "m", "loss": "kd", "temperature": 2.0, "alpha": 0.3, "lr": 0.1},
        model="m",
        image_size=64,
        loss="kd" if taught else "hard",
        weight_hard=0.3,
        weight_soft=2.8 if taught else 0.0,
        epochs=2,
        values={"accuracy": accuracy, "artifact_bytes": size},
        metrics={"accuracy": accuracy},
        constraints={"artifact_bytes": violation},
    )


def model(role, accuracy):
    part = PartMetrics(part="validation", pictures=10, metrics={"accuracy": accuracy})
    return ModelRecord(
        id=role, role=role, model="m", image_size=64, parameters=1, sha256="0", size_bytes=1, parts=[part]
    )


def test_the_frontier_is_of_complete_and_feasible_trials_alone():
    trials = [
        trial(0, 0.8, 100),
        trial(1, 0.7, 50),
        trial(2, 0.6, 60),
        trial(3, 0.9, 40, state="PRUNED"),
        trial(4, 0.9, 30, violation=1.0),
    ]
    assert frontier_numbers(trials, OBJECTIVES) == {0, 1}
    assert frontier_numbers([], OBJECTIVES) == frozenset()


def test_the_best_student_had_a_teacher_and_is_the_smallest_of_equals():
    trials = [trial(0, 0.8, 100), trial(1, 0.8, 50), trial(2, 0.9, 50, taught=False)]
    assert best_student(trials).number == 1
    assert best_student([trials[2]]) is None


def test_the_twin_differs_by_its_teacher_alone(tmp_path):
    space = tiny_plan(tmp_path).space
    params = {"model": "household_s", "loss": "kd", "temperature": 2.0, "alpha": 0.3}
    student = trial(0, 0.8, 100).model_copy(update={"params": params})
    wanted = {"model": "household_s", "loss": "hard"}
    assert twin_params(student, space) == wanted
    twin = trial(1, 0.7, 100, taught=False).model_copy(update={"params": wanted})
    assert twin_of(student, space, [student, twin]) is twin
    stopped = twin.model_copy(update={"state": "PRUNED"})
    assert twin_of(student, space, [student, stopped]) is None


def test_a_space_without_hard_labels_has_no_twin(tmp_path):
    parameters = {name: value for name, value in SPACE["parameters"].items() if name != "loss"}
    parameters = {name: {**value, "when": {}} for name, value in parameters.items()}
    space = tiny_plan(
        tmp_path, space={"parameters": parameters, "start_with": [], "defaults": {"image_size": 32}}
    ).space
    assert twin_params(trial(0, 0.8, 100), space) is None


def test_a_weak_teacher_is_named():
    strong = [model("teacher", 0.8), model("student", 0.9), model("no-teacher", 0.7)]
    assert weak_teacher(strong) == []
    assert weak_teacher(strong[:2]) == []
    (said,) = weak_teacher([model("teacher", 0.6), model("no-teacher", 0.5), model("no-teacher", 0.7)])
    assert "60.0% against 70.0%" in said
