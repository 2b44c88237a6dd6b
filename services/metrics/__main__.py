"""`python -m services.metrics` is `tinyfleet-metrics`."""

from services.metrics.main import main

main()
