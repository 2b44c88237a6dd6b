"""How a service introduces itself in the metadata of a health check, and how that is read."""

from __future__ import annotations

SERVICE_METADATA = "tinyfleet-service"  # coordinator, aggregator or metrics
VERSION_METADATA = "tinyfleet-version"
TIME_METADATA = "tinyfleet-time"  # seconds since 1970, a decimal number
CERTIFICATE_METADATA = "tinyfleet-certificate-ends"  # seconds since 1970; with TLS only
