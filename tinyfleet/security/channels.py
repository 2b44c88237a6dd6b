"""Channels to services: the one place that dials.

With a folder of certificates both sides prove who they are, and a service is known by its role and
not by its host: so addresses may be numbers, change, or lie behind NAT. Without one, only this
machine is dialled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc

from tinyfleet.security.address import check_plaintext
from tinyfleet.security.bearer import internal_host
from tinyfleet.security.folder import TlsFolder

Options = Sequence[tuple[str, Any]]


def aio_channel(
    address: str, service: str, tls: Path | None, options: Options = ()
) -> grpc.aio.Channel:
    """A channel for coroutines to the `service` at `address`, host:port.

    The files in `tls` are read now. Raises InvalidInput when they will not do, or when without
    them the address is not on this machine.
    """
    if tls is None:
        check_plaintext(service, address)
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, _credentials(tls), options=_named(options, service))


def channel(address: str, service: str, tls: Path | None, options: Options = ()) -> grpc.Channel:
    """A channel for threads; see `aio_channel`."""
    if tls is None:
        check_plaintext(service, address)
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, _credentials(tls), options=_named(options, service))


class Line:
    """A channel that is opened anew when the certificate has changed; for long-lived clients."""

    def __init__(self, address: str, service: str, tls: Path | None, options: Options = ()) -> None:
        self._how = address, service, tls, options
        self._folder = TlsFolder(tls) if tls else None
        self._stamp = self._folder.stamp() if self._folder else ()
        self._channel = aio_channel(*self._how)
        self._earlier: list[grpc.aio.Channel] = []  # calls may still be open on them

    def channel(self) -> grpc.aio.Channel:
        """The channel to make the next call on."""
        stamp = self._folder.stamp() if self._folder else ()
        if stamp != self._stamp:
            fresh = aio_channel(*self._how)
            self._earlier.append(self._channel)
            self._channel, self._stamp = fresh, stamp
        return self._channel

    async def aclose(self) -> None:
        """End it, and the calls on it."""
        for channel in (*self._earlier, self._channel):
            await channel.close()


def _credentials(tls: Path) -> grpc.ChannelCredentials:
    material = TlsFolder(tls).read()
    return grpc.ssl_channel_credentials(material.ca, material.key, material.certificate)


def _named(options: Options, service: str) -> Options:
    return (*options, ("grpc.ssl_target_name_override", internal_host(service)))
