import threading
from dataclasses import replace

import pytest

from pub.store.env import Store, Txn
from pub.store.invites import InviteRecord, Invites, InviteState, state

GUEST = bytes(range(32))
NOW = 1_700_000_000_000.0
CODE = InviteRecord(GUEST, uses=2, used=0, created=NOW, expires=NOW + 1000, revoked=None, note="für die Nachbarn")


@pytest.fixture
def invites(store: Store) -> Invites:
    invites = Invites(store)
    store.write(lambda txn: invites.put(txn, CODE))
    return invites


def get(store: Store, invites: Invites, guest: bytes = GUEST) -> InviteRecord | None:
    with store.read() as txn:
        return invites.get(txn, guest)


def use(store: Store, invites: Invites, now: float = NOW) -> InviteState | None:
    return store.write(lambda txn: invites.use(txn, GUEST, now))


@pytest.mark.parametrize("code", [CODE, replace(CODE, expires=None, revoked=NOW, note="", used=2)])
def test_a_record_comes_back_as_it_was_put(store: Store, invites: Invites, code: InviteRecord) -> None:
    store.write(lambda txn: invites.put(txn, code))
    assert get(store, invites) == code


def test_each_use_counts_until_the_code_is_spent(store: Store, invites: Invites) -> None:
    assert [use(store, invites) for _ in range(3)] == [InviteState.OPEN, InviteState.OPEN, InviteState.SPENT]
    assert get(store, invites) == replace(CODE, used=2)


def test_a_made_up_code_is_unknown(store: Store, invites: Invites) -> None:
    assert get(store, invites, bytes(32)) is None
    assert store.write(lambda txn: invites.use(txn, bytes(32), NOW)) is None
    assert store.write(lambda txn: invites.revoke(txn, bytes(32), NOW)) is None


def test_an_expired_code_stays_on_record_and_is_not_used(store: Store, invites: Invites) -> None:
    assert use(store, invites, NOW + 1000) is InviteState.EXPIRED
    assert get(store, invites) == CODE
    assert use(store, invites, NOW + 999) is InviteState.OPEN


def test_a_revoked_code_stays_on_record_and_is_not_used(store: Store, invites: Invites) -> None:
    revoked = store.write(lambda txn: invites.revoke(txn, GUEST, NOW + 1))
    assert revoked == replace(CODE, revoked=NOW + 1)
    assert use(store, invites) is InviteState.REVOKED
    assert store.write(lambda txn: invites.revoke(txn, GUEST, NOW + 2)) == revoked
    assert get(store, invites) == revoked


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (CODE, "open"),
        (replace(CODE, expires=None), "open"),
        (replace(CODE, used=2), "spent"),
        (replace(CODE, expires=NOW), "expired"),
        (replace(CODE, used=2, expires=NOW), "spent"),
        (replace(CODE, used=2, expires=NOW, revoked=NOW), "revoked"),
    ],
)
def test_the_state_of_a_code(code: InviteRecord, expected: str) -> None:
    assert state(code, NOW) == expected


def test_a_use_is_undone_with_the_rest_of_its_transaction(store: Store, invites: Invites) -> None:
    def redeem(txn: Txn) -> None:
        assert invites.use(txn, GUEST, NOW) is InviteState.OPEN
        raise ValueError("already following")

    with pytest.raises(ValueError, match="already following"):
        store.write(redeem)
    assert get(store, invites) == CODE


def test_of_twenty_guests_racing_for_one_use_one_wins(store: Store, invites: Invites) -> None:
    store.write(lambda txn: invites.put(txn, replace(CODE, uses=1)))
    found: list[InviteState | None] = []
    guests = [threading.Thread(target=lambda: found.append(use(store, invites))) for _ in range(20)]
    for guest in guests:
        guest.start()
    for guest in guests:
        guest.join()
    assert sorted(map(str, found)) == ["open"] + ["spent"] * 19


def test_codes_are_listed_from_the_oldest_on(store: Store, invites: Invites) -> None:
    codes = [replace(CODE, guest=bytes([n]) * 32, created=NOW + when) for n, when in ((9, -5), (1, 7), (5, 3))]

    def make(txn: Txn) -> None:
        for code in codes:
            invites.put(txn, code)

    store.write(make)
    with store.read() as txn:
        assert invites.records(txn) == [codes[0], CODE, codes[2], codes[1]]
