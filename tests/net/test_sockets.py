"""The sockets of this machine."""

import socket

import trio

from pub.net.sockets import KEEPALIVE_PROBES, Sockets

SECONDS = 40


def probing(stream: trio.SocketStream) -> list[int]:
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    told = [stream.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    return [stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *map(int, told)]


async def test_a_connection_that_comes_in_is_kept_alive_like_one_that_we_dialled() -> None:
    network = Sockets()
    [listener], port = await network.listen("127.0.0.1", 0, SECONDS)
    async with listener, await network.connect("127.0.0.1", port) as dialled, await listener.accept() as accepted:
        network.keep_alive(dialled, SECONDS)
        assert probing(accepted) == probing(dialled)
        assert probing(accepted) == [1, SECONDS, SECONDS // KEEPALIVE_PROBES, KEEPALIVE_PROBES, 2000 * SECONDS]
