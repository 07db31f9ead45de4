"""What operators and machines read of the log."""

import ast
import io
import json
import logging
import re
from binascii import b2a_base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from pub import logs
from pub.logs import MAX_EVENTS, MAX_REPEATS, REPEATS_SECONDS, configure, short
from pub.protocol.addresses import Address
from pub.protocol.invites import format_invite
from pub.protocol.keys import KeyPair, render_secret
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


def test_json_lines_hold_everything() -> None:
    out = io.StringIO()
    configure("json", "info", out)
    structlog.get_logger().info("peer connected", peer="x" * 100, bytes=3, raw=b"x")
    (line,) = json_lines(out)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    del line["time"]
    assert line == {"level": "info", "event": "peer connected", "peer": "x" * 100, "bytes": 3, "raw": "b'x'"}


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


@pytest.mark.parametrize("style", ["console", "json"])
def test_ids_are_shortened_wherever_they_stand(style: str) -> None:
    out = io.StringIO()
    configure(style, "info", out)
    structlog.get_logger().info(f"hello {ALICE}", peer=ALICE, many=[ALICE])
    logging.getLogger("library").warning("about %s", ALICE)
    try:
        raise ValueError(ALICE)
    except ValueError:
        structlog.get_logger().exception("bug")
    assert ALICE not in out.getvalue()
    assert out.getvalue().count(short(ALICE)) == 5


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize("transport", ["net", "ws"])
def test_no_code_and_no_secret_even_by_mistake(style: str, transport: str) -> None:
    keys = KeyPair.generate(b"+/" * 16)
    code = format_invite(Address("pub.example", 8008, keys.public, transport), bytes(range(100, 132)))
    seed = b2a_base64(bytes(range(100, 132)), newline=False).decode()
    secret = render_secret(keys)
    assert seed in code
    out = io.StringIO()
    configure(style, "info", out)
    structlog.get_logger().info(f"redeeming {code}", code=code, codes=[code, code], secret=secret, keys=keys)
    logging.getLogger("library").warning("%s %s", code, secret)
    try:
        raise ValueError(code, secret)
    except ValueError:
        structlog.get_logger().exception("bug")
    assert seed not in out.getvalue()
    assert b2a_base64(keys.seed, newline=False).decode()[:42] not in out.getvalue()
    assert out.getvalue().count("***") >= 5


# --- repeats --------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(logs, "repeats", logs.Repeats(clock))
    return clock


def test_max_repeats(clock: Clock) -> None:
    out = io.StringIO()
    configure("json", "debug", out)
    log = structlog.get_logger()
    for number in range(MAX_REPEATS + 5):
        log.info("peer_dropped", number=number)
        log.debug("peer_dropped", number=number)
    log.warning("peer_dropped")
    log.info("something_else")
    levels = [line["level"] for line in json_lines(out)]
    assert levels.count("info") == MAX_REPEATS + 1
    assert levels.count("debug") == MAX_REPEATS + 5
    assert levels.count("warning") == 1
    assert logs.repeats.suppressed == 5
    clock.now += REPEATS_SECONDS
    log.info("peer_dropped")
    told, last = json_lines(out)[-2:]
    assert (told["event"], told["repeated"], told["count"]) == ("repeats_suppressed", "peer_dropped", 5)
    assert last["event"] == "peer_dropped"


def test_what_libraries_repeat_is_held_back_too(clock: Clock) -> None:
    out = io.StringIO()
    configure("json", "info", out)
    for number in range(MAX_REPEATS + 5):
        logging.getLogger("library").warning("request %s failed", number)
    assert len(json_lines(out)) == MAX_REPEATS


def test_max_events(clock: Clock) -> None:
    """Somebody who can choose the words can't fill the memory with them."""
    out = io.StringIO()
    configure("json", "info", out)
    for number in range(3 * MAX_EVENTS):
        logging.getLogger("library").warning(f"request {number} failed")
    assert len(logs.repeats._seen) <= MAX_EVENTS


def test_the_end_of_the_process_is_the_last_chance_to_tell(clock: Clock) -> None:
    out = io.StringIO()
    configure("json", "info", out)
    for _ in range(MAX_REPEATS + 2):
        structlog.get_logger().info("again")
    logging.getLogger().handlers[0].close()
    assert json_lines(out)[-1]["count"] == 2


def test_lines_are_counted_by_level(clock: Clock) -> None:
    before = logs.written.copy()
    configure("json", "info", io.StringIO())
    for _ in range(MAX_REPEATS + 5):
        structlog.get_logger().info("again")
    structlog.get_logger().debug("below the level")
    logging.getLogger("library").error("failed")
    assert logs.written - before == {"info": MAX_REPEATS, "error": 1}


# --- docs/LOGS.md ---------------------------------------------------------------------------------------------


def events(path: Path) -> Iterator[tuple[str, str]]:
    """(event, level) of every line that this file can log."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name("log"), attr=level), args=[event, *_]):
                yield from ((text, level) for text in constants(event))
            case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Attribute(attr="get_logger")), attr=level)):
                yield from ((text, level) for text in constants(node.args[0]))
            case ast.Call(func=ast.Name("say"), args=[event, *_]):
                yield from ((text, level) for text in constants(event) for level in ("info", "debug"))


def constants(node: ast.AST) -> Iterator[str]:
    """The words an event may be: one, or one of two."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from constants(one)
            yield from constants(other)


def test_every_event_is_in_the_document_and_none_is_there_that_can_not_happen() -> None:
    root = Path(__file__).parents[1]
    logged: dict[str, set[str]] = {}
    for path in (root / "pub").rglob("*.py"):
        for event, level in events(path):
            logged.setdefault(event, set()).add(level)
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \| \S", (root / "docs" / "LOGS.md").read_text(), re.MULTILINE)
    assert {event: set(levels.split(", ")) for event, levels in rows} == logged
    assert all(re.fullmatch(r"[a-z_]+", event) for event in logged)


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


def test_short() -> None:
    assert short(ALICE) == "@AAECAw…"
    assert short("@AAECAw") == "@AAECAw"
    assert short("") == ""
