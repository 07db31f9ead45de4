"""The yardstick: what the pub costs, and ssb-server 16 beside it, measured by the same programs in one run.

    python -m benchmarks            (or `make bench`; README.md says what each figure means)

``dataset`` makes feeds, ``peers`` starts what is measured, ``meter`` reads what it uses up. A load is one module with
one or two functions, each a peer and its sizes in, figures out: ``ingest``, ``serve``, ``fanout``, ``idle``,
``reconnect``. ``plan`` says which loads run on which pub, ``report`` makes the table. ``sink`` is a peer that checks
and writes nothing: what it reaches is what the loads can tell apart.

``size`` (with ``clients``, ``mapped`` and ``pauses``) is another program: two million messages in one pub, see SIZE.md.
"""
