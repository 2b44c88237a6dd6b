"""The aggregator's database, version by version."""
