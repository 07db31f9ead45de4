"""The caller's side of the volley: we ping whom we dialled."""

from typing import Any, cast

import trio
from trio.testing import MockClock

from pub.net.rpcstream import RpcStream
from pub.rpc.context import Pub
from pub.rpc.gossip import Volley, Volleys

NOW = 1_700_000_000_000
TIMEOUT = 300.0


class Wall:
    """All of a pub that a volley looks at."""

    def __init__(self) -> None:
        self.volleys = Volleys()

    def wall_clock(self) -> float:
        return NOW + trio.current_time() * 1000


class Line:
    """What was sent, in seconds since the start."""

    def __init__(self, wall: Wall) -> None:
        self.sent: list[float] = []
        self._began = wall.wall_clock()

    def send(self, value: Any) -> None:
        self.sent.append(round((value - self._began) / 1000))


def call_on(wall: Wall, line: Line) -> Volley:
    return Volley(cast(Pub, wall), cast(RpcStream, line), TIMEOUT, is_caller=True)


async def test_the_caller_goes_on_pinging_one_who_only_echoes(autojump_clock: MockClock) -> None:
    wall = Wall()
    line = Line(wall)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wall.volleys.run)
        volley = call_on(wall, line)
        volley.serve()
        for _ in range(3):
            await volley.receive([b"1"])
            await trio.sleep(TIMEOUT + 1)
        nursery.cancel_scope.cancel()
    assert line.sent == [0, 300, 601, 902]


async def test_the_caller_echoes_one_who_serves_and_does_not_serve_twice(autojump_clock: MockClock) -> None:
    wall = Wall()
    line = Line(wall)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wall.volleys.run)
        volley = call_on(wall, line)
        volley.serve()
        await volley.receive([b"1"])
        await trio.sleep(100)
        await volley.receive([b"1"])
        await trio.sleep(250)
        assert line.sent == [0, 100, 300]
        await trio.sleep(TIMEOUT * 3)
        assert line.sent == [0, 100, 300], "who does not answer is not asked again"
        nursery.cancel_scope.cancel()


async def test_a_peer_that_refuses_pings_gets_none(autojump_clock: MockClock) -> None:
    wall = Wall()
    line = Line(wall)
    volley = call_on(wall, line)
    volley.ended(None)
    volley.serve()
    assert line.sent == []
