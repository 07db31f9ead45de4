"""How a peer's requests are answered: by a method that exists, that this peer may call, and that is of this kind."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import msgspec

from pub.errors import RpcError
from pub.metrics import Metrics
from pub.net.methods import Methods
from pub.net.roles import Peer
from pub.protocol.calls import VAIN_PACKETS
from pub.protocol.muxrpc import RequestReceived, method_not_allowed, no_such_method

if TYPE_CHECKING:
    from pub.net.connection import Connection


class Answers:
    """The methods, and who may call them."""

    __slots__ = ("_is_allowed", "_methods", "_metrics")

    def __init__(
        self, methods: Methods, is_allowed: Callable[[Peer, tuple[str, ...]], bool], metrics: Metrics | None
    ) -> None:
        self._methods = methods
        self._is_allowed = is_allowed
        self._metrics = metrics

    def answer(self, caller: "Connection", request: RequestReceived) -> None:
        """Answer, begin to, or refuse; never waits."""
        method = self._methods.get(request.name)
        if not self._is_allowed(caller.peer, request.name):
            self._turn_away(caller, request, method_not_allowed(request.name), "forbidden")
        elif method is None or method.kind is not request.kind:
            self._turn_away(caller, request, no_such_method(request.kind, request.name), "unknown")
        elif method.type == "async":
            caller.start(self._answer_async, caller, request, method.handler)
        elif method.type == "sync":
            self._answer_sync(caller, request, method.handler)
        else:
            caller.session.set_body_limit(request.number, method.body_limit)
            self._open_stream(caller, request, method.handler)

    def _turn_away(self, caller: "Connection", request: RequestReceived, error: RpcError, result: str) -> None:
        if self._metrics is not None:
            self._metrics.turned_away(request.name, result)
        caller.session.in_vain(VAIN_PACKETS, caller.session.request_bytes)
        caller.queue(caller.session.fail(request.number, error))

    def _counted(self, request: RequestReceived) -> AbstractContextManager[None]:
        return nullcontext() if self._metrics is None else self._metrics.answering(request.name)

    def _answer_sync(self, caller: "Connection", request: RequestReceived, handler: Callable[..., Any]) -> None:
        try:
            with self._counted(request):
                answer = handler(caller, request.args)
        except RpcError as error:
            caller.queue(caller.session.fail(request.number, error))
        else:
            caller.queue(caller.session.reply(request.number, msgspec.json.encode(answer)))

    async def _answer_async(
        self, caller: "Connection", request: RequestReceived, handler: Callable[..., Awaitable[Any]]
    ) -> None:
        try:
            with self._counted(request):
                answer = await handler(caller, request.args)
        except RpcError as error:
            caller.queue(caller.session.fail(request.number, error))
        else:
            caller.queue(caller.session.reply(request.number, msgspec.json.encode(answer)))

    def _open_stream(self, caller: "Connection", request: RequestReceived, handler: Callable[..., Any]) -> None:
        stream = caller.new_stream(request.number)
        try:
            with self._counted(request):
                handler(stream, request.args)
        except RpcError as error:
            caller.release(stream, None)
            stream.end(error)
