"""What a peer uses up: CPU time and memory of its process and of all children.

CPU time is the kernel's, in nanoseconds, user and system together. Three figures of memory, because they mean different
things: *anonymous* is what the peer itself holds (its heap), sampled while a load runs; *resident* adds the files it
has mapped, for a store in LMDB or a program's text, which the system may drop at any time; and the *share* of
``smaps_rollup`` counts a page that several processes use once, for differences of a few kilobytes.
"""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import KIB

PROC = Path("/proc")
SAMPLE_SECONDS = 0.05
REST_SECONDS = 0.25
REST_TIMES = 3  # in a row
REST_SHARE = 0.1  # of one core; an idle ssb-server takes a few hundredths
REST_LIMIT = 480  # of REST_SECONDS: two minutes


@dataclass
class Usage:
    """What a peer used within a block of ``measured``. Seconds and bytes."""

    cpu: float = 0.0
    client_cpu: float = 0.0  # of this process, which plays the clients
    start: float = 0.0
    wall: float = 0.0  # of the whole block, unless ``stop_clock`` said what counts
    peak_anonymous: int = 0
    peak_resident: int = 0

    def stop_clock(self) -> None:
        """What is measured is done; CPU time and memory go on."""
        self.wall = time.perf_counter() - self.start


def processes(pid: int) -> list[int]:
    """The process and everything below it."""
    found = [pid]
    for parent in found:
        for children in (PROC / str(parent) / "task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended since it was listed
                found += map(int, children.read_text().split())
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU that a peer's processes have used."""
    return sum(time.clock_gettime_ns(_cpu_clock(each)) for each in processes(pid)) / 1e9


def _cpu_clock(pid: int) -> int:
    """The kernel's clock of another process (clock_getcpuclockid(3), which Python does not offer)."""
    return ~pid << 3 | 2


def anonymous(pid: int) -> int:
    """Bytes that belong to no file."""
    return sum(_field(each, "status", "RssAnon") for each in processes(pid))


def share(pid: int) -> int:
    """The same, exactly, and pages of several processes once. Slow: the kernel walks through all pages."""
    return sum(_field(each, "smaps_rollup", "Pss_Anon") for each in processes(pid))


def _field(pid: int, file: str, name: str) -> int:
    for line in (PROC / str(pid) / file).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * KIB
    raise LookupError(f"{file} has no {name}")


def wait_rest(pid: int) -> None:
    """Return when the peer has nothing more to do: ssb-server goes on indexing for seconds after an answer."""
    quiet = 0
    for _ in range(REST_LIMIT):
        before = cpu(pid)
        time.sleep(REST_SECONDS)
        quiet = quiet + 1 if cpu(pid) - before < REST_SHARE * REST_SECONDS else 0
        if quiet == REST_TIMES:
            return
    raise TimeoutError("the peer does not come to rest")


@contextmanager
def measured(pid: int) -> Iterator[Usage]:
    """Measure what happens in the block; the result is complete after it."""
    usage = Usage()
    stop = threading.Event()
    sampler = threading.Thread(target=_sample, args=(pid, usage, stop))
    for each in processes(pid):
        (PROC / str(each) / "clear_refs").write_text("5")  # the peak starts here
    usage.start, start_cpu, start_client = time.perf_counter(), cpu(pid), time.process_time()
    sampler.start()
    try:
        yield usage
        if not usage.wall:
            usage.stop_clock()
        usage.cpu = cpu(pid) - start_cpu
        usage.client_cpu = time.process_time() - start_client
    finally:
        stop.set()
        sampler.join()
    usage.peak_resident = sum(_field(each, "status", "VmHWM") for each in processes(pid))


def _sample(pid: int, usage: Usage, stop: threading.Event) -> None:
    while True:
        usage.peak_anonymous = max(usage.peak_anonymous, anonymous(pid))
        if stop.wait(SAMPLE_SECONDS):
            return


def disk(folder: Path) -> int:
    """Bytes of disk that a folder takes: blocks, not lengths, because files may have holes."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def raise_descriptor_limit() -> None:
    """Thousands of connections, here and (inherited) in the peer."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
