"""muxrpc: what a session says has happened. See `muxrpc`."""

from typing import Any

import msgspec

from pub.errors import RpcError
from pub.protocol.calls import Kind
from pub.protocol.packets import BodyType


class RequestReceived(msgspec.Struct, frozen=True):
    """The peer calls. An ASYNC call waits for `reply` or `fail`, a stream for `end` or `fail`."""

    number: int
    name: tuple[str, ...]
    args: list[Any]
    kind: Kind


class DataReceived(msgspec.Struct, frozen=True, gc=False):
    """A piece of a stream; never empty, never parsed."""

    number: int
    body: bytes
    type: BodyType


class ReplyReceived(msgspec.Struct, frozen=True, gc=False):
    """The answer to our async call; it may be empty or not be JSON."""

    number: int
    body: bytes
    type: BodyType


class RequestFailed(msgspec.Struct, frozen=True):
    """The peer refuses our async call."""

    number: int
    error: RpcError


class StreamEnded(msgspec.Struct, frozen=True):
    """The peer's side of a stream ended. Not reported when the application itself was done with the stream."""

    number: int
    error: RpcError | None


class GoodbyeReceived(msgspec.Struct, frozen=True, gc=False):
    """The peer closed the session: every open call is lost, nothing more arrives."""


Event = RequestReceived | DataReceived | ReplyReceived | RequestFailed | StreamEnded | GoodbyeReceived
