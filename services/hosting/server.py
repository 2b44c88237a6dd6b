"""The gRPC server around a service: loopback only, health, reflection, error translation, drain.

A service's `main.py` wires its parts and calls `main`. SIGTERM and SIGINT end it: health turns to
NOT_SERVING, open calls get `drain_s` seconds, then the service's own `close` runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.hosting.access import AccessControl, note_refusal
from services.hosting.audit import REFUSED, Audit
from services.hosting.errors import Occupied, StorageFailed
from services.hosting.handshakes import failed_handshakes
from services.hosting.introduction import Introduction
from services.hosting.messages import HARD_MAX_BYTES, cut_messages
from services.hosting.rpc_counts import RpcCounts
from services.hosting.settings import ServiceSettings
from services.hosting.translation import ErrorTranslator
from tinyfleet.config import Sources, check_listen_address, load_settings
from tinyfleet.errors import InvalidInput, TinyFleetError
from tinyfleet.exposition.families import families_of, process_families
from tinyfleet.exposition.serving import answering_scrapes
from tinyfleet.exposition.text import Family
from tinyfleet.logs import configure_logs, fields
from tinyfleet.readings import Readings, no_readings
from tinyfleet.security.address import check_exposed

EXIT_INVALID = 2
EXIT_UNAVAILABLE = 3
EXIT_CODES = (
    "Exit codes: 0 stopped, 2 a setting is wrong, 3 the address or the state folder is taken, "
    "or the disk is full."
)

log = logging.getLogger("hosting")


async def _nothing() -> None:
    pass


def _no_health(_: Callable[[bool], None]) -> None:
    pass


@dataclass(frozen=True)
class Service:
    """What `run_service` hosts.

    names: full names of its gRPC services, for health and reflection. register: adds its servicers
    to a server. start: runs once the server listens. close: runs after the server has drained.
    drain: runs before that, and ends the streams that would otherwise stay open.
    report_health: is given a function that takes whether the service can do its work. readings:
    what it tells of itself. checkpoint: writes its newest model to a file, if it has models.
    bearer: who it is, also in its certificate: coordinator, aggregator or metrics.

    `start` may come again after `drain`, and then goes on with what is there.
    """

    names: Sequence[str]
    register: Callable[[grpc.aio.Server], None]
    start: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    drain: Callable[[], Awaitable[None]] = _nothing
    report_health: Callable[[Callable[[bool], None]], None] = _no_health
    readings: Readings = no_readings
    checkpoint: Callable[[], Awaitable[Path]] | None = None
    bearer: str = ""


def main(
    process: str,
    description: str,
    settings_type: type[Any],
    build: Callable[[Any], Service],
) -> None:
    """Entry point of a service's process: settings, logs, the service; exits with a status code.

    0 after a clean stop, 2 for settings that cannot work, 3 when the address or the state
    folder is taken or there is no room on the disk.
    """
    try:
        settings = load_settings(
            settings_type, process, description, Sources(sys.argv[1:], os.environ), EXIT_CODES
        )
        check_listen(settings.listen, settings.tls)
        configure_logs(settings.log_level, settings.log_format)
        asyncio.run(run_service(settings, build))
    except (Occupied, StorageFailed) as error:
        sys.exit(_complain(process, error, EXIT_UNAVAILABLE))
    except TinyFleetError as error:
        sys.exit(_complain(process, error, EXIT_INVALID))


async def run_service(settings: ServiceSettings, build: Callable[[Any], Service]) -> None:
    """Host one service until a signal asks it to stop."""
    stop = _stop_on_signals()
    service = build(settings)
    try:
        async with serving(settings, service) as address:
            announce(settings.port_file, address)
            await service.start()
            await stop.wait()
            log.info("stopping")
    finally:
        await service.close()


@contextlib.asynccontextmanager
async def serving(settings: ServiceSettings, service: Service) -> AsyncIterator[str]:
    """A running server for `service`; gives its address, drains it at the end."""
    async with _guards(settings) as guards, _serving(settings, service, guards) as address:
        yield address


@contextlib.asynccontextmanager
async def _guards(
    settings: ServiceSettings,
) -> AsyncIterator[list[grpc.aio.ServerInterceptor]]:
    """What stands before the handlers: with TLS, who calls is checked and noted."""
    if settings.tls is None:
        yield []
        return
    from services.hosting.revocation import Revocations  # 4 MB, for whoever uses TLS

    revocations = Revocations(settings.tls)
    with contextlib.closing(Audit(settings.state / "audit.jsonl")) as audit:
        note = functools.partial(audit.note, "unknown", "handshake", REFUSED)
        control = AccessControl(audit, revocations)
        with failed_handshakes(note), cut_messages(note_refusal):
            looking = asyncio.create_task(control.end_revoked())
            try:
                yield [control]
            finally:
                looking.cancel()


@contextlib.asynccontextmanager
async def _serving(
    settings: ServiceSettings, service: Service, guards: list[grpc.aio.ServerInterceptor]
) -> AsyncIterator[str]:
    counts = RpcCounts()
    server = grpc.aio.server(
        interceptors=[
            counts,
            ErrorTranslator(),
            *guards,
            Introduction(service.bearer, settings.tls),
        ],
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", HARD_MAX_BYTES),
            ("grpc.max_concurrent_streams", 4096),
            # The probes' pings more than double what an idle agent's heartbeats cost. Without them
            # windows do not grow: this one holds a chunk of a large model.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 256 * 1024),
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    service.register(server)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection(
        (*service.names, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    address = _bind(server, settings.listen, _credentials(settings, service))
    await server.start()
    set_health = _Health(status, ("", *service.names))
    await set_health.set(True)
    service.report_health(set_health)
    try:
        async with answering_scrapes(
            settings.prometheus, lambda: _families(settings, service, counts)
        ):
            yield address
    finally:
        await status.enter_graceful_shutdown()
        await service.drain()
        await server.stop(settings.drain_s)


def _families(settings: ServiceSettings, service: Service, counts: RpcCounts) -> Iterable[Family]:
    yield from process_families(service.bearer, settings.tls)
    yield from families_of(service.readings())
    yield from counts.families()


def announce(port_file: Path | None, address: str) -> None:
    """Say where the service listens: in the log, and in a file that appears whole, if wanted.

    Raises InvalidInput when the file cannot be written.
    """
    log.info("listening", extra=fields(address=address))
    if port_file is None:
        return
    try:
        partial = port_file.with_name(f"{port_file.name}.partial")
        partial.write_text(f"{address}\n", "utf-8")
        partial.replace(port_file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"cannot write port file {port_file}: {reason}") from None


class _Health:
    """Sets the health of all of a service's names, from within the loop."""

    def __init__(self, servicer: health.aio.HealthServicer, names: Sequence[str]) -> None:
        self._servicer = servicer
        self._names = names
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, serving: bool) -> None:
        task = asyncio.get_running_loop().create_task(self.set(serving))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def set(self, serving: bool) -> None:
        known = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._servicer.set(name, known.SERVING if serving else known.NOT_SERVING)


def check_listen(address: str, tls: Path | None) -> None:
    """Raise InvalidInput unless `address` is host:port, and on loopback when there is no TLS."""
    check_listen_address("listen", address)
    check_exposed(address.rpartition(":")[0], tls)


def _credentials(settings: ServiceSettings, service: Service) -> grpc.ServerCredentials | None:
    if settings.tls is None:
        return None
    from services.hosting.credentials import ServerCredentials

    return ServerCredentials(settings.tls, service.bearer).make()


def _bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> str:
    host = listen.rpartition(":")[0]
    try:
        if credentials is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, credentials)
    except RuntimeError:
        port = 0
    if not port:
        raise Occupied(f"cannot listen on {listen}: the port is taken; choose another --listen")
    return f"{host}:{port}"


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _complain(process: str, error: Exception, status: int) -> int:
    print(f"tinyfleet-{process}: {error}", file=sys.stderr)  # noqa: T201 - before there are logs
    return status
