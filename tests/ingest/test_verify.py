"""Verifying in processes gives what verifying on the spot gives, and a process that dies is noticed."""

import os
import random
import signal

import pytest
import trio
import trio.testing

from pub.errors import VerifierKilled
from pub.ingest.verify import FEW_BYTES, FEW_MESSAGES, InlineVerifier, Verifier, VerifierPool, open_verifiers
from pub.protocol.classic import Message, create
from tests.ingest.people import NOW, PATIENCE, Author

KEY = bytes(range(32))


def mixed_chunks(count: int, hmac_key: bytes | None = None) -> list[list[bytes]]:
    """Chunks of a few messages each, about half of them bad in some way."""
    rng = random.Random(7)
    alice = Author("alice")
    good = [create(alice.keys, None, {"type": "post", "text": "x" * n}, NOW, hmac_key).encoded for n in range(8)]
    bad = [b"", b"{}", b"\xff" * 9, good[0][:-1], good[1].replace(b"post", b"poet"), b"[" * 5000, bytes(60_000)]
    return [[rng.choice(good if rng.random() < 0.5 else bad) for _ in range(rng.randint(0, 12))] for _ in range(count)]


async def verify_all(verifier: Verifier, chunks: list[list[bytes]]) -> list[list[Message | str | None]]:
    """Every chunk at once; the verdicts in the order of the chunks."""
    verdicts: list[list[Message | str | None]] = [[] for _ in chunks]

    async def verify(number: int) -> None:
        verdicts[number] = await verifier.verify(chunks[number])

    async with trio.open_nursery() as nursery:
        for number in range(len(chunks)):
            nursery.start_soon(verify, number)
    return verdicts


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_on_the_spot() -> None:
    alice = Author("alice")
    message = alice.write()
    assert await InlineVerifier().verify([message.encoded, b"{}"]) == [
        message,
        "None seq None: not the seven fields in one of their two orders",
    ]
    assert await InlineVerifier(KEY).verify([message.encoded]) == [
        f"{alice.keys.id} seq 1: the signature does not match"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("hmac_key", [None, KEY])
async def test_processes_give_the_same_verdicts_in_order_under_any_load(hmac_key: bytes | None) -> None:
    chunks = mixed_chunks(150, hmac_key)
    expected = await verify_all(InlineVerifier(hmac_key), chunks)
    assert {type(verdict) for verdicts in expected for verdict in verdicts} == {Message, str}
    with trio.fail_after(PATIENCE):
        async with open_verifiers(2, hmac_key) as pool:
            assert pool.lanes == 4
            assert await verify_all(pool, chunks) == expected


@pytest.mark.slow
async def test_the_work_is_shared_and_the_processes_end_with_the_block() -> None:
    chunk = [message.encoded for message in Author("alice").write_many(200)]
    with trio.fail_after(PATIENCE):
        async with open_verifiers(2) as pool:
            pids = pool.pids
            assert len(set(pids)) == 2
            before = [cpu_seconds(pid) for pid in pids]
            await verify_all(pool, [chunk] * 20)
            assert all(cpu_seconds(pid) > earlier for pid, earlier in zip(pids, before, strict=True))
        assert not any(map(is_running, pids))


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(") ")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
async def test_the_processes_end_though_the_block_raises() -> None:
    pids: list[int] = []

    async def work() -> None:
        async with open_verifiers(1) as pool:
            pids.extend(pool.pids)
            raise KeyError("planted")

    with trio.fail_after(PATIENCE), pytest.raises(KeyError):
        await work()
    assert not is_running(pids[0])


async def expect_death(pool: VerifierPool, chunk: list[bytes]) -> None:
    with pytest.raises(VerifierKilled, match=rf"verifying process {pool.pids[0]} was killed \(signal 9\)"):
        await pool.verify(chunk)


@pytest.mark.slow
async def test_whoever_waits_for_a_killed_process_is_told() -> None:
    chunk = [message.encoded for message in Author("alice").write_many(100)]
    with trio.fail_after(PATIENCE):
        async with open_verifiers(1) as pool:
            os.kill(pool.pids[0], signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                for _ in range(40):  # some wait for their verdicts, others for room in the socket
                    nursery.start_soon(expect_death, pool, chunk)
                await trio.testing.wait_all_tasks_blocked()
                os.kill(pool.pids[0], signal.SIGKILL)


@pytest.mark.slow
async def test_a_process_that_was_killed_while_idle_is_noticed_by_the_next_chunk() -> None:
    with trio.fail_after(PATIENCE):
        async with open_verifiers(1) as pool:
            os.kill(pool.pids[0], signal.SIGKILL)
            await expect_death(pool, [b"{}"] * (FEW_MESSAGES + 1))


@pytest.mark.slow
async def test_a_few_messages_take_no_way_to_another_process() -> None:
    raw, long = Author("alice").write().encoded, b" " * FEW_BYTES
    with trio.fail_after(PATIENCE):
        async with open_verifiers(1) as pool:
            os.kill(pool.pids[0], signal.SIGSTOP)
            assert [type(each) for each in await pool.verify([raw] * FEW_MESSAGES)] == [Message] * FEW_MESSAGES
            for chunk in ([raw] * (FEW_MESSAGES + 1), [raw, long]):
                with trio.move_on_after(0.1) as patience:
                    await pool.verify(chunk)
                assert patience.cancelled_caught


@pytest.mark.slow
async def test_a_process_that_hangs_does_not_hold_up_the_end() -> None:
    with trio.fail_after(PATIENCE):
        async with open_verifiers(1) as pool:
            os.kill(pool.pids[0], signal.SIGSTOP)
    assert not is_running(pool.pids[0])


@pytest.mark.slow
async def test_signals_that_stop_the_pub_leave_the_processes_at_work() -> None:
    chunk = [Author("alice").write().encoded] * (FEW_MESSAGES + 1)
    async with open_verifiers(1) as pool:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pool.pids[0], number)  # the first before the process has come to anything
            assert isinstance((await pool.verify(chunk))[0], Message)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGINT, signal.SIGTERM} == set()
