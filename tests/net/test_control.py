"""One call over the control socket, to pubs of every kind."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from pub.errors import RpcError
from pub.net.control import MAX_SOCKET_PATH, ControlError, PubNotRunning, ask, call, reachable
from pub.protocol.muxrpc import Kind, Session
from pub.protocol.packets import BodyType, encode_packet
from tests.cli.scripted import Methods, answering, listener, running_pub

Handler = Callable[[trio.SocketStream], Awaitable[None]]


async def talk(nursery: trio.Nursery, socket: Path, handler: Handler) -> Any:
    """Call `whoami` of a pub that serves with `handler`."""
    nursery.start_soon(trio.serve_listeners, handler, [await listener(socket)])
    return await call(socket, ("whoami",), [])


def saying(data: bytes) -> Handler:
    """Reads the request, says `data` and hangs up."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(data)

    return serve


async def test_a_call_is_answered(nursery: trio.Nursery, tmp_path: Path) -> None:
    calls: list[Any] = []
    methods: Methods = {("whoami",): lambda: {"id": "@x"}}
    assert await talk(nursery, tmp_path / "socket", answering(methods, calls)) == {"id": "@x"}
    assert calls == [(("whoami",), [])]


async def test_arguments_arrive_as_they_are(nursery: trio.Nursery, tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    serve = answering({("invite", "create"): lambda asked: asked}, [])
    nursery.start_soon(trio.serve_listeners, serve, [await listener(socket)])
    asked = {"uses": 3, "expires": None, "note": "für Chór ☃"}
    assert await call(socket, ("invite", "create"), [asked]) == asked


async def test_a_refusal_is_raised(nursery: trio.Nursery, tmp_path: Path) -> None:
    with pytest.raises(RpcError, match="no async:whoami"):
        await talk(nursery, tmp_path / "socket", answering({}, []))


@pytest.mark.parametrize(
    ("body", "body_type", "value"),
    [(b'"net:a:1"', BodyType.JSON, "net:a:1"), ("ü".encode(), BodyType.TEXT, "ü"), (b"\xff", BodyType.BINARY, b"\xff")],
)
async def test_answers_of_every_type(
    nursery: trio.Nursery, tmp_path: Path, body: bytes, body_type: BodyType, value: object
) -> None:
    serve = saying(encode_packet(-1, body, body_type))
    assert await talk(nursery, tmp_path / "socket", serve) == value


async def test_an_answer_larger_than_a_packet_of_peers(nursery: trio.Nursery, tmp_path: Path) -> None:
    many = ["x" * 1000] * 2000
    assert await talk(nursery, tmp_path / "socket", answering({("whoami",): lambda: many}, [])) == many


async def test_a_pub_that_calls_us_first_does_not_confuse_us(nursery: trio.Nursery, tmp_path: Path) -> None:
    _, theirs = Session().open(("blobs", "createWants"), [], Kind.SOURCE)
    serve = saying(theirs + encode_packet(-1, b"true"))
    assert await talk(nursery, tmp_path / "socket", serve) is True


async def test_no_socket(tmp_path: Path) -> None:
    for socket in (tmp_path / "socket", tmp_path / "no folder" / "socket"):
        with pytest.raises(PubNotRunning, match="not running"):
            await call(socket, ("whoami",), [])


async def test_the_socket_of_a_pub_that_crashed(tmp_path: Path) -> None:
    await (await listener(tmp_path / "socket")).aclose()
    with pytest.raises(PubNotRunning, match="not running"):
        await call(tmp_path / "socket", ("whoami",), [])


@pytest.mark.parametrize("last_words", [b"", bytes(9)])
async def test_a_pub_that_leaves_before_it_answers(nursery: trio.Nursery, tmp_path: Path, last_words: bytes) -> None:
    with pytest.raises(PubNotRunning, match="before it answered"):
        await talk(nursery, tmp_path / "socket", saying(last_words))


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", encode_packet(-1, b"no json")])
async def test_something_else_listens(nursery: trio.Nursery, tmp_path: Path, garbage: bytes) -> None:
    with pytest.raises(ControlError, match="is not a pub"):
        await talk(nursery, tmp_path / "socket", saying(garbage))


async def test_a_socket_of_someone_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_name: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(trio, "open_unix_socket", refuse)
    with pytest.raises(ControlError, match="Permission denied"):
        await call(tmp_path / "socket", ("whoami",), [])


async def test_a_data_folder_deeper_than_a_socket_address(nursery: trio.Nursery, tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    socket = folder / "socket"
    assert len(bytes(socket)) > MAX_SOCKET_PATH
    assert await talk(nursery, socket, answering({("whoami",): lambda: "here"}, [])) == "here"
    assert socket.is_socket()


@pytest.mark.parametrize("is_umlaut", [False, True])
def test_the_longest_path_that_fits_is_used_as_it_is(tmp_path: Path, is_umlaut: bool) -> None:
    letters = MAX_SOCKET_PATH - len(bytes(tmp_path)) - 1
    longest = tmp_path / ("ü" * (letters // 2) + "x" * (letters % 2) if is_umlaut else "x" * letters)
    with reachable(longest) as name:
        assert name == str(longest)
    with reachable(longest.with_name(longest.name + "x")) as name:
        assert len(name) < MAX_SOCKET_PATH


def test_asking_without_an_event_loop(tmp_path: Path) -> None:
    with running_pub(tmp_path / "socket", {("whoami",): lambda: 1}):
        assert ask(tmp_path / "socket", ("whoami",), []) == 1


def test_a_pub_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_arguments: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("pub.net.control.call", hang)
    monkeypatch.setattr("pub.net.control.ANSWER_SECONDS", 0.01)
    with pytest.raises(ControlError, match="did not answer within"):
        ask(tmp_path / "socket", ("whoami",), [])
