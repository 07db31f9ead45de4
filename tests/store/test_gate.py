import threading
import time
from collections.abc import Callable

import pytest

from pub.store.gate import Gate

PATIENCE = 5  # seconds until a deadlock fails the test


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)  # lets the other threads run


def finished(thread: threading.Thread) -> bool:
    thread.join(PATIENCE)
    return not thread.is_alive()


class Closer:
    """A thread that closes the gate, and opens it again when told."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.is_closed = threading.Event()
        self.open_again = threading.Event()
        self.thread = in_thread(self._close)

    def _close(self) -> None:
        with self.gate.closed():
            self.is_closed.set()
            self.open_again.wait(PATIENCE)


def test_an_empty_gate_closes_at_once() -> None:
    closer = Closer(Gate())
    assert closer.is_closed.wait(PATIENCE)
    closer.open_again.set()
    assert finished(closer.thread)


def test_closing_waits_for_every_read_of_every_thread() -> None:
    gate = Gate()
    leave = threading.Event()
    inside = threading.Semaphore(0)

    def read() -> None:
        gate.enter()
        inside.release()
        leave.wait(PATIENCE)
        gate.leave()

    readers = [in_thread(read) for _ in range(3)]
    for _ in readers:
        assert inside.acquire(timeout=PATIENCE)
    closer = Closer(gate)
    until(lambda: gate._closed)
    assert not closer.is_closed.is_set()
    leave.set()
    assert closer.is_closed.wait(PATIENCE)
    closer.open_again.set()
    assert finished(closer.thread)
    assert all(finished(reader) for reader in readers)


def test_a_new_reader_waits_until_the_gate_opens() -> None:
    gate = Gate()
    closer = Closer(gate)
    assert closer.is_closed.wait(PATIENCE)
    entered = threading.Event()

    def read() -> None:
        gate.enter()
        entered.set()
        gate.leave()

    reader = in_thread(read)
    assert not entered.wait(0.01)
    closer.open_again.set()
    assert finished(reader)
    assert entered.is_set()


def test_whoever_reads_already_may_read_more_while_the_gate_waits_to_close() -> None:
    gate = Gate()
    gate.enter()
    closer = Closer(gate)
    until(lambda: gate._closed)
    gate.enter()
    gate.leave()
    assert gate.is_reading()
    assert not closer.is_closed.is_set()
    gate.leave()
    assert not gate.is_reading()
    assert closer.is_closed.wait(PATIENCE)
    closer.open_again.set()
    assert finished(closer.thread)


def test_what_goes_wrong_inside_opens_the_gate_again() -> None:
    gate = Gate()
    with pytest.raises(ValueError, match="moved"), gate.closed():
        raise ValueError("the map could not be moved")
    gate.enter()
    gate.leave()
