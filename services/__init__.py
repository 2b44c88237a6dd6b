"""The three services: coordinator, aggregator, metrics; and what they share, hosting."""

import os

from tinyfleet.grpc_engine import choose_engine

# Here, because both have to come before whatever loads grpc.
choose_engine()
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it logs reaches us as errors, too
