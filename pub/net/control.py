"""The caller's side of the control socket: one muxrpc call to the pub running on a data folder.

The socket is a unix socket of mode 0600. Who may open the file may do everything, so there is no handshake and no box
stream, only muxrpc (`unix:<path>~noauth` of the existing tools). One connection makes one call.

A socket's address holds 107 bytes of path, and data folders can lie deeper than that. `reachable` gives such a socket
a short name, through the open folder it is in; whoever listens uses it too.
"""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from pub.errors import ExitCode, OperatorError, ProtocolError
from pub.protocol.muxrpc import GoodbyeReceived, Kind, ReplyReceived, RequestFailed, Session
from pub.protocol.packets import BodyType

MAX_SOCKET_PATH = 107  # bytes in sockaddr_un of Linux, without the final zero
MAX_ANSWER = 64 * 2**20  # bytes: a list of 80,000 members with their notes fits, a runaway answer does not
ANSWER_SECONDS = 30  # answers take milliseconds, a new invite one write to disk: beyond this something is stuck
CHUNK = 65536


class PubNotRunning(OperatorError):
    """Nobody listens on the control socket, or stopped listening before the answer."""

    exit_code = ExitCode.UNAVAILABLE


class ControlError(OperatorError):
    """Something is wrong with the control socket itself."""


async def call(socket: Path, name: tuple[str, ...], args: list[Any]) -> Any:
    """Call an async method of the running pub; its answer as plain data.

    Raises RpcError when the pub refuses, PubNotRunning when there is none, ControlError when the socket cannot be
    used or does not speak muxrpc. The caller sets the timeout.
    """
    stream = await _connect(socket)
    async with stream:
        try:
            return await _ask(stream, name, args)
        except (ProtocolError, ValueError) as error:
            raise ControlError(f"what listens on {socket} is not a pub: {error}") from error
        except trio.BrokenResourceError:
            raise PubNotRunning(f"the pub on {socket} stopped before it answered") from None


def ask(socket: Path, name: tuple[str, ...], args: list[Any]) -> Any:
    """`call` for programs without an event loop; gives up after ANSWER_SECONDS with a ControlError."""

    async def call_in_time() -> Any:
        with trio.fail_after(ANSWER_SECONDS):
            return await call(socket, name, args)

    try:
        return trio.run(call_in_time)
    except trio.TooSlowError:
        raise ControlError(f"the pub is running but did not answer within {ANSWER_SECONDS} seconds") from None


@contextmanager
def reachable(socket: Path) -> Generator[str]:
    """A name for `socket` that fits into a socket address, valid inside the block; its folder must exist."""
    if len(os.fsencode(socket)) <= MAX_SOCKET_PATH:
        yield str(socket)
        return
    folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{socket.name}"
    finally:
        os.close(folder)


async def _connect(socket: Path) -> trio.SocketStream:
    try:
        with reachable(socket) as name:
            return await trio.open_unix_socket(name)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        raise PubNotRunning(f"the pub is not running: nothing listens on {socket}") from None
    except OSError as error:
        raise ControlError(f"cannot use {socket}: {error.strerror or error}") from error


async def _ask(stream: trio.SocketStream, name: tuple[str, ...], args: list[Any]) -> Any:
    session = Session()
    number, request = session.open(name, args, Kind.ASYNC, MAX_ANSWER)
    await stream.send_all(request)
    while data := await stream.receive_some(CHUNK):
        session.receive_data(data)
        while (event := session.next_event()) is not None:
            match event:
                case ReplyReceived(number=answered) if answered == number:
                    return _value(event)
                case RequestFailed(number=answered, error=refusal) if answered == number:
                    raise refusal
                case GoodbyeReceived():
                    raise trio.BrokenResourceError
    raise trio.BrokenResourceError


def _value(reply: ReplyReceived) -> Any:
    if reply.type is BodyType.BINARY:
        return reply.body
    text = reply.body.decode("utf-8")
    return json.loads(text) if reply.type is BodyType.JSON else text
