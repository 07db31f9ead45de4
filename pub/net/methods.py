"""What can be asked of us: the entries of the METHODS tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pub.protocol.muxrpc import BODY_LIMIT, Kind


@dataclass(frozen=True, slots=True)
class Method:
    """An entry of a METHODS table. ``type`` is what the manifest says; a sync method is asked like an async one.

    ``handler`` is called with the connection and the arguments (sync: returns the answer; async: awaited), or with
    the new ``RpcStream`` and the arguments (source, sink, duplex). It refuses by raising ``RpcError``.
    """

    type: str
    handler: Callable[..., Any]
    body_limit: int = BODY_LIMIT
    """Bytes in one packet of the stream."""

    @property
    def kind(self) -> Kind:
        """How the wire asks for it."""
        return Kind.ASYNC if self.type == "sync" else Kind(self.type)


Methods = dict[tuple[str, ...], Method]
