import random
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from pub.errors import BoxStreamError, HandshakeCutShort, HandshakeError, HungUp, ProtocolError
from pub.net.stream import GOODBYE_SECONDS, SecretStream, accept_handshake, open_handshake
from pub.protocol.boxstream import Boxer
from pub.protocol.shs import HELLO_BYTES, MAIN_NETWORK, PROOF_BYTES, ClientHandshake, ServerHandshake
from tests.net.ends import ALICE, ONCE, PUB, anybody, narrow_pair, secured


class Choppy(trio.abc.Stream):
    """A transport that hands out what arrived in pieces of random sizes, and counts what it was given to send."""

    def __init__(self, transport: trio.abc.Stream, rng: random.Random, most: int = 90) -> None:
        self.transport = transport
        self.rng = rng
        self.most = most
        self.sends = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sends += 1
        await self.transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        size = self.rng.randint(1, self.most)
        return await self.transport.receive_some(size if max_bytes is None else min(size, max_bytes))

    async def aclose(self) -> None:
        await self.transport.aclose()


def nobody(_key: bytes) -> bool:
    return False


async def secured_memory() -> tuple[SecretStream, SecretStream]:
    return await secured(memory_stream_pair())


async def receive_all(stream: SecretStream) -> bytes:
    received = b""
    async for data in stream:
        received += data
    return received


def recorded() -> tuple[ClientHandshake, ServerHandshake, bytes, bytes]:
    """Both machines after a whole handshake, with all that alice sent in it and all that the pub sent."""
    alice = ClientHandshake(ALICE, MAIN_NETWORK, ONCE[0], PUB.public)
    pub = ServerHandshake(PUB, MAIN_NETWORK, ONCE[1])
    pub_hello = pub.receive_hello(alice.hello())
    proof = alice.receive_hello(pub_hello)
    pub.receive_proof(proof)
    acceptance = pub.accept()
    alice.receive_accept(acceptance)
    return alice, pub, alice.hello() + proof, pub_hello + acceptance


def boxed(handshake: ClientHandshake | ServerHandshake, *writes: bytes) -> bytes:
    boxer = Boxer(handshake.session.encrypt_key, handshake.session.encrypt_nonce)
    return b"".join(map(boxer.box, writes)) + boxer.goodbye()


async def test_alice_and_the_pub_talk_both_ways_at_once_over_tcp() -> None:
    alice_says, pub_says = random.Random(1).randbytes(300_000), random.Random(2).randbytes(200_000)
    received: dict[str, bytes] = {}

    async def talk(name: str, stream: SecretStream, words: bytes) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, stream, words)
            received[name] = b""
            while len(received[name]) < 500_000 - len(words):
                received[name] += await stream.receive_some()

    async def say(stream: SecretStream, words: bytes) -> None:
        await stream.send_all(words)

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.testing.open_stream_to_socket_listener(listener)
        alice, pub = await secured((near, await listener.accept()))
    async with alice, pub, trio.open_nursery() as nursery:
        nursery.start_soon(talk, "alice", alice, alice_says)
        nursery.start_soon(talk, "pub", pub, pub_says)
    assert received == {"alice": pub_says, "pub": alice_says}
    assert (alice.peer_key, pub.peer_key) == (PUB.public, ALICE.public)


async def test_a_goodbye_over_tcp_is_a_clean_end() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        near = await trio.testing.open_stream_to_socket_listener(listener)
        alice, pub = await secured((near, await listener.accept()))
    await alice.send_all(b"last words")
    await alice.aclose()
    async with pub:
        assert await receive_all(pub) == b"last words"
        assert await pub.receive_some() == b""


class _Trio(SecretStream):
    """What trio's own checks may call a broken stream is a peer's offence here."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await super().receive_some(max_bytes)
        except BoxStreamError as error:
            raise trio.BrokenResourceError from error


async def test_it_keeps_the_contract_of_a_trio_stream() -> None:
    alice, pub, _, _ = recorded()

    async def over_memory() -> tuple[SecretStream, SecretStream]:
        near, far = memory_stream_pair()
        return _Trio(near, alice.session, PUB.public), _Trio(far, pub.session, ALICE.public)

    async def over_lockstep() -> tuple[SecretStream, SecretStream]:
        near, far = lockstep_stream_pair()
        return _Trio(near, alice.session, PUB.public), _Trio(far, pub.session, ALICE.public)

    await trio.testing.check_two_way_stream(over_memory, over_lockstep)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    writes=st.lists(st.binary(max_size=200) | st.integers(4000, 9000).map(bytes), max_size=3),
    most=st.sampled_from([3, 90, 5000]),
)
async def test_a_wire_cut_anywhere_gives_the_same_plaintext(seed: int, writes: list[bytes], most: int) -> None:
    near, far = memory_stream_pair()
    rng = random.Random(seed)
    alice, pub = await secured((Choppy(near, rng, most), Choppy(far, rng, most)))
    for write in writes:
        await alice.send_all(write)
    await alice.aclose()
    assert await receive_all(pub) == b"".join(writes)


@settings(max_examples=40, deadline=None)
@given(garbage=st.binary(max_size=200), is_after_handshake=st.booleans())
async def test_garbage_raises_only_protocol_errors(garbage: bytes, is_after_handshake: bool) -> None:
    _, _, from_alice, _ = recorded()
    near, far = memory_stream_pair()
    await near.send_all(from_alice + garbage if is_after_handshake else garbage)
    await near.send_eof()
    with pytest.raises(ProtocolError):
        await receive_all(await accept_handshake(far, PUB, MAIN_NETWORK, ONCE[1], anybody))


async def test_all_boxes_that_arrived_come_joined_from_one_call() -> None:
    alice, pub = await secured_memory()
    for word in (b"one ", b"two ", bytes(10_000)):
        await alice.send_all(word)
    assert await pub.receive_some() == b"one two " + bytes(10_000)


async def test_max_bytes_cuts_and_keeps_the_rest() -> None:
    alice, pub = await secured_memory()
    await alice.send_all(b"one two three")
    assert await pub.receive_some(3) == b"one"
    assert await pub.receive_some(5) == b" two "
    await alice.aclose()
    assert await pub.receive_some(100) == b"three"
    assert await pub.receive_some(100) == b""


async def test_one_send_is_one_write_of_the_transport() -> None:
    near, far = memory_stream_pair()
    transport = Choppy(near, random.Random(1))
    alice, _ = await secured((transport, far))
    sends = transport.sends
    await alice.send_all(bytes(100_000))
    assert transport.sends == sends + 1


async def test_what_alice_sent_right_behind_her_proof_is_not_lost() -> None:
    alice, _, from_alice, _ = recorded()
    near, far = memory_stream_pair()
    await near.send_all(from_alice + boxed(alice, b"early bird"))
    pub = await accept_handshake(far, PUB, MAIN_NETWORK, ONCE[1], anybody)
    assert await receive_all(pub) == b"early bird"


async def test_what_the_pub_sent_right_behind_its_acceptance_is_not_lost() -> None:
    _, pub, _, from_pub = recorded()
    near, far = memory_stream_pair()
    await far.send_all(from_pub + boxed(pub, b"welcome"))
    alice = await open_handshake(near, ALICE, MAIN_NETWORK, ONCE[0], PUB.public)
    assert await receive_all(alice) == b"welcome"


async def test_a_refused_alice_is_told_nothing() -> None:
    _, _, from_alice, from_pub = recorded()
    near, far = memory_stream_pair()
    await near.send_all(from_alice)
    async with far:
        with pytest.raises(HandshakeError, match="may not come in"):
            await accept_handshake(far, PUB, MAIN_NETWORK, ONCE[1], nobody)
    assert await near.receive_some() == from_pub[:HELLO_BYTES]
    assert await near.receive_some() == b""


async def test_alice_learns_of_a_refusal_as_a_hang_up() -> None:
    near, far = memory_stream_pair()

    async def refuse() -> None:
        async with far:
            with pytest.raises(HandshakeError):
                await accept_handshake(far, PUB, MAIN_NETWORK, ONCE[1], nobody)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        with pytest.raises(HandshakeError, match="hung up"):
            await open_handshake(near, ALICE, MAIN_NETWORK, ONCE[0], PUB.public)


async def test_a_stranger_of_another_network_gets_no_byte() -> None:
    near, far = memory_stream_pair()
    await near.send_all(ClientHandshake(ALICE, bytes(32), ONCE[0], PUB.public).hello())
    async with far:
        with pytest.raises(HandshakeError):
            await accept_handshake(far, PUB, MAIN_NETWORK, ONCE[1], anybody)
    assert await near.receive_some() == b""


@pytest.mark.parametrize("count", [0, 1, HELLO_BYTES - 1, HELLO_BYTES, HELLO_BYTES + PROOF_BYTES - 1])
async def test_a_hang_up_in_the_handshake_is_a_handshake_error(count: int) -> None:
    _, _, from_alice, _ = recorded()
    near, far = memory_stream_pair()
    await near.send_all(from_alice[:count])
    await near.send_eof()
    with pytest.raises(HandshakeCutShort, match="hung up"):
        await accept_handshake(far, PUB, MAIN_NETWORK, ONCE[1], anybody)
    await far.send_all(b"x")  # closing is for whoever accepted it


async def test_a_silent_stranger_is_hung_up_on_when_the_caller_loses_patience(autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    async with far:
        with trio.move_on_after(5) as patience:
            await accept_handshake(far, PUB, MAIN_NETWORK, ONCE[1], anybody)
    assert patience.cancelled_caught
    assert await near.receive_some() == b""


@pytest.mark.parametrize("kept", [0, 20, 34, 40])
async def test_a_transport_that_ends_without_goodbye_is_an_error_after_the_last_whole_box(kept: int) -> None:
    alice, _, from_alice, _ = recorded()
    first = len(boxed(alice, b"whole")) - len(boxed(alice))
    near, far = memory_stream_pair()
    await near.send_all(from_alice + boxed(alice, b"whole", b"cut off")[: first + kept])
    await near.send_eof()
    pub = await accept_handshake(far, PUB, MAIN_NETWORK, ONCE[1], anybody)
    assert await pub.receive_some() == b"whole"
    for _ in range(2):
        with pytest.raises(BoxStreamError, match="hung up"):
            await pub.receive_some()


async def test_what_came_before_the_damage_is_handed_out_first() -> None:
    near, far = memory_stream_pair()
    alice, pub = await secured((near, far))
    await alice.send_all(b"whole")
    await near.send_all(bytes(100))
    assert await pub.receive_some() == b"whole"
    for _ in range(2):
        with pytest.raises(BoxStreamError, match="does not open"):
            await pub.receive_some()


async def test_a_second_sender_is_refused_and_harms_nobody() -> None:
    near, far = lockstep_stream_pair()
    alice, pub = await secured((near, far))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.send_all, b"first")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await alice.send_all(b"second")
        assert await pub.receive_some() == b"first"
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(alice.send_all, b"third")
        assert await pub.receive_some() == b"third"


async def test_a_second_receiver_is_refused() -> None:
    alice, pub = await secured_memory()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pub.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await pub.receive_some()
        await alice.send_all(b"for the first")


async def test_closing_does_not_wait_for_a_peer_that_reads_nothing(autojump_clock: MockClock) -> None:
    alice, _ = await secured(lockstep_stream_pair())
    start = trio.current_time()
    await alice.aclose()
    assert trio.current_time() - start == pytest.approx(GOODBYE_SECONDS)
    with pytest.raises(trio.ClosedResourceError):
        await alice.receive_some()


async def test_closing_twice_at_once_ends_the_wait_for_the_goodbye(autojump_clock: MockClock) -> None:
    alice, _ = await secured(lockstep_stream_pair())
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.aclose)
        await trio.testing.wait_all_tasks_blocked()
        await alice.aclose()
    assert trio.current_time() == start


async def test_closing_after_the_peer_broke_off_is_quiet() -> None:
    alice, pub = await secured_memory()
    await trio.aclose_forcefully(pub.transport)
    await alice.aclose()


async def test_after_a_send_that_was_cut_short_nothing_more_goes_out(autojump_clock: MockClock) -> None:
    near, far = lockstep_stream_pair()
    alice, pub = await secured((near, far))
    with trio.move_on_after(1):
        await alice.send_all(b"never read")
    with pytest.raises(trio.BrokenResourceError):
        await alice.send_all(b"out of step")
    start = trio.current_time()
    await alice.aclose()
    assert trio.current_time() == start
    with pytest.raises(BoxStreamError):
        await receive_all(pub)


@given(
    pieces=st.lists(st.tuples(st.booleans(), st.binary(max_size=20_000)), max_size=8),
    room=st.integers(0, 9000),
)
@settings(max_examples=40)
def test_what_is_sent_at_once_and_what_waits_arrive_as_one_stream(pieces: list[tuple[bool, bytes]], room: int) -> None:
    async def scenario() -> None:
        left, right = memory_stream_pair()
        alice, pub = await secured((Hasty(left, right.receive_stream.put_data, room), right))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say, alice)
            async with pub:
                assert await receive_all(pub) == b"".join(data for _, data in pieces)

    async def say(alice: SecretStream) -> None:
        for is_now, data in pieces:
            if is_now:
                alice.send_now(data)
            else:
                await alice.send_all(data)
        await alice.send_all(b"")
        await alice.aclose()

    trio.run(scenario)


class Hasty(Choppy):
    """Takes up to ``room`` bytes of each write at once, sometimes none."""

    def __init__(self, transport: trio.abc.Stream, put: Callable[[bytes], None], room: int) -> None:
        super().__init__(transport, random.Random(room), 1 << 16)
        self.put = put
        self.room = room

    def write_now(self, data: bytes) -> int:
        taken = data[: self.rng.randint(0, self.room)]
        if taken:
            self.put(taken)
        return len(taken)


async def test_a_socket_takes_what_it_has_room_for() -> None:
    alice, pub = await secured(narrow_pair())
    assert alice.send_now(b"hello")
    assert await pub.receive_some() == b"hello"
    assert not alice.send_now(bytes(1 << 20))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alice.send_all, b"")
        received = 0
        while received < 1 << 20:
            received += len(await pub.receive_some())
    await pub.transport.aclose()
    with pytest.raises(trio.BrokenResourceError):
        alice.send_now(b"to nobody")
    with pytest.raises(trio.BrokenResourceError, match="cut short"):
        await alice.send_all(b"after that")
    await alice.aclose()


async def test_no_goodbye_follows_half_a_box() -> None:
    alice, pub = await secured(narrow_pair())
    async with alice, pub:
        assert not alice.send_now(bytes(1 << 20))
        await alice.aclose()
        with pytest.raises(HungUp):
            await receive_all(pub)
