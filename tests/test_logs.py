"""What operators and machines read of the log."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import structlog

from pub.logs import MAX_REPEATS, REPEATS_SECONDS, Repeats, configure, short
from pub.protocol.refs import feed_id

ALICE = feed_id(bytes(range(32)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def json_lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def fail() -> None:
    private = "hunter2"
    raise ValueError(f"no \x1b[2Jroom after {len(private)}")


def test_json_lines_hold_everything_in_full() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    structlog.get_logger().info("peer connected", peer=ALICE, bytes=3, raw=b"x")
    (line,) = json_lines(out)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    del line["time"]
    assert line == {"level": "info", "event": "peer connected", "peer": ALICE, "bytes": 3, "raw": "b'x'"}


@pytest.mark.parametrize(("out", "is_json"), [(io.StringIO(), True), (Terminal(), False)])
def test_auto_is_the_console_on_a_terminal_only(out: io.StringIO, is_json: bool) -> None:
    configure("auto", "info", out)
    structlog.get_logger().info("hello")
    assert out.getvalue().startswith("{") is is_json


def test_colours_are_for_terminals_only() -> None:
    out = io.StringIO()
    configure("console", "info", out)
    structlog.get_logger().warning("hello", peer="x")
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("style", ["console", "json"])
def test_lines_below_the_level_are_not_written(style: str) -> None:
    out = io.StringIO()
    configure(style, "warning", out)
    structlog.get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    structlog.get_logger().error("loud")
    assert "quiet" not in out.getvalue()
    assert "loud" in out.getvalue()


def test_libraries_speak_the_same_way() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    logging.getLogger("library").warning("%s of %s", 1, 2)
    (line,) = json_lines(out)
    assert (line["event"], line["level"]) == ("1 of 2", "warning")


def test_the_console_shortens_ids() -> None:
    out = io.StringIO()
    configure("console", "info", out)
    structlog.get_logger().info(f"hello {ALICE}", peer=ALICE)
    assert ALICE not in out.getvalue()
    assert out.getvalue().count(short(ALICE)) == 2


def test_a_peer_cannot_steer_the_terminal() -> None:
    out = io.StringIO()
    configure("console", "info", out)
    structlog.get_logger().info("about \x1b[31m", name="evil\x1b[2J\nERROR the pub is down", error=ValueError("\x1b"))
    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("bug")
    assert "\x1b" not in out.getvalue()
    assert "\nERROR" not in out.getvalue()


def test_stacks_keep_their_lines() -> None:
    for style in ("console", "json"):
        out = io.StringIO()
        configure(style, "info", out)
        structlog.get_logger().error("stacks", stack="thread\n  call \x1b\n  call")
        assert "thread" in out.getvalue()
        assert "\x1b" not in out.getvalue()
        assert out.getvalue().count("\n") == {"console": 4, "json": 1}[style]


@pytest.mark.parametrize("style", ["console", "json"])
def test_tracebacks_show_no_variables(style: str) -> None:
    out = io.StringIO()
    configure(style, "info", out)
    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("bug", number=1)
    assert "Traceback" in out.getvalue()
    assert "in fail" in out.getvalue()
    assert "private = 'hunter2'" not in out.getvalue()
    assert "'hunter2'" not in out.getvalue()


def test_configuring_again_moves_the_log() -> None:
    first, second = io.StringIO(), io.StringIO()
    log = structlog.get_logger()
    configure("json", "info", first)
    log.info("one")
    configure("json", "info", second)
    log.info("two")
    assert [line["event"] for line in json_lines(first)] == ["one"]
    assert [line["event"] for line in json_lines(second)] == ["two"]


def test_what_peers_can_repeat_is_written_a_few_times_a_minute() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)

    def written(event: str, count: int, method: str = "info") -> list[Any]:
        lines = []
        for _ in range(count):
            with suppress(structlog.DropEvent):
                lines.append(repeats(None, method, {"event": event}))
        return lines

    assert written("peer_dropped", 1000) == [{"event": "peer_dropped"}] * MAX_REPEATS
    assert written("ready", 1) == [{"event": "ready"}], "each event has its own window"
    assert len(written("peer_dropped", 1000, "debug")) == 1000, "who asks for all of them wants them"
    now = REPEATS_SECONDS - 1
    assert written("peer_dropped", 10) == []
    now = REPEATS_SECONDS
    assert written("peer_dropped", 2) == [{"event": "peer_dropped", "left_out": 1000}, {"event": "peer_dropped"}]
    now = 2 * REPEATS_SECONDS
    assert written("peer_dropped", 1) == [{"event": "peer_dropped"}], "none was left out this time"


def test_a_log_is_not_flooded() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    for number in range(1000):
        structlog.get_logger().info("peer_dropped", number=number)
    assert [line["number"] for line in json_lines(out)] == list(range(MAX_REPEATS))


def test_short() -> None:
    assert short(ALICE) == "@AAECAw…"
    assert short("@AAECAw") == "@AAECAw"
    assert short("") == ""
