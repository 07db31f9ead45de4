"""One muxrpc call: what its bodies say, and when it is over.

A request is JSON: `{"name": ["blobs", "has"], "args": […], "type": "async"}`. Its stream bit decides whether it is
async, and only a stream needs its `type`. An end is JSON `true`, an error end `{"message", "name", "stack"}`; the
stack stays empty, since it would show the inside of our house. Peers compare some of these texts to the letter.

A stream is over when both sides have ended. After an error neither says more. After a good end the other side goes on
only if it still has a purpose: in a duplex to finish its own direction, in a sink for the callee's verdict.
"""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from pub.errors import InvalidJson, MuxrpcError, RpcError
from pub.protocol import canonical
from pub.protocol.packets import BodyType, Packet, encode_packet

# Requests and errors are parsed and kept, and the largest honest ones are a message to publish or lists of blob ids.
MAX_REQUEST_BODY = 64 * 1024

# Errors of strangers are logged and compared, never stored: what goes beyond this is not worth keeping.
MAX_ERROR_TEXT = 1000

COSTLY_BYTES = 256  # of a request count as one packet of a turn: parsing them costs as much

# To refuse a request costs as much as to take in a message, so it counts as so many packets. What is for nobody costs
# less, but in a turn it counts as much: others should wait for little of it.
VAIN_PACKETS = 16

# What every JavaScript object inherits: the reference implementation finds these in its (empty) list of denied methods.
PROTOTYPE_MEMBERS = frozenset(
    (
        *("__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__", "__proto__", "constructor"),
        *("hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf"),
    )
)

END_BODY = b"true"
CLOSED_TEXT = "unexpected end of parent stream"  # what JavaScript tells the callers left behind
NO_RESULT = b"false"  # what JavaScript makes of `undefined`


class Kind(StrEnum):
    """The kind of a call; the value is its name in a request. A `sync` method is async on the wire."""

    ASYNC = "async"
    SOURCE = "source"
    SINK = "sink"
    DUPLEX = "duplex"


_STREAM_KINDS = {kind.value: kind for kind in (Kind.SOURCE, Kind.SINK, Kind.DUPLEX)}


class Request(NamedTuple):
    """A call as its request describes it."""

    name: tuple[str, ...]
    args: list[Any]
    kind: Kind


# --- the texts that peers compare -------------------------------------------------------------------------


def method_not_allowed(name: Sequence[str]) -> RpcError:
    """The refusal of a method the caller may not call, whether it exists or not."""
    if all(part in PROTOTYPE_MEMBERS for part in name):
        return RpcError(f"method:{','.join(name)} is on list of disallowed methods")
    return RpcError(f"method:{','.join(name)} is not in list of allowed methods")


def no_such_method(kind: Kind, name: Sequence[str]) -> RpcError:
    """The refusal of a method that does not exist, or not as this kind of call."""
    return RpcError(f"no {kind}:{','.join(name)}")


# --- when it is over --------------------------------------------------------------------------------------

# (kind, did we call?) -> do we read data, does the call go on after our good end, and after theirs
_ROLES = {
    (Kind.ASYNC, True): (False, False, False),
    (Kind.ASYNC, False): (False, False, False),
    (Kind.SOURCE, True): (True, False, False),
    (Kind.SOURCE, False): (False, False, False),
    (Kind.SINK, True): (False, True, False),
    (Kind.SINK, False): (True, False, True),
    (Kind.DUPLEX, True): (True, True, True),
    (Kind.DUPLEX, False): (True, True, True),
}


class Call:
    """What a session remembers of an open number."""

    __slots__ = (
        *("body_limit", "is_read", "is_watched", "kind"),
        *("open_here", "open_there", "outlives_ours", "outlives_theirs"),
    )

    def __init__(self, kind: Kind, ours: bool, body_limit: int) -> None:
        self.kind = kind
        self.body_limit = body_limit
        self.open_here = kind is not Kind.ASYNC  # we may still stream: our side has not ended
        self.open_there = True  # the peer has not ended its side
        self.is_watched = True  # the application waits for the peer's end
        self.is_read, self.outlives_ours, self.outlives_theirs = _ROLES[kind, ours]

    def end_here(self, *, failed: bool) -> None:
        """Our end was made; the application may be done with the call."""
        self.open_here = False
        if failed or not self.outlives_ours:
            self.is_read = False
            self.is_watched = False

    def end_there(self) -> None:
        """The peer's end arrived: no data of this call follows."""
        self.open_there = False
        self.is_read = False


# --- what we write ----------------------------------------------------------------------------------------


def encode_request(wire_number: int, name: Sequence[str], args: Sequence[Any], kind: Kind) -> bytes:
    """The packet that opens a call. `type` is always there: some implementations insist on it."""
    body = msgspec.json.encode({"name": name, "args": args, "type": kind.value})
    return encode_packet(wire_number, body, stream=kind is not Kind.ASYNC)


def encode_end(wire_number: int, error: RpcError | None, *, stream: bool) -> bytes:
    """The packet that ends a stream, or refuses a call."""
    return encode_packet(wire_number, END_BODY if error is None else _error_body(error), stream=stream, end=True)


def _error_body(error: RpcError) -> bytes:
    # `json` and not msgspec: the text may echo a lone surrogate of the peer's, which only an escape can carry.
    return json.dumps({"message": error.message, "name": error.name, "stack": ""}, separators=(",", ":")).encode()


# --- what we read -----------------------------------------------------------------------------------------


def parse_request(packet: Packet) -> Request:
    """RpcError if the request is no call, MuxrpcError if it is not even JSON."""
    try:
        value = _value(packet)
    except InvalidJson as error:
        raise MuxrpcError(f"request {packet.request}: {error}") from error
    args = value.get("args") if isinstance(value, dict) else None
    if not isinstance(args, list):
        raise RpcError(f"invalid request, args should be array, was: {_seen(packet)}")
    name = [value["name"]] if isinstance(value.get("name"), str) else value.get("name")
    if not (isinstance(name, list) and name and all(isinstance(part, str) for part in name)):
        raise RpcError(f"invalid request, name should be array of strings, was: {_seen(packet)}")
    return Request(tuple(name), args, _stream_kind(value.get("type")) if packet.stream else Kind.ASYNC)


def parse_end(packet: Packet) -> RpcError | None:
    """None for a good end. Never raises: an end is an end, whatever it says."""
    if packet.body in (b"", END_BODY):
        return None
    value = _lenient_value(packet)
    if value is True or value is None:
        return None
    fields = value if isinstance(value, dict) else {}
    message, name = fields.get("message"), fields.get("name")
    return RpcError(
        message[:MAX_ERROR_TEXT] if isinstance(message, str) else _seen(packet),
        name[:MAX_ERROR_TEXT] if isinstance(name, str) else "Error",
    )


def _stream_kind(value: object) -> Kind:
    text = value if isinstance(value, str) else "undefined"
    if text not in _STREAM_KINDS:
        raise RpcError(f"unsupported stream type: {text[:MAX_ERROR_TEXT]}")
    return _STREAM_KINDS[text]


def _lenient_value(packet: Packet) -> Any:
    if len(packet.body) > MAX_REQUEST_BODY:
        return _seen(packet)
    try:
        return _value(packet)
    except InvalidJson:
        return _seen(packet)


def _value(packet: Packet) -> Any:
    """What a body means; a binary one stays as it is. Raises InvalidJson."""
    body = packet.body
    if packet.type is BodyType.TEXT:
        return body.decode("utf-8", "replace")
    if packet.type is BodyType.BINARY:
        return body
    if body.count(b"[") + body.count(b"{") > canonical.MAX_DEPTH:
        return canonical.parse(body)  # which refuses what is nested too deep for whoever walks through it
    try:
        return msgspec.json.decode(body)
    except ValueError:
        return canonical.parse(body)  # msgspec refuses some of what JavaScript accepts, such as lone surrogates


def _seen(packet: Packet) -> str:
    """A body in the words of `JSON.stringify`, cut short."""
    if packet.type is BodyType.BINARY:
        return f"{len(packet.body)} bytes"
    text = packet.body[:MAX_ERROR_TEXT].decode("utf-8", "replace")
    return text if packet.type is BodyType.JSON else json.dumps(text, ensure_ascii=False)
