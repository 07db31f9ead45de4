"""The HTTP side: ``server`` takes connections, ``operations`` answers those who look after the pub, ``checks`` is what
it can say of its health.
"""
