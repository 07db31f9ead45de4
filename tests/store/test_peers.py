from hypothesis import given
from hypothesis import strategies as st

from pub.protocol.addresses import Address
from pub.store.env import Store, Txn
from pub.store.peers import PeerRecord, Peers, Source, _key, _pack, _unpack
from tests.protocol.test_addresses import addresses

NOON = 1_790_000_000_000.25
HARBOUR = Address("harbour.example", 8008, bytes(32))
ISLAND = Address("2001:db8::1", 8009, bytes(31) + b"\x01")
LONGEST = Address(".".join(["x" * 63] * 3 + ["y" * 61]), 65535, bytes(32), "onion")

moments = st.floats(0, 1e14)
records = st.builds(
    PeerRecord,
    addresses,
    st.sampled_from(Source),
    moments,
    st.none() | moments,
    st.none() | moments,
    st.integers(0, 2**32 - 1),
    moments,
)


def test_addresses_come_and_go(store: Store) -> None:
    peers = Peers(store)
    manual = PeerRecord(HARBOUR, Source.MANUAL, NOON)
    found = PeerRecord(ISLAND, Source.FOLLOWED, NOON, NOON + 1, NOON + 2, 7, NOON + 3)

    def job(txn: Txn) -> None:
        peers.put(txn, manual)
        peers.put(txn, found)

    store.write(job)
    with store.read() as txn:
        assert sorted(peers.records(txn), key=lambda each: each.source) == [manual, found]
    assert store.write(lambda txn: peers.remove(txn, ISLAND))
    assert not store.write(lambda txn: peers.remove(txn, ISLAND))
    with store.read() as txn:
        assert peers.records(txn) == [manual]


def test_an_address_is_in_the_book_once(store: Store) -> None:
    peers = Peers(store)
    again = PeerRecord(HARBOUR, Source.CONFIG, NOON, NOON + 5)
    store.write(lambda txn: peers.put(txn, PeerRecord(HARBOUR, Source.FOLLOWED, NOON)))
    store.write(lambda txn: peers.put(txn, again))
    with store.read() as txn:
        assert peers.records(txn) == [again]


def test_the_longest_address_fits(store: Store) -> None:
    record = PeerRecord(LONGEST, Source.FOLLOWED, NOON)
    store.write(lambda txn: Peers(store).put(txn, record))
    with store.read() as txn:
        assert Peers(store).records(txn) == [record]


@given(records)
def test_what_is_written_is_what_is_read(record: PeerRecord) -> None:
    assert _unpack(_key(record.address), _pack(record)) == record
