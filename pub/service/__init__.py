"""The process: its data folder, its rooms wired together, its doors, and its life from start to stop.

``life`` reads top to bottom as that life; ``identity`` makes the data folder, ``wiring`` builds the rooms, ``doors``
lets people in, ``upkeep`` says who we are and looks after what needs looking after.
"""

from pub.service.identity import prepare
from pub.service.life import main
from pub.service.upkeep import Started

__all__ = ["Started", "main", "prepare"]
