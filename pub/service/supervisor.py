"""What systemd is told: ready, stopping, and, while the event loop turns, that it does (sd_notify(3)).

A unit of ``Type=notify`` names a datagram socket in ``$NOTIFY_SOCKET`` and, with ``WatchdogSec=``, how long it waits
for a sign of life in ``$WATCHDOG_USEC``. Under any other supervisor neither is set and nothing here does anything.
"""

import os
import socket
from collections.abc import Mapping

import structlog
import trio

log = structlog.get_logger()


def notify(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Tell the supervisor, if there is one. ``state`` is for instance ``READY=1``."""
    address = environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as datagram:
            datagram.sendto(state.encode(), address)
    except OSError as error:  # the pub goes on; a supervisor that misses a word acts on that by itself
        log.warning("supervisor_not_told", state=state, reason=error.strerror)


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often to give a sign of life: twice as often as the supervisor asks; ``None``: it asks for none."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdecimal() and int(microseconds) else None


async def keep_watchdog_quiet(environ: Mapping[str, str] = os.environ) -> None:
    """Give signs of life for as long as the event loop turns."""
    interval = watchdog_seconds(environ)
    while interval is not None:
        notify("WATCHDOG=1", environ)
        await trio.sleep(interval)
