"""A peer that does not read for a while."""

import trio
import trio.testing


class Gated(trio.abc.Stream):
    """The end of a peer that does not read until it is told to."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.gate = trio.Event()
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self.gate.wait()
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def gated_pair() -> tuple[Gated, trio.abc.Stream]:
    """The peer's end and the pub's, with no room between them."""
    theirs, ours = trio.testing.lockstep_stream_pair()
    return Gated(theirs), ours
