"""Reading the arguments of a request: what a caller left out or got wrong is told in the texts callers know."""

import math
from typing import Any

from pub.errors import RpcError


def required(args: list[Any], position: int = 0) -> Any:
    """The argument at ``position``; JavaScript peers answer its absence with a UsageError."""
    if len(args) <= position or args[position] is None:
        raise RpcError(f"Param {position} is required", "UsageError")
    return args[position]


def options(args: list[Any]) -> dict[str, Any]:
    """The options object that many methods take as their first argument; anything else counts as empty."""
    return args[0] if args and isinstance(args[0], dict) else {}


def number(value: object) -> float | None:
    """A JSON number as JavaScript would have it; ``None`` for anything else, and for what no double can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        double = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return double if math.isfinite(double) else None
