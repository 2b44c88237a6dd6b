"""The metrics service's database, version by version."""
