"""Memory that reading large clocks took goes back to the system.

A clock of ten thousand feeds is half a megabyte of text and three as objects, for a few hundredths of a second. The
allocator keeps what becomes free between things that stay, and a hundred people who greet one after the other leave
more of it behind than all their clocks take. It gives back whole pages if it is asked to.
"""

import ctypes

import trio

from pub.rpc.context import Pub

PAUSE_SECONDS = 0.5  # from a large clock until its memory goes back: others may come meanwhile, and would want it again

# Of glibc alone; other allocators give back by themselves, or can't be asked.
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """All whole pages that are free: of 10 MB, in less than a millisecond."""
    if _trim is not None:
        _trim(0)


async def keep_small(pub: Pub) -> None:
    """Give back what large clocks took, for ever."""
    while True:
        await pub.replication.large_clock_read.wait()
        await trio.sleep(PAUSE_SECONDS)
        pub.replication.large_clock_read = trio.Event()
        give_back()
