"""Where the agent's measurements go: to the metrics service that the coordinator names."""

from __future__ import annotations

import logging
from pathlib import Path

from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.telemetry_grpc import Reporter

CAPACITY = (
    2_000  # our choice: 0.5 MB of samples, so that an agent without metrics service stays small
)
_DRAIN_S = 0.5  # our choice: the last samples are not worth a longer wait


log = logging.getLogger("telemetry")


class FleetTelemetry:
    """Forgets what is measured before the first welcome, and reports from then on."""

    def __init__(self, source: str, tls: Path | None = None) -> None:
        """source: the agent's name. tls: see `edge_agents.session.Attendance`."""
        self._source = source
        self._tls = tls
        self._address = ""
        self._reporter: Reporter | None = None

    async def metrics_at(self, address: str) -> None:
        """Report to the service at `address`, host:port; empty stops reporting."""
        if address == self._address:
            return
        await self.close()
        self._address = address
        if not address:
            return
        try:
            self._reporter = Reporter(self._source, address, capacity=CAPACITY, tls=self._tls)
        except InvalidInput as error:  # an address that the coordinator made up is not ours to mend
            log.warning("nothing is reported", extra=fields(reason=error))

    def report(
        self, name: str, value: float, unit: str = "", run_id: str = "", round: int | None = None
    ) -> None:
        """Take one sample; see `tinyfleet.telemetry.Telemetry`."""
        if self._reporter is not None:
            self._reporter.report(name, value, unit, run_id, round)

    async def close(self) -> None:
        """Send what is left, if that goes quickly."""
        reporter, self._reporter = self._reporter, None
        if reporter is not None:
            await reporter.close(_DRAIN_S)
