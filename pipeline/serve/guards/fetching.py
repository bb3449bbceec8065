"""A picture from another host, where its name is on a list: `image_url` of a request.

Whoever asks must not have this machine ask others for them (server-side request forgery). So: no host but the listed ones; http and
https at their usual ports alone; every address that the name has must be a public one, and the connection goes to the very address
that was looked at; a redirect is refused, whatever it leads to; no proxy, no credentials, no cookies; bounded size and time.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from pipeline.serve.problems import Refused

PORTS = {"http": 80, "https": 443}
FIELD = "image_url"
PIECE = 64 << 10
Resolve = Callable[[str, int], Sequence[str]]


def addresses(host: str, port: int) -> Sequence[str]:
    """The addresses of a host name, as this machine resolves it. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, also where IPv6 wraps another one (mapped, 6to4, NAT64, Teredo)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found in NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
        wrapped = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if any(inner is not None and not is_public(str(inner)) for inner in wrapped):
            return False
        if found.ipv4_mapped is not None:
            return True
    return found.is_global and not (found.is_multicast or found.is_reserved or found.is_unspecified)


NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True)
class Fetcher:
    """Fetches pictures from the listed hosts."""

    hosts: tuple[str, ...]
    limit: int
    """bytes"""
    seconds: float
    resolve: Resolve = addresses

    def fetch(self, url: str) -> bytes:
        """The bytes behind a URL. Raises Refused for a URL that is not allowed, and for what cannot be had within the limits."""
        parts = self._allowed(url)
        deadline = time.monotonic() + self.seconds
        host, port = str(parts.hostname), PORTS[parts.scheme]
        try:
            found = self.resolve(host, port)
        except OSError:
            raise Refused(400, "the host of image_url has no address", field=FIELD) from None
        if not found or not all(is_public(address) for address in found):
            raise Refused(403, "the host of image_url has an address that is not public", field=FIELD)
        try:
            return self._read(parts, found[0], deadline)
        except (OSError, http.client.HTTPException, ValueError):
            raise Refused(400, "the picture of image_url cannot be fetched", field=FIELD) from None

    def _allowed(self, url: str) -> SplitResult:
        if not self.hosts:
            raise Refused(403, "this service fetches no pictures: send the picture itself as image", field=FIELD)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise Refused(400, "image_url is no URL", field=FIELD) from None
        if not url.isascii() or not url.isprintable() or " " in url or parts.scheme not in PORTS or not parts.hostname:
            raise Refused(400, "image_url must be an http or https URL", field=FIELD)
        if parts.username is not None or parts.password is not None:
            raise Refused(400, "image_url must have no credentials", field=FIELD)
        if port not in (None, PORTS[parts.scheme]) or parts.hostname.rstrip(".").lower() not in self.hosts:
            raise Refused(403, "the host of image_url is not on the list of this service", field=FIELD)
        return parts

    def _read(self, parts: SplitResult, address: str, deadline: float) -> bytes:
        """The body, from this address. Raises Refused for a redirect, another status and too many bytes, OSError for a network that
        fails or is too slow."""
        host, port = str(parts.hostname), PORTS[parts.scheme]
        connection = http.client.HTTPConnection(host, port, timeout=self.seconds)
        connection.sock = socket.create_connection((address, port), max(0.1, deadline - time.monotonic()))
        end = threading.Timer(max(0.1, deadline - time.monotonic()), _cut, [connection.sock])   # headers may come drop by drop
        end.daemon = True
        end.start()
        try:
            if parts.scheme == "https":
                connection.sock = ssl.create_default_context().wrap_socket(connection.sock, server_hostname=host)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "shardmill", "Connection": "close"})
            response = connection.getresponse()
            if response.status != 200:
                moved = "; a redirect is not followed" if 300 <= response.status < 400 else ""
                raise Refused(400, f"image_url answers {response.status}{moved}", field=FIELD)
            content = bytearray()
            while piece := response.read1(PIECE):
                content += piece
                if len(content) > self.limit:
                    raise Refused(413, f"the picture of image_url has over {self.limit:,} bytes", field=FIELD)
                if time.monotonic() > deadline:
                    raise Refused(400, f"the picture of image_url takes over {self.seconds:g} s", field=FIELD)
            return bytes(content)
        finally:
            end.cancel()
            connection.close()


def _cut(connected: socket.socket) -> None:
    """Ends a connection under whoever reads from it."""
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
