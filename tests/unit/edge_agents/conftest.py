"""Lets the tests of this folder import `played_board`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
