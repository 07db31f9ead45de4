"""The yardstick: what the pub costs, and ssb-server 16 beside it, measured by the same programs in one run.

    python -m benchmarks            (or `make bench`; README.md says what each figure means)

``dataset`` makes feeds (``mapped`` reads those too large for memory), ``peers`` starts what is measured, ``meter``
reads what it uses up. A load is one module with a few functions, each a peer and its sizes in, figures out: ``ingest``,
``serve``, ``fanout``, ``idle``, ``reconnect``, ``busy``, ``large``, ``sweep``. In ``busy`` other people are there, in
processes of their own: ``others`` starts them, ``crowds`` and ``hostile`` say what they do. ``plan`` says which loads
run on which pub, ``goals`` what they should reach, ``report`` makes the table. ``sink`` is a peer that checks and
writes nothing: what it reaches is what the loads can tell apart.

Beside the loads: ``stages`` measures each step of a message's way alone and ``costs`` adds them up, ``profiling`` looks
into the pub while it works, ``plots`` draws what ``sweep`` measured, ``page`` puts results into README.md.
"""
