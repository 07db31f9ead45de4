"""``ssb-pub`` with a planted fault that breaks out on a call of ``whoami``: ``python -m tests.service.faulty FAULT …``.

The watchdog is as it is, but in a hurry.
"""

import errno
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import lmdb
import trio

from pub.cli import main
from pub.net.connection import Connection
from pub.net.methods import Method
from pub.rpc.context import Pub
from pub.rpc.gossip import Volleys
from pub.service import watchdog
from pub.service.wiring import METHODS
from pub.store.env import Store
from pub.store.log import Appender

LONG = 1000  # seconds
broken_out = trio.Event()


def sleep(*_: Any) -> None:
    time.sleep(LONG)


def spin(*_: Any) -> None:
    while True:
        pass


def keep_the_interpreter_lock(*_: Any) -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def hold_the_log(*_: Any) -> None:
    logging.getLogger().handlers[0].acquire()
    time.sleep(LONG)


def block_the_writer(pub: Pub, _caller: Connection, _args: list[Any]) -> Any:
    return pub.ingest.write(sleep)


def error_of_lmdb(kind: type[lmdb.Error], text: str, code: int) -> lmdb.Error:
    error = kind(f"mdb_planted: {text}")
    vars(error)["code"] = code
    return error


def break_the_disk(pub: Pub, _caller: Connection, _args: list[Any]) -> Any:
    @contextmanager
    def transaction(_store: Store) -> Iterator[NoReturn]:
        raise error_of_lmdb(lmdb.Error, "Input/output error", errno.EIO)
        yield

    Store._transaction = transaction  # type: ignore[method-assign, assignment]
    return pub.ingest.write(lambda _: None)


def damage_the_store(pub: Pub, _caller: Connection, _args: list[Any]) -> None:
    with pub.store.read():
        raise error_of_lmdb(lmdb.CorruptedError, "Located page was wrong type", -30796)


async def fail_in_the_core(_volleys: Volleys) -> NoReturn:
    await broken_out.wait()
    raise ExceptionGroup("planted", [KeyError("planted here"), ValueError("planted there")])


def break_out(*_: Any) -> None:
    broken_out.set()


def end_without_end(pub: Pub, _caller: Connection, _args: list[Any]) -> Any:
    os.kill(os.getpid(), signal.SIGTERM)
    return pub.ingest.write(sleep)


def break_out_without_end(pub: Pub, _caller: Connection, _args: list[Any]) -> Any:
    def job(_appender: Appender) -> None:
        trio.from_thread.run_sync(broken_out.set)
        sleep()

    return pub.ingest.write(job)


FAULTS: dict[str, Callable[..., Any]] = {
    "none": lambda *_: {"id": "nobody"},
    "sleep": sleep,
    "spin": spin,
    "lock": keep_the_interpreter_lock,
    "log": hold_the_log,
    "writer": block_the_writer,
    "disk": break_the_disk,
    "damage": damage_the_store,
    "core": break_out,
    "endless end": end_without_end,
    "endless break": break_out_without_end,
}
PATIENT = {"endless end", "endless break"}  # here the writer is not what is to be noticed


async def whoami(*arguments: Any) -> Any:
    answer = FAULT(*arguments)
    return await answer if isinstance(answer, Coroutine) else answer


if __name__ == "__main__":
    name = sys.argv.pop(1)
    FAULT = FAULTS[name]
    METHODS["whoami",] = Method("async", whoami)
    Volleys.run = fail_in_the_core  # type: ignore[method-assign, assignment]
    watchdog.ROUND_SECONDS = 0.05
    watchdog.ROUNDS |= dict.fromkeys(watchdog.ROUNDS, 20) | {watchdog.WRITER: 1000 if name in PATIENT else 20}
    if name == "lock":  # a loop that spins burns as fast, and on a busy machine last words take their time
        watchdog.LOCK_CPU_SECONDS = 1
    watchdog.LAST_WORDS_SECONDS = 4
    os.environ |= {"PUB_LIMITS_GRACE_SECONDS": "0.1", "PUB_INGEST_WORKERS": "1"}
    main()
