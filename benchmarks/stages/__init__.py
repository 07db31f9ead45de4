"""The stages of a message's way, each alone: micro-benchmarks for pytest-benchmark (`make bench ONLY=stages`).

    python -m pytest benchmarks/stages --benchmark-timer=time.process_time

One round of each is a thousand messages of fifty feeds, as they come from a peer. What is timed is CPU, so the disk
costs nothing but what the kernel does for it. ``benchmarks.costs`` makes the table from the medians.
"""
