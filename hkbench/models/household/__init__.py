"""A family of small networks of our own: layouts and blocks of the literature, each part an option."""

from hkbench.models.household.config import (
    MEDIUM,
    MOBILENET_V1,
    MOBILENET_V2,
    SMALL,
    SQUEEZENET,
    HouseholdConfig,
)
from hkbench.models.household.network import household, household_m, household_s

__all__ = [
    "MEDIUM",
    "MOBILENET_V1",
    "MOBILENET_V2",
    "SMALL",
    "SQUEEZENET",
    "HouseholdConfig",
    "household",
    "household_m",
    "household_s",
]
