"""``manifest``: which methods the caller may use and how each is called."""

from typing import Any

from pub.net.connection import Connection
from pub.net.methods import Method, Methods
from pub.rpc.context import Pub
from pub.rpc.permissions import is_allowed


def manifest(pub: Pub, caller: Connection, _args: list[Any]) -> dict[str, Any]:
    """Nested names to types, ``{"ebt": {"replicate": "duplex"}}``, cut to the caller's rights."""
    nested: dict[str, Any] = {}
    for name, method in pub.methods.items():
        if is_allowed(caller.peer, name):
            _enter(nested, name, method)
    return nested


def _enter(nested: dict[str, Any], name: tuple[str, ...], method: Method) -> None:
    for part in name[:-1]:
        nested = nested.setdefault(part, {})
    nested[name[-1]] = method.type


METHODS: Methods = {("manifest",): Method("sync", manifest)}
