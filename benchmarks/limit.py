"""The limit of ingest: how many signatures libsodium verifies per second on one core of this machine, right now."""

from time import process_time

from nacl.bindings import crypto_sign_open

from benchmarks.dataset import keys_of

TEXT_BYTES = 700  # of a message as it is signed
COUNT = 4000


def verifications_per_second(count: int = COUNT) -> float:
    """By CPU time, so that other work on the machine costs no more than its share of the caches."""
    keys = keys_of("limit")
    texts = [str(number).encode().ljust(TEXT_BYTES) for number in range(16)]
    signed = [keys.sign(text) + text for text in texts]
    start = process_time()
    for number in range(count):
        crypto_sign_open(signed[number % len(signed)], keys.public)
    return count / (process_time() - start)
