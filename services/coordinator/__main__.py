"""`python -m services.coordinator` is `tinyfleet-coordinator`."""

from services.entry import coordinator

coordinator()
