"""The three services of a fleet: coordinator, aggregator and metrics."""
