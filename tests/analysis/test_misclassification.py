from pathlib import Path

import numpy as np
import pytest

from hkbench.analysis.misclassification import costs_between, load_costs
from hkbench.errors import UsageError

CLASSES = ["cup", "mug", "10", "no"]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_wrong_answer_costs_one_unless_named(tmp_path: Path) -> None:
    path = written(tmp_path / "costs.yaml", "default: 2\ncup: {mug: 0.2, no: 7}\n10:\n  cup: 1e1\n")
    found = load_costs(path, CLASSES).matrix
    assert found.dtype == np.float64
    assert found.tolist() == [[0, 0.2, 2, 7], [2, 0, 2, 2], [10, 2, 0, 2], [2, 2, 2, 0]]
    assert costs_between(CLASSES).matrix.tolist() == (1 - np.eye(4)).tolist()


def test_costs_are_looked_up_by_true_class_then_answer() -> None:
    costs = costs_between(CLASSES, {"cup": {"mug": 5.0}})
    assert costs.of(np.array([0, 1, 2]), np.array([1, 0, 2])).tolist() == [5.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cupp: {mug: 1}", "There is no class 'cupp'. Did you mean 'cup'?"),
        ("cup: {mugs: 1}", "There is no class 'mugs'. Did you mean 'mug'?"),
        ("cup: {mug: -1}", "'mug' for 'cup' must be finite and at least 0; found -1"),
        ("cup: {mug: .inf}", "must be a number; found '.inf'"),
        ("cup: {mug: inf}", "must be finite and at least 0; found inf"),
        ("default: nan", "must be finite and at least 0; found nan"),
        ("default: {cup: 1}", "The cost of default must be a number"),
        ("cup: 3", "Costs of 'cup' must be answered class → cost; found '3'"),
        ("cup: {cup: 3}", "The right answer 'cup' costs nothing"),
        ("- cup", "must hold 'default: 1' and lines such as"),
        ("cup: {mug: 1", "is no YAML that can be read"),
    ],
)
def test_what_can_not_be_a_cost_is_refused_by_file_and_name(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path / "costs.yaml", text)
    with pytest.raises(UsageError) as refused:
        load_costs(path, CLASSES)
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml can't be read as costs: No such file"):
        load_costs(tmp_path / "none.yaml", CLASSES)
