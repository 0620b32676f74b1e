"""Limits of a space that follow from something else: another parameter's value, or what the teacher does."""

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from hkbench.errors import UsageError

NUMBER = "number"
DERIVED = "derived"
"""What pydantic calls the two ways of giving a limit; the names are part of an error's path."""


class Strict(BaseModel):
    """What a space file holds: frozen, without unknown keys and without numbers that aren't finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


def straight(value: float, times: float, plus: float) -> float:
    """Return value · times + plus, calculated in decimals: 3 · 0.1 is 0.3, and less 0.3 it is 0."""
    return float(Decimal(repr(value)) * Decimal(repr(times)) + Decimal(repr(plus)))


class _Derived(Strict):
    times: float = 1.0
    """The factor that the value is multiplied by."""
    plus: float = 0.0
    """What is added to the product."""

    def follow(self, value: float) -> float:
        """Return the limit for a value of what it follows."""
        # To twelve digits, so that steps from there are whole in decimals too, as Optuna demands.
        return float(f"{straight(value, self.times, self.plus):.12g}")


class OfParameter(_Derived):
    """A limit that follows an earlier parameter's value: that value · `times` + `plus`."""

    of: str
    """The parameter whose value it follows: a number, or a categorical with numbers alone."""


class OfTeacher(_Derived):
    """A limit that follows the teacher: its value in the same objective · `times` + `plus`."""

    of: Literal["teacher"]
    """The teacher of the space."""


def _way(given: Any) -> str:
    return DERIVED if isinstance(given, (Mapping, _Derived)) else NUMBER


RealLimit = Annotated[
    Annotated[float, Tag(NUMBER)] | Annotated[OfParameter, Tag(DERIVED)], Discriminator(_way)
]
WholeLimit = Annotated[
    Annotated[int, Tag(NUMBER)] | Annotated[OfParameter, Tag(DERIVED)], Discriminator(_way)
]
TeacherLimit = Annotated[
    Annotated[float, Tag(NUMBER)] | Annotated[OfTeacher, Tag(DERIVED)], Discriminator(_way)
]


class Limit(Strict):
    """What must hold for a trial to count."""

    at_least: TeacherLimit | None = Field(default=None)
    """The smallest value that counts."""
    at_most: TeacherLimit | None = Field(default=None)
    """The largest value that counts."""

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if not self.follows_teacher:
            _check_order(self.least, self.most)
        return self

    @property
    def follows_teacher(self) -> bool:
        """Whether the limit is unknown until the teacher's value is."""
        return isinstance(self.at_least, OfTeacher) or isinstance(self.at_most, OfTeacher)

    @property
    def least(self) -> float:
        """The smallest value that counts, −inf where there is none."""
        return -math.inf if self.at_least is None else _plain(self.at_least)

    @property
    def most(self) -> float:
        """The largest value that counts, inf where there is none."""
        return math.inf if self.at_most is None else _plain(self.at_most)

    def violation(self, value: float) -> float:
        """Return by how much `value` breaks the limit; 0 or less where it holds."""
        return max(self.least - value, value - self.most)

    def resolved(self, teacher: float) -> "Limit":
        """Return the limit in numbers, for a teacher with this value.

        Raises:
            ValueError: the value is no finite number, or at_least comes out above at_most.
        """
        if not math.isfinite(teacher):
            raise ValueError("its value is no finite number")
        low, high = (
            each.follow(teacher) if isinstance(each, OfTeacher) else each
            for each in (self.at_least, self.at_most)
        )
        if low is not None and high is not None:
            _check_order(low, high)
        return Limit(at_least=low, at_most=high)


def _check_order(least: float, most: float) -> None:
    if least > most:
        raise ValueError(f"at_least is {least:g}, above at_most, {most:g}")


def _plain(limit: float | OfTeacher) -> float:
    if isinstance(limit, OfTeacher):
        raise UsageError(
            "A limit that follows the teacher was read before the teacher's value was known: "
            "Space.resolved() puts numbers in its place."
        )
    return limit
