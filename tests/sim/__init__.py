"""Whole pubs on a simulated network, clock and disk: see README.md."""
