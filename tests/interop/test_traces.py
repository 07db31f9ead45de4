"""The reader of strace's output sees an answer that came too early."""

from collections.abc import Sequence

from tests.interop.traces import RECEIVES, SENDS, accepted_after, first, is_committed_between, parse

SOCKET = "TCP:[127.0.0.1:8008->127.0.0.1:40000]"
ACCEPT = f"7 100.0 accept4(6<TCP:[127.0.0.1:8008]>, {{sa_family=AF_INET}}, [16], SOCK_CLOEXEC) = 9<{SOCKET}> <0.000010>"
RECEIVE = f'7 101.0 recvfrom(9<{SOCKET}>, "x"..., 65536, 0, NULL, NULL) = 140 <0.000010>'
WRITE = '8 101.1 pwrite64(5</data/store/data.mdb>, "x"..., 4096, 8192) = 4096 <0.000050>'
FLUSH_BEGINS = "8 101.2 fdatasync(5</data/store/data.mdb> <unfinished ...>"
SEND = f'7 101.3 sendto(9<{SOCKET}>, "y"..., 90, 0, NULL, 0) = 90 <0.000010>'
FLUSH_ENDS = "8 101.4 <... fdatasync resumed>) = 0 <0.200000>"
LATE_SEND = SEND.replace("101.3", "101.5")


def is_durable(lines: Sequence[str]) -> bool:
    calls = parse(lines)
    socket = accepted_after(calls, 99.0)
    received = first(calls, RECEIVES, socket, 100.5)
    return is_committed_between(calls, received, first(calls, SENDS, socket, received.end))


def test_an_answer_after_the_flush_is_durable() -> None:
    assert is_durable([ACCEPT, RECEIVE, WRITE, FLUSH_BEGINS, FLUSH_ENDS, LATE_SEND])


def test_an_answer_during_the_flush_is_not() -> None:
    assert not is_durable([ACCEPT, RECEIVE, WRITE, FLUSH_BEGINS, SEND, FLUSH_ENDS])


def test_an_answer_without_a_flush_is_not() -> None:
    assert not is_durable([ACCEPT, RECEIVE, WRITE, LATE_SEND])


def test_a_flush_of_another_file_does_not_count() -> None:
    flush = [line.replace("data.mdb", "some.log") for line in (FLUSH_BEGINS, FLUSH_ENDS)]
    assert not is_durable([ACCEPT, RECEIVE, WRITE, *flush, LATE_SEND])


def test_the_last_page_must_be_written_too() -> None:
    late = WRITE.replace("101.1", "101.45").replace("0.000050", "0.100000")
    assert not is_durable([ACCEPT, RECEIVE, FLUSH_BEGINS, FLUSH_ENDS, late, LATE_SEND])
