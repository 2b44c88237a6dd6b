"""The coordinator's ports on real things: databases and the aggregator."""
