"""Clocks for pubs."""

import pytest
from trio.testing import MockClock


@pytest.fixture
def jump_clock() -> MockClock:
    """trio's clock runs as ever, and ``jump_clock.jump(61)`` lets a minute pass at once.

    Unlike ``autojump_clock`` it never jumps by itself, so the writer's thread does not make timeouts fire.
    """
    return MockClock(rate=1)
