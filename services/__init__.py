"""The three services: coordinator, aggregator, metrics; and what they share, hosting."""
