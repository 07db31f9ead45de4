"""People who write messages that look examined. The store never looks at signatures, so there are none."""

from collections.abc import Iterable
from hashlib import sha256

from pub.protocol.classic import Chain, Head, Message
from pub.protocol.contacts import Contact
from pub.store.env import Txn
from pub.store.log import Appender, Changes, Log

RECEIVED = 1_700_000_000_000.5


class Author:
    """Somebody with a feed that grows by each call of ``write``."""

    def __init__(self, name: str) -> None:
        self.key = sha256(name.encode()).digest()
        self.messages: list[Message] = []

    @property
    def head(self) -> Head | None:
        return self.messages[-1].head if self.messages else None

    def write(self, text: str = "hello", contact: Contact | None = None, timestamp: float | None = 1.5e12) -> Message:
        sequence = len(self.messages) + 1
        encoded = b'{"sequence":%d,"text":"%s"}' % (sequence, text.encode())
        previous = self.messages[-1].id if self.messages else None
        digest = sha256(self.key + encoded).digest()
        message = Message(digest, self.key, sequence, previous, timestamp, encoded, contact)
        self.messages.append(message)
        return message

    def write_many(self, count: int) -> list[Message]:
        return [self.write(f"number {n}") for n in range(count)]


def commit(log: Log, messages: Iterable[Message], received: float = RECEIVED) -> list[Chain]:
    """What the writer does with one batch."""
    batch = list(messages)
    verdicts: list[Chain] = []

    def job(txn: Txn) -> Changes:
        appender = Appender(log, txn)
        verdicts[:] = [appender.append(message, received) for message in batch]
        return appender.finish()

    log.apply(log.store.write(job))
    return verdicts
