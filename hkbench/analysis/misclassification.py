"""What each wrong answer costs, for classes whose confusion is dearer or cheaper than others'."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from hkbench.errors import UsageError, unknown

DEFAULT = "default"


@dataclass(frozen=True, kw_only=True)
class MisclassificationCosts:
    """`matrix` is float64 (classes, classes): the cost of an answer (column) for a true class (row).

    Costs are finite and not below 0; the diagonal, where the answer is right, is 0.
    """

    matrix: NDArray[np.float64]

    def of(self, labels: NDArray[np.integer], answers: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return what each answer costs: float64 (n,)."""
        found: NDArray[np.float64] = self.matrix[labels, answers]
        return found


def costs_between(
    classes: Sequence[str],
    named: Mapping[str, Mapping[str, float]] | None = None,
    default: float = 1.0,
) -> MisclassificationCosts:
    """Build costs from those that are `named`, true class → answered class → cost; all others are `default`.

    Raises:
        UsageError: an unknown class, a cost that is negative or not finite, or one for a right answer.
    """
    places = {name: place for place, name in enumerate(classes)}
    matrix = np.full((len(classes), len(classes)), _checked(default, "a wrong answer"))
    np.fill_diagonal(matrix, 0.0)
    for true, answers in (named or {}).items():
        for answered, cost in answers.items():
            for name in (true, answered):
                if name not in places:
                    raise unknown("class", name, classes)
            if true == answered:
                raise UsageError(f"The right answer '{true}' costs nothing; found {cost}. Leave it out.")
            matrix[places[true], places[answered]] = _checked(cost, f"'{answered}' for '{true}'")
    return MisclassificationCosts(matrix=matrix)


def load_costs(path: Path, classes: Sequence[str]) -> MisclassificationCosts:
    """Read costs from YAML: `{default: 1, <true class>: {<answered class>: cost}}`.

    Raises:
        UsageError: no such file, no YAML of that form, or costs that `costs_between` refuses.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read as costs: {error.strerror}. Name a YAML file.") from error
    return parse_costs(content, classes, str(path))


def parse_costs(content: str | bytes, classes: Sequence[str], where: str) -> MisclassificationCosts:
    """Read costs from a YAML text as `load_costs` does from a file; `where` names it in an error.

    Raises:
        UsageError: no YAML of that form, or costs that `costs_between` refuses.
    """
    found = _read(content, where)
    try:
        default = _number(found.pop(DEFAULT, "1"), DEFAULT)
        named = {true: _row(true, answers) for true, answers in found.items()}
        return costs_between(classes, named, default)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _read(content: str | bytes, where: str) -> dict[str, Any]:
    try:
        # All is read as text: a class may be called 10 or "no", which YAML would take for a number and false.
        found = yaml.load(content, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is no YAML that can be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise UsageError(
            f"{where} must hold 'default: 1' and lines such as 'cup: {{mug: 0.2}}'; found no such mapping."
        )
    return found


def _row(true: str, answers: Any) -> dict[str, float]:
    if not isinstance(answers, dict):
        raise UsageError(f"Costs of '{true}' must be answered class → cost; found '{answers}'.")
    return {answered: _number(cost, f"'{answered}' for '{true}'") for answered, cost in answers.items()}


def _number(written: Any, what: str) -> float:
    try:
        return float(written)
    except (TypeError, ValueError) as error:
        raise UsageError(f"The cost of {what} must be a number; found '{written}'.") from error


def _checked(cost: float, what: str) -> float:
    if not math.isfinite(cost) or cost < 0:
        raise UsageError(f"The cost of {what} must be finite and at least 0; found {cost}.")
    return cost
