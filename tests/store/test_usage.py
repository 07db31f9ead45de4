"""How full the store is, and how long somebody has been reading."""

import threading

from pub.store.env import Store, Txn

VALUE = b"x" * 1000
KEYS = [b"%d" % number for number in range(2000)]


def fill(store: Store) -> None:
    def job(txn: Txn) -> None:
        for key in KEYS:
            txn.put(key, VALUE, db=store.meta)

    store.write(job)


def clear(store: Store) -> None:
    def job(txn: Txn) -> None:
        for key in KEYS:
            txn.delete(key, db=store.meta)

    store.write(job)


def test_what_is_deleted_leaves_pages_that_are_used_before_the_file_grows(store: Store) -> None:
    empty = store.usage()
    fill(store)
    full = store.usage()
    assert (full.used - empty.used) * full.page_size >= len(KEYS) * len(VALUE)
    assert full.used <= full.pages
    clear(store)
    cleared = store.usage()
    assert cleared.free * cleared.page_size >= len(KEYS) * len(VALUE)
    assert cleared.used < full.used / 10
    for _ in range(5):
        fill(store)
        clear(store)
    assert store.usage().pages < 3 * full.pages


def test_usage_tells_the_map_apart_from_the_file(store: Store) -> None:
    usage = store.usage()
    assert usage.map_size == store.map_size > usage.pages * usage.page_size
    file = (store.folder / "data.mdb").stat().st_size
    assert abs(file - usage.pages * usage.page_size) <= 2 * usage.page_size


def test_the_oldest_read_of_all_threads_counts_from_its_first_entry(store: Store) -> None:
    assert store.oldest_read() == 0
    with store.read():
        while (before := store.oldest_read()) < 0.005:
            pass
        with store.read():
            assert store.oldest_read() > before, "a read inside a read is not the oldest"
    entered, leave = threading.Event(), threading.Event()

    def read() -> None:
        with store.read():
            entered.set()
            leave.wait(5)

    older = threading.Thread(target=read)
    older.start()
    assert entered.wait(5)
    first = store.oldest_read()
    assert first > 0
    with store.read():
        with store.read():
            pass
        assert store.oldest_read() > first, "a newer one changes nothing"
    leave.set()
    older.join(5)
    assert store.oldest_read() == 0
