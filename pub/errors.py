"""Every exception the pub raises on purpose; each class says whose fault it is.

Three families leave the room they were raised in, and each is caught in one place:

* ``ProtocolError``: a peer sent something the protocol does not allow. ``run_peer`` counts it and drops
  that peer. No other exception may come out of ``pub.protocol`` for bytes from strangers.
* ``RpcError``: the answer to one request is "no". It travels to the caller as a muxrpc error; the
  connection stays.
* ``OperatorError``: configuration, disk or command line. The process ends with a sentence, not a traceback.

Anything else is a bug of ours: it is logged with its traceback and counted in ``internal_errors``.
"""

from collections.abc import Iterator
from enum import IntEnum


class ExitCode(IntEnum):
    """How the process ended, for whoever supervises it; the README says what to do about each.

    The numbers from 64 to 78 are those of sysexits.h.
    """

    STOPPED = 0
    FAILED = 1  # a command other than `run` was refused
    USAGE = 2  # click's own
    UNAVAILABLE = 69
    BUG = 70
    SYSTEM = 71
    STORE = 74
    STALLED = 75
    CONFIG = 78


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, however nested; of any other exception itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


class PubError(Exception):
    """Root of everything raised on purpose."""


# --- the peer's fault -------------------------------------------------------------------------------------


class ProtocolError(PubError):
    """A peer broke the protocol, or bytes of a stranger do not parse."""


class InvalidReference(ProtocolError):
    """A feed, message or blob id, an SSB URI or an address is malformed."""


class InvalidKey(ProtocolError):
    """A key or a signature has the wrong length, form or order."""


class HandshakeError(ProtocolError):
    """The secret handshake failed; the peer is told nothing (anything said would help whoever guesses)."""


class HandshakeCutShort(HandshakeError):
    """The peer hung up in the middle: it had not proven its key, nor that it has none."""


class BoxStreamError(ProtocolError):
    """A box does not open: the bytes are damaged or forged."""


class HungUp(BoxStreamError):
    """The connection ended without a goodbye: what phones do all day long."""


class MuxrpcError(ProtocolError):
    """A muxrpc packet that ends the whole connection."""


class InvalidJson(ProtocolError):
    """Text that JSON.parse of a browser would refuse, or that is nested too deep."""


class InvalidMessage(ProtocolError):
    """A message that no honest author could have published."""


class EbtError(ProtocolError):
    """An EBT frame that is neither a note object nor a message."""


class InvalidInvite(ProtocolError):
    """Text that is not an invite code."""


class IdlePeer(ProtocolError):
    """A peer has not sent a byte for too long: it is gone without a word, or wants nothing."""


class BlockedPeer(ProtocolError):
    """A peer whose feed the pub has blocked is still connected."""


class SlowPeer(ProtocolError):
    """A peer reads more slowly than we are willing to remember for it."""


class HeavyPeer(ProtocolError):
    """More is held for all peers together than there is room for, and the most for this one."""


# --- the answer to one request ----------------------------------------------------------------------------


class RpcError(PubError):
    """Refuses one request. ``message`` is the exact text the caller sees, ``name`` the JavaScript error name."""

    def __init__(self, message: str, name: str = "Error") -> None:
        super().__init__(message)
        self.message = message
        self.name = name


class PublishingStopped(RpcError):
    """Our own feed is known to be longer elsewhere: publishing now would fork it."""


class StoringStopped(RpcError):
    """The disk is full. The caller is told that and no more: where the data lies is the operator's business."""

    def __init__(self) -> None:
        super().__init__("this pub can't store anything now: its disk is full")


# --- the operator's, or the disk's ------------------------------------------------------------------------


class OperatorError(PubError):
    """Something the person who runs the pub can mend; ``exit_code`` tells scripts which kind."""

    exit_code = ExitCode.FAILED


class ConfigError(OperatorError):
    """A setting is unknown, malformed or missing; the text names file and key."""

    exit_code = ExitCode.CONFIG


class CannotListen(OperatorError):
    """The address or the port is not ours now: another program has it, or the network is not up yet."""

    exit_code = ExitCode.UNAVAILABLE


class VerifierKilled(OperatorError):
    """A verifying process was killed from outside: by the kernel when memory runs out, or by somebody."""

    exit_code = ExitCode.SYSTEM


class StoreError(OperatorError):
    """The data folder cannot be used: in use, of another version, damaged."""

    exit_code = ExitCode.STORE


class StoreLocked(StoreError):
    """Another process holds the data folder."""


class StoreFull(StoreError):
    """The disk is full: nothing new is taken in, what is stored is still served."""
