"""`python -m services.metrics` is `tinyfleet-metrics`."""

from services.entry import metrics

metrics()
