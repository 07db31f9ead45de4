"""A pub that says what a test tells it to, on a real unix socket."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from pub.errors import RpcError
from pub.net.control import reachable
from pub.protocol.muxrpc import RequestReceived, Session, no_such_method

Methods = Mapping[tuple[str, ...], Callable[..., Any]]
Handler = Callable[[trio.SocketStream], Any]


async def listener(socket: Path) -> trio.SocketListener:
    """A listener on a new unix socket."""
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    with reachable(socket) as name:
        await listening.bind(name)
    listening.listen()
    return trio.SocketListener(listening)


def answering(methods: Methods, calls: list[tuple[tuple[str, ...], list[Any]]]) -> Handler:
    """Answers each call with what its method returns or the RpcError it raises, and notes it in `calls`."""

    def reply(session: Session, request: RequestReceived) -> bytes:
        calls.append((request.name, request.args))
        try:
            if request.name not in methods:
                raise no_such_method(request.kind, request.name)
            result = methods[request.name](*request.args)
        except RpcError as error:
            return session.fail(request.number, error)
        return session.reply(request.number, json.dumps(result).encode())

    async def serve(stream: trio.SocketStream) -> None:
        session = Session()
        while data := await stream.receive_some():
            session.receive_data(data)
            while (event := session.next_event()) is not None:
                if isinstance(event, RequestReceived):
                    await stream.send_all(reply(session, event))

    return serve


@contextmanager
def running_pub(socket: Path, methods: Methods) -> Iterator[list[tuple[tuple[str, ...], list[Any]]]]:
    """The scripted pub in a thread of its own; yields the calls it gets."""
    calls: list[tuple[tuple[str, ...], list[Any]]] = []
    started = threading.Event()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        with trio.CancelScope() as scope:
            token = trio.lowlevel.current_trio_token()
            stop.append(lambda: token.run_sync_soon(scope.cancel))
            listening = await listener(socket)
            started.set()
            await trio.serve_listeners(answering(methods, calls), [listening])

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert started.wait(5), "the scripted pub does not start"
        yield calls
    finally:
        stop[0]()
        thread.join()
