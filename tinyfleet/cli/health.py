"""`tinyfleet health`: asks a service how it is, by the standard health check of gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tinyfleet.cli.console import json_option, print_json
from tinyfleet.cli.fleet_options import tls_option
from tinyfleet.config import check_address
from tinyfleet.errors import Refused, Unreachable
from tinyfleet.security.channels import channel
from tinyfleet.security.handshakes import diagnosed

DEFAULTS = {
    "coordinator": "127.0.0.1:7310",
    "aggregator": "127.0.0.1:7311",
    "metrics": "127.0.0.1:7312",
}
_OPTIONS = (("grpc.enable_http_proxy", 0),)  # a fleet is reached directly


@click.command("health")
@click.argument("service", type=click.Choice(list(DEFAULTS)))
@click.option(
    "--address",
    metavar="HOST:PORT",
    show_default=False,
    help="Where it listens. [default: its default port on this machine]",
)
@tls_option
@click.option(
    "--timeout-s",
    type=click.FloatRange(0.1, 600),
    default=5.0,
    metavar="SECONDS",
    help="Longest wait for the answer.",
)
@json_option
def command(
    service: str, address: str | None, tls: Path | None, timeout_s: float, as_json: bool
) -> None:
    """Ask a service how it is.

    Exits with 0 when it serves, with 4 when it answers that it does not, with 3 when it does not
    answer.
    """
    address = address or DEFAULTS[service]
    check_address("address", address)
    status = _status(service, address, tls, timeout_s)
    if as_json:
        print_json({"service": service, "address": address, "status": status})
    else:
        click.echo(f"{service} at {address}: {status}")
    if status != "serving":
        raise Refused(f"the {service} at {address} answers that it is {status}")


def _status(service: str, address: str, tls: Path | None, timeout_s: float) -> str:
    with channel(address, service, tls, _OPTIONS) as line:
        stub: Any = health_pb2_grpc.HealthStub(line)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            details = error.details() or ""
            reason = diagnosed(details, address, tls) or details
            raise Unreachable(f"no health from {address}: {reason}") from None
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name.lower().replace("_", " ")
