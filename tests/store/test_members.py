from pub.store.env import Store, Txn
from pub.store.members import Member, Members

GUEST = bytes(range(32))
ALICE, BOB, CAROL = 0, 7, 70_000
JOINED = 1_700_000_000_000.25


def test_members_join_and_leave(store: Store) -> None:
    members = Members(store)
    by_code, by_hand = Member(JOINED, GUEST, "met at the café"), Member(JOINED + 1, None, "")

    def join(txn: Txn) -> None:
        members.add(txn, CAROL, by_hand)
        members.add(txn, BOB, by_code)

    store.write(join)
    with store.read() as txn:
        assert list(members.entries(txn)) == [(BOB, by_code), (CAROL, by_hand)]
        assert members.count(txn) == 2
        assert [members.get(txn, feed) for feed in (ALICE, BOB, CAROL)] == [None, by_code, by_hand]
        assert [members.is_member(txn, feed) for feed in (ALICE, BOB, CAROL)] == [False, True, True]
    assert store.write(lambda txn: members.remove(txn, BOB))
    assert not store.write(lambda txn: members.remove(txn, BOB))
    with store.read() as txn:
        assert list(members.entries(txn)) == [(CAROL, by_hand)]


def test_who_joins_again_gets_the_new_record(store: Store) -> None:
    members = Members(store)
    store.write(lambda txn: members.add(txn, ALICE, Member(JOINED, GUEST, "first")))
    store.write(lambda txn: members.add(txn, ALICE, Member(JOINED + 5, None, "second")))
    with store.read() as txn:
        assert members.get(txn, ALICE) == Member(JOINED + 5, None, "second")
        assert members.count(txn) == 1
