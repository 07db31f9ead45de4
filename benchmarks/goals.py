"""What the pub is meant to reach, as data: for a figure of a step a bound, absolute or against another figure.

A goal is judged by medians. One that is a share of another figure (of ssb-server, or of the same figure in another
step) is open unless both were measured in the same run. Sizes are part of a step's title, so a run with other sizes has
no goals: they were set for these.
"""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.figures import KIB, MIB
from benchmarks.peers import OURS, THEIRS

Look = Callable[[str, str, str], float | None]  # step, figure, peer -> its median, if it was measured


@dataclass(frozen=True)
class Goal:
    """``bound`` is in the figure's unit, or if there is an ``of`` (a step, or ssb-server) it is a factor."""

    step: str
    figure: str
    bound: float
    at_least: bool = False
    of: str | None = None

    def text(self, unit: str) -> str:
        """As the table says it."""
        sign = "≥" if self.at_least else "≤"
        if self.of is None:
            return f"{sign} {_plain(self.bound)}{f' {unit}' if unit else ''}"
        share = f"{_plain(self.bound)} x" if self.bound >= 2 else f"{_plain(self.bound * 100)} % of"
        return f"{sign} {share} {self.of}"

    def reached(self, look: Look) -> bool | None:
        """None: something that it takes was not measured."""
        value, bound = look(self.step, self.figure, OURS), self._absolute(look)
        if value is None or bound is None:
            return None
        return value >= bound if self.at_least else value <= bound

    def _absolute(self, look: Look) -> float | None:
        if self.of is None:
            return self.bound
        other = look(self.step, self.figure, THEIRS) if self.of == THEIRS else look(self.of, self.figure, OURS)
        return None if other is None else self.bound * other


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number > 99 else f"{number:.3g}"


def _at_least(step: str, figure: str, bound: float, of: str | None = None) -> Goal:
    return Goal(step, figure, bound, at_least=True, of=of)


MB, KB = 1e6 / MIB, 1e3 / KIB  # the goals were set in these, the table is in the others

INGEST = "ingest 1,000 x 100"
EMPTY, ON_TOP = "large, 1,000 x 100 into an empty store", "large, 1,000 x 100 on top of 2,020,000"
QUIET, PULLED = "busy, ingest alone", "busy, ingest while 5 pull everything"
SERVED = [f"serve {shape}, {how}" for shape in ("1,000 x 100", "1 x 50,000") for how in ("EBT", "history")]
BACK = "reconnect, 10,000 feeds"
ATTACKED = [f"hostile, {who}" for who in ("never reads", "no handshake", "no packets", "requests", "unasked messages")]

GOALS = [
    _at_least(INGEST, "messages/s", 20_000),
    _at_least(INGEST, "messages/s", 4, THEIRS),
    _at_least(INGEST, "messages per CPU second", 11_000),
    _at_least(INGEST, "of the libsodium limit", 60),
    Goal(INGEST, "peak anonymous memory", 150 * MB),
    Goal(INGEST, "disk per byte of message", 1.25),
    *(_at_least(step, "messages per CPU second", 100_000) for step in SERVED),
    Goal("fan-out to 20", "until all have it, p50", 3),
    Goal("fan-out to 20", "until all have it, p99", 8),
    Goal("fan-out to 100", "until all have it, p50", 6),
    Goal("fan-out to 100", "until all have it, p99", 15),
    Goal("fan-out to 1,000", "until all have it, p50", 80),
    _at_least("idle, 10,000", "connections held", 10_000),
    _at_least("idle, 10,000", "handshakes/s", 1000),
    Goal("idle, 10,000", "CPU while idle", 1),
    Goal("idle, 10,000", "memory per connection", 30 * KB),
    Goal("idle, 1,000 with EBT over 1,000 feeds", "memory per connection", 30 * KB),
    Goal("idle, 1,000 with EBT over 1,000 feeds", "CPU while idle", 1),
    Goal("state, 10,000 feeds", "bytes per feed and peer", 8),
    Goal(BACK, "remembering: CPU", 2),
    Goal(BACK, "remembering: from the pub", 1),  # one small frame, and the refusals of two questions
    Goal(BACK, "remembering: to the pub", 1),
    _at_least(PULLED, "messages/s", 0.5, QUIET),
    Goal("busy, fan-out to 20 meanwhile", "until all have it, p99", 2, of="busy, fan-out to 20 alone"),
    *(_at_least(step, "messages/s, of peace", 90) for step in ATTACKED),
    *(_at_least(step, "messages per CPU second, of peace", 90) for step in ATTACKED),
    *(Goal(step, "a feed is read, p50, of peace", 110) for step in ATTACKED),
    _at_least(ON_TOP, "messages/s", 0.8, EMPTY),
    _at_least(ON_TOP, "messages per CPU second", 0.8, EMPTY),
    Goal(ON_TOP, "disk per byte of message", 1.25),
    Goal("large, start with 2,121,000 messages", "ready, pages in memory", 1),
    Goal("large, start with 2,121,000 messages", "ready, pages on disk", 1),
]
