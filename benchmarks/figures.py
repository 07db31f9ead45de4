"""One measured number: what it is of, its unit, and whether more of it is better."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """``name`` is the row of the table, within the load."""

    name: str
    value: float
    unit: str
    more_is_better: bool = False


Figures = list[Figure]


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
