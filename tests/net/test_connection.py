"""Calls and streams between a pub and a peer: answered, refused, and what a bug of ours does."""

from typing import Any

import pytest
import trio
import trio.testing

from pub.errors import MuxrpcError, RpcError
from pub.net.connection import Connection
from pub.net.methods import Method
from pub.net.roles import Peer
from pub.net.rpcstream import RpcStream
from pub.protocol.muxrpc import CLOSED_TEXT, Kind, ReplyReceived, RequestFailed, StreamEnded
from pub.protocol.packets import BodyType
from tests.net.ends import MANY, METHODS, Collector, Pages, connected, listen, make, served

# --- calls and streams ------------------------------------------------------------------------------------


async def test_calls_are_answered() -> None:
    async with connected(METHODS) as (peer, _pub):
        assert await peer.call(("whoami",), []) == {"id": "the pub"}
        assert await peer.call(("add",), [1, 2, 3]) == 6


async def test_the_pub_may_call_as_well() -> None:
    ends = trio.testing.memory_stream_pair()
    phone, pub = make(ends[0], METHODS), make(ends[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(phone.run)
        nursery.start_soon(pub.run)
        assert await pub.call(("add",), [20, 3]) == 23
        pub.close()


async def test_a_slow_call_holds_up_nobody() -> None:
    begun, go_on = trio.Event(), trio.Event()

    async def slow(_caller: Connection, _args: list[Any]) -> str:
        begun.set()
        await go_on.wait()
        return "at last"

    answers: list[str] = []
    async with connected(METHODS | {"slow": Method("async", slow)}) as (peer, _pub), trio.open_nursery() as nursery:

        async def ask() -> None:
            answers.append(await peer.call(("slow",), []))

        nursery.start_soon(ask)
        await begun.wait()
        assert await peer.call(("add",), [1, 1]) == 2
        assert answers == []
        go_on.set()
    assert answers == ["at last"]


async def test_a_source_is_pulled_to_its_end() -> None:
    async with connected(METHODS) as (peer, pub):
        streams = [listen(peer, "count") for _ in range(3)]
        for collector in streams:
            await collector.over.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert peer.session.open_requests == pub.session.open_requests == 0
    assert all(collector.bodies == MANY for collector in streams)
    assert all(collector.endings == [None] for collector in streams), "each was told once"


async def test_a_source_with_nothing_to_say_ends_at_once() -> None:
    def say_nothing(stream: RpcStream, _args: list[Any]) -> None:
        Pages(stream, [])

    async with connected({"nothing": Method("source", say_nothing)}) as (peer, _pub):
        collector = listen(peer, "nothing")
        await collector.over.wait()
    assert (collector.bodies, collector.endings) == ([], [None])


async def test_a_duplex_carries_both_directions() -> None:
    async with connected(METHODS) as (peer, pub):
        heard = Collector()
        stream = peer.open_stream(("echo",), [], Kind.DUPLEX)
        stream.receiver = heard
        for body in MANY:
            stream.send(int(body))
        while len(heard.bodies) < len(MANY):
            await trio.lowlevel.checkpoint()
        stream.end()
        await heard.over.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert peer.session.open_requests == pub.session.open_requests == 0
    assert heard.bodies == MANY
    assert heard.endings == [None]


async def test_single_values_keep_their_order_among_answers() -> None:
    def greet(stream: RpcStream, _args: list[Any]) -> None:
        stream.send({})
        stream.send("second")

    async with connected({"greet": Method("source", greet)}) as (peer, _pub):
        collector = listen(peer, "greet")
        await trio.testing.wait_all_tasks_blocked()
        assert collector.bodies == [b"{}", b'"second"']
    assert collector.endings == [CLOSED_TEXT], "it was open until the goodbye"


async def test_what_is_not_json_on_a_stream_is_passed_over() -> None:
    collector = Collector()

    def take(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = collector

    async with served({"take": Method("duplex", take)}) as (wire, _pub):
        number = await wire.open("take", kind=Kind.DUPLEX)
        for body, body_type in ((b"1", BodyType.JSON), (b"blob", BodyType.BINARY), (b"2", BodyType.JSON)):
            await wire.stream.send_all(wire.session.data(number, body, body_type))
        await wire.stream.send_all(wire.session.goodbye())
    assert collector.bodies == [b"1", b"2"]


# --- refusals ---------------------------------------------------------------------------------------------


def is_member_method(_peer: Peer, name: tuple[str, ...]) -> bool:
    return name[0] != "secret"


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("nothing", Kind.ASYNC, "no async:nothing"),
        ("nothing", Kind.SOURCE, "no source:nothing"),
        ("whoami", Kind.SOURCE, "no source:whoami"),
        ("count", Kind.ASYNC, "no async:count"),
        ("echo", Kind.SINK, "no sink:echo"),
        ("secret", Kind.ASYNC, "method:secret is not in list of allowed methods"),
        ("secret", Kind.DUPLEX, "method:secret is not in list of allowed methods"),
    ],
)
async def test_what_may_not_be_called(name: str, kind: Kind, text: str) -> None:
    methods = METHODS | {"secret": METHODS["whoami"]}
    async with served(methods, is_allowed=is_member_method) as (wire, _pub):
        number = await wire.open(name, kind=kind)
        event = await wire.next_event()
        assert isinstance(event, RequestFailed | StreamEnded)
        assert event.number == number
        assert event.error is not None
        assert event.error.message == text
        await wire.open("whoami")
        assert isinstance(await wire.next_event(), ReplyReceived), "the connection lives"
        await wire.stream.send_all(wire.session.goodbye())


def refuse(*_arguments: object) -> Any:
    raise RpcError("not today", "TypeError")


async def refuse_later(*_arguments: object) -> Any:
    await trio.lowlevel.checkpoint()
    raise RpcError("not today", "TypeError")


@pytest.mark.parametrize("method", [Method("sync", refuse), Method("async", refuse_later), Method("source", refuse)])
async def test_a_handler_that_refuses(method: Method) -> None:
    async with served({"ask": method}) as (wire, _pub):
        await wire.open("ask", kind=method.kind)
        event = await wire.next_event()
        assert isinstance(event, RequestFailed | StreamEnded)
        assert event.error is not None
        assert (event.error.message, event.error.name) == ("not today", "TypeError")
        await wire.stream.send_all(wire.session.goodbye())


async def test_a_stream_refused_after_it_got_a_receiver_is_over_for_it() -> None:
    collector = Collector()

    def take(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = collector
        raise RpcError("not today")

    async with connected({"take": Method("duplex", take)}) as (peer, pub):
        heard = listen(peer, "take", Kind.DUPLEX)
        await heard.over.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert peer.session.open_requests == pub.session.open_requests == 0
    assert heard.endings == ["not today"]
    assert collector.endings == [None]


def stumble(*_arguments: object) -> Any:
    raise KeyError("planted")


async def stumble_later(*_arguments: object) -> Any:
    await trio.lowlevel.checkpoint()
    raise KeyError("planted")


class Stumbling(Collector):
    def next_page(self, _budget: int) -> list[bytes]:
        raise KeyError("planted")

    async def receive(self, _bodies: list[bytes]) -> None:
        raise KeyError("planted")


def stumble_in_source(stream: RpcStream, _args: list[Any]) -> None:
    stream.source = Stumbling()
    stream.wake()


def stumble_in_receiver(stream: RpcStream, _args: list[Any]) -> None:
    stream.receiver = Stumbling()


@pytest.mark.parametrize(
    "method",
    [
        Method("sync", stumble),
        Method("async", stumble_later),
        Method("source", stumble),
        Method("source", stumble_in_source),
        Method("duplex", stumble_in_receiver),
    ],
)
async def test_a_bug_in_a_handler_comes_out_of_run(method: Method) -> None:
    with pytest.RaisesGroup(KeyError, flatten_subgroups=True):
        async with served({"ask": method}) as (wire, _pub):
            number = await wire.open("ask", kind=method.kind)
            await wire.stream.send_all(wire.session.data(number, b"1"))


async def test_a_larger_body_is_for_the_methods_that_say_so() -> None:
    collector = Collector()

    def take(stream: RpcStream, _args: list[Any]) -> None:
        stream.receiver = collector

    methods = {"take": Method("duplex", take, body_limit=20_000)}
    with pytest.RaisesGroup(pytest.RaisesExc(MuxrpcError, match="over the limit of 20000"), flatten_subgroups=True):
        async with served(methods) as (wire, _pub):
            number = await wire.open("take", kind=Kind.DUPLEX)
            for size in (20_000, 20_001):
                await wire.stream.send_all(wire.session.data(number, b"1" * size))
                await trio.testing.wait_all_tasks_blocked()
    assert [len(body) for body in collector.bodies] == [20_000]
    assert collector.endings == [CLOSED_TEXT]
