"""The conversations that hand-made callers had with the reference server, held again with a server on our session."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pub.errors import RpcError
from pub.protocol.muxrpc import (
    BodyType,
    Event,
    Kind,
    RequestReceived,
    Session,
    StreamEnded,
    method_not_allowed,
    no_such_method,
)
from pub.protocol.packets import GOODBYE, Goodbye, Packet, encode_packet
from tests.protocol.test_muxrpc import packets_of
from tests.protocol.test_packets import body_of
from tests.vectors import load

VECTORS = load("muxrpc")


class ReferenceServer:
    """The server the vectors were made with: its manifest, its allow list, the simplest handlers."""

    def __init__(self, allow: list[str] | None) -> None:
        self.session = Session()
        self.allow = allow
        self.sent = b""
        say = self.session
        self.methods: dict[tuple[str, ...], tuple[Kind, Callable[[int, list[Any]], list[bytes]]]] = {
            ("hello",): (Kind.ASYNC, lambda n, args: [say.reply(n, f"hi {args[0]}".encode(), BodyType.TEXT)]),
            ("helloSync",): (Kind.ASYNC, lambda n, args: [say.reply(n, f"sync {args[0]}".encode(), BodyType.TEXT)]),
            ("boom",): (Kind.ASYNC, lambda n, _: [say.fail(n, RpcError("boom"))]),
            ("throwing",): (Kind.ASYNC, lambda n, _: [say.fail(n, RpcError("thrown"))]),
            ("nested", "deep"): (Kind.ASYNC, lambda n, _: [say.reply(n, b'{"ok":true}')]),
            ("secret",): (Kind.ASYNC, lambda n, _: [say.reply(n, b"1")]),
            ("never",): (Kind.ASYNC, lambda *_: []),
            ("undef",): (Kind.ASYNC, lambda n, _: [say.end(n)]),
            ("manifest",): (
                Kind.ASYNC,
                lambda n, _: [say.reply(n, json.dumps(VECTORS["server_manifest"]).encode())],
            ),
            ("count",): (
                Kind.SOURCE,
                lambda n, args: [say.data_many(n, [b"%d" % i for i in range(args[0] + 1)]), say.end(n)],
            ),
            ("errsource",): (Kind.SOURCE, lambda n, _: [say.fail(n, RpcError("srcerr"))]),
            ("bin",): (
                Kind.SOURCE,
                lambda n, _: [
                    say.data(n, b"\1\2\3", BodyType.BINARY),
                    say.data(n, b"x", BodyType.BINARY),
                    say.end(n),
                ],
            ),
            ("dup",): (
                Kind.DUPLEX,
                lambda n, _: [say.data(n, b"a", BodyType.TEXT), say.data(n, b"b", BodyType.TEXT)],
            ),
        }

    def handle(self, event: Event) -> None:
        match event:
            case RequestReceived(number, name, args, kind):
                self.sent += self.answer(number, name, args, kind)
            case StreamEnded(number):
                self.sent += self.session.end(number)

    def answer(self, number: int, name: tuple[str, ...], args: list[Any], kind: Kind) -> bytes:
        if self.allow is not None and name[0] not in self.allow:
            return self.session.fail(number, method_not_allowed(name))
        if name not in self.methods or self.methods[name][0] is not kind:
            return self.session.fail(number, no_such_method(kind, name))
        return b"".join(self.methods[name][1](number, args))

    def receive(self, data: bytes) -> None:
        self.session.receive_data(data)
        while (event := self.session.next_event()) is not None:
            self.handle(event)
        self.sent += self.session.data_to_send()


def wire_of(packet: Any) -> bytes:
    if packet == "GOODBYE":
        return GOODBYE
    body, body_type = body_of(packet)
    return encode_packet(packet["req"], body, body_type, stream=packet["stream"], end=packet["end"])


def described(packet: Packet | Goodbye) -> Any:
    """A packet in the words of the vectors; our stacks are empty where the reference shows its own."""
    if isinstance(packet, Goodbye):
        return "GOODBYE"
    flags = {"req": packet.request, "stream": packet.stream, "end": packet.end}
    if packet.type is BodyType.BINARY:
        return {**flags, "value_hex": packet.body.hex()}
    value = packet.body.decode() if packet.type is BodyType.TEXT else json.loads(packet.body)
    if isinstance(value, dict) and value.get("stack") == "":
        value["stack"] = "<stack>"
    return {**flags, "value": value}


@pytest.mark.parametrize("case", VECTORS["conversations"], ids=lambda case: case["note"])
def test_a_conversation_with_the_reference_server(case: dict[str, Any]) -> None:
    server = ReferenceServer(None if case["note"].startswith("open permissions") else VECTORS["server_allow"])
    server.receive(b"".join(map(wire_of, case["sent"])))
    assert [described(packet) for packet in packets_of(server.sent)] == case["received"]
    assert (GOODBYE in server.sent) == case.get("connection_ended", False)
