"""Connects to public addresses only, and looks at the address of the connection that was made.

A name that is looked up and checked before it is connected to may answer otherwise the second
time (DNS rebinding); the peer of an open socket cannot change. Nothing is written to it before
the check. MLflow has such an adapter since 3.15; this one serves older versions as well.
"""

from __future__ import annotations

import ipaddress
import socket

from urllib3.connection import HTTPConnection, HTTPSConnection

from mlflow_plugins_pack.http_deadline import WatchedAdapter

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215; Python 3.11 calls it global


class PrivateAddressError(Exception):
    """A name led to an address that is not public; unknown to urllib3, so never tried again."""


def is_public(address: Address) -> bool:
    """Return whether an address is public, also when it embeds an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        carried = address.ipv4_mapped or address.sixtofour
        if carried is None and address.teredo is not None:
            carried = address.teredo[1]
        if carried is None and address in _NAT64:
            carried = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(carried)
        if address in _LOCAL_NAT64:
            return False
    return address.is_global and not address.is_multicast


def checked(connection: socket.socket) -> socket.socket:
    """Return an open connection, or close it.

    Raises:
        PrivateAddressError: If its other end is not at a public address.
    """
    try:
        text = connection.getpeername()[0]
        address = ipaddress.ip_address(text.partition("%")[0])
        if is_public(address):
            return connection
    except (OSError, ValueError) as exc:
        connection.close()
        raise PrivateAddressError(f"the address of the connection is unknown: {exc}") from exc
    connection.close()
    raise PrivateAddressError(f"{address} is not a public IP address")


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return checked(super()._new_conn())


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:  # before the TLS handshake
        return checked(super()._new_conn())


class PublicOnlyAdapter(WatchedAdapter):
    """For a `requests` session without proxies: a proxy would connect to any address for us."""

    connection_classes = (_Connection, _SecureConnection)
