"""Lets the tests of this folder import their peers, and the board that the unit tests play."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "unit" / "edge_agents")]
