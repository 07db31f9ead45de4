"""Real JavaScript clients against the real pub, each in a process of its own."""
