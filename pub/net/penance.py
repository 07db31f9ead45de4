"""Penance: what is refused, or for nobody, costs its sender time.

Taking turns is not enough: while the verifying processes are at work the event loop is often at rest, and would look at
garbage as fast as it comes. So each packet in vain has a price, a pause in which nothing of that peer is read. It lies
in the socket meanwhile, and TCP holds back who sent it.

What honest people get wrong is forgiven, a few dozen refusals at once, and time pays for it. Who has used up that
credit waits until all of it is paid, so that a flood costs few and long pauses.
"""

import trio

# What a packet in vain costs its sender. Sixteen (a refusal: ``VAIN_PACKETS``) make a millisecond, fifty times what
# they cost us: garbage gets two percent of a core, however much of it there is.
PACKET_SECONDS = 1 / 16_000

# 64 refusals: calls that we do not have, or messages that were on their way when we ceased to want them.
CREDIT_SECONDS = 0.064

ABREAST = 4  # peers do penance at their own pace, more wait in proportion: all together have a tenth of a core


class Penance:
    """What all peers share: how many do penance now."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Debt:
    """What one peer owes."""

    __slots__ = ("_paid", "_penance")

    def __init__(self, penance: Penance) -> None:
        self._penance = penance
        self._paid = 0.0  # when everything will be

    async def pay(self, packets: int) -> bool:
        """So many more packets were in vain. Waits once that is too much; was it?"""
        now = trio.current_time()
        self._paid = max(self._paid, now) + packets * PACKET_SECONDS
        owed = self._paid - now
        if owed <= CREDIT_SECONDS:
            return False
        self._penance.count += 1
        try:
            await trio.sleep(owed * max(1.0, self._penance.count / ABREAST))
        finally:
            self._penance.count -= 1
        return True
