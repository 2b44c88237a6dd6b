"""`python -m services.coordinator` is `tinyfleet-coordinator`."""

from services.coordinator.main import main

main()
