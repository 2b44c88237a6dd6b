"""The three services: coordinator, aggregator, metrics; and what they share, hosting."""

from tinyfleet.grpc_engine import choose_engine

choose_engine()  # here, because it has to come before whatever loads grpc
