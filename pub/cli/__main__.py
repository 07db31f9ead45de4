"""``python -m pub.cli`` is ``ssb-pub``."""

from pub.cli import main

main(prog_name="ssb-pub")
