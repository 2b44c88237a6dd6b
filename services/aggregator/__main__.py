"""`python -m services.aggregator` is `tinyfleet-aggregator`."""

from services.aggregator.main import main

main()
