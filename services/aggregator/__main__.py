"""`python -m services.aggregator` is `tinyfleet-aggregator`."""

from services.entry import aggregator

aggregator()
