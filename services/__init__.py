"""The three services: coordinator, aggregator, metrics; and what they share, hosting."""

import os
import sys

from tinyfleet.grpc_engine import choose_engine, choose_verbosity

# Here, because both have to come before whatever loads grpc.
choose_engine()
choose_verbosity(sys.argv, os.environ)
