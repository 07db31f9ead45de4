"""One measured number: what it is of, its unit, and whether more of it is better."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

KIB = 1 << 10
MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """``name`` is the row of the table, within the load. One that says nothing about the pub is not compared."""

    name: str
    value: float
    unit: str
    more_is_better: bool = False
    is_compared: bool = True


Figures = list[Figure]


def client_cpu(seconds: float) -> Figure:
    """What the load program itself used."""
    return Figure("CPU of the client", seconds, "s", is_compared=False)


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
