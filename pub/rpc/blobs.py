"""``blobs.createWants``: peers open it at once on every connection and wait for our wants. We have none to tell."""

from typing import Any

from pub.net.methods import Method, Methods
from pub.net.rpcstream import RpcStream
from pub.rpc.context import Pub


def create_wants(_pub: Pub, stream: RpcStream, _args: list[Any]) -> None:
    """source: the first object goes out at once, even an empty one, and the stream stays open."""
    stream.send({})


METHODS: Methods = {("blobs", "createWants"): Method("source", create_wants)}
