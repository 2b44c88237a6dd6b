"""Makes `streams` of this folder and the vectors' schema checker importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "learner"))  # vector_schema
