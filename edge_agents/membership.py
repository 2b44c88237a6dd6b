"""One member of the fleet: attendance, work and delivery under one name, from hello to leave."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Coroutine, Iterable, Sequence
from contextvars import ContextVar
from typing import Any

from edge_agents.delivery import Delivery
from edge_agents.first_of import first_of
from edge_agents.session import Attendance, Identity, Patience
from edge_agents.settings import AgentSettings
from edge_agents.telemetry import FleetTelemetry
from edge_agents.work import Prepare, Work
from tinyfleet.logs import fields
from tinyfleet.readings import Reading
from tinyfleet.v1 import coordinator_pb2

MEMBER: ContextVar[str] = ContextVar("member", default="")
"""The member that is at work, where a process has several: its log lines name it."""

log = logging.getLogger("agent")


class Membership:
    """Takes part in the fleet under one name, once."""

    def __init__(
        self,
        settings: AgentSettings,
        name: str,
        capabilities: coordinator_pb2.Capabilities,
        prepare: Prepare,
    ) -> None:
        self._name = name
        self._drain_s = settings.drain_s
        self._telemetry = FleetTelemetry(name, settings.tls)
        self._delivery = Delivery(settings.reconnect_s, tls=settings.tls)
        self._work = Work(name, prepare, self._delivery, self._decline, self._telemetry)
        self._attendance = Attendance(
            settings.coordinator,
            Identity(name, uuid.uuid4().hex, capabilities),
            self,
            Patience(settings.reconnect_s, settings.give_up_s),
            tls=settings.tls,
        )
        self._notices: set[asyncio.Task[None]] = set()

    async def run(self, until: Coroutine[Any, Any, object]) -> None:
        """Take part until `until` returns or an error ends it, then deliver what is trained.

        Raises Superseded, GaveUp or InvalidInput when taking part has to end earlier.
        """
        parts = (self._attendance.run(), self._delivery.run(), self._work.run(), until)
        await first_of(*parts, then=self._finish)

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(self._drain_s):
                await self._work.finish()
        except TimeoutError:
            left = ",".join(self._work.in_hand())
            log.warning("stopped with work in hand", extra=fields(assignments=left))
        await self._telemetry.close()

    async def _decline(self, assignment_id: str, reason: str, permanent: bool) -> None:
        await self._attendance.decline(assignment_id, reason, permanent)

    def readings(self) -> Iterable[Reading]:
        """How the member stands with the coordinator, and how long its round has been training."""
        done = self._work.done
        values = {
            "round_age_s": self._work.round_age_s,
            "in_hand": len(self._work.in_hand()),
            "trained_rounds": done.rounds,
            "training_s": done.seconds,
            "diverged": done.diverged,
            "reconnects": self._attendance.reconnects,
        }
        yield self._attendance.reading(f"member {self._name}", values)

    def in_hand(self) -> Sequence[str]:
        """What the hello names; see `edge_agents.session.Member`."""
        return self._work.in_hand()

    def welcome(self, aggregator: str, metrics: str) -> None:
        """Learn where the other services are."""
        self._work.welcome()
        self._delivery.aggregator_at(aggregator)
        notice = asyncio.create_task(self._telemetry.metrics_at(metrics))
        self._notices.add(notice)
        notice.add_done_callback(self._notices.discard)

    def brief(self, message: coordinator_pb2.RunBrief) -> None:
        """Hear of a run."""
        self._work.brief(message)

    def assign(self, message: coordinator_pb2.Assignment) -> None:
        """Get work."""
        self._work.assign(message)

    def withdraw(self, assignment_id: str) -> None:
        """Hear that work is no longer wanted."""
        self._work.withdraw(assignment_id)


class NameMember(logging.Filter):
    """Adds the member's name to what is logged on its behalf."""

    def filter(self, record: logging.LogRecord) -> bool:
        if member := MEMBER.get():
            record.fields = getattr(record, "fields", {}) | {"member": member}
        return True
