"""Whether a server is there at all: asked once before a run begins, so that a wrong name or a missing network is said in seconds,
not after the patience that a store deserves in the middle of a run."""

import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from fsspec.config import conf

from pipeline.errors import InputError
from pipeline.store.retries import described

SECONDS = 3.0
PORTS = {"http": 80, "https": 443}
SERVERS = {"s3": "https://s3.amazonaws.com", "s3a": "https://s3.amazonaws.com", "gs": "https://storage.googleapis.com",
           "gcs": "https://storage.googleapis.com", "hf": "https://huggingface.co"}
"""Where stores are whose URLs name none. Their regions have others, so only whether names are resolved at all is asked."""
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "FSSPEC_S3_ENDPOINT_URL")


def refuse_unreachable(url: str) -> None:
    """Raises InputError, which names the server, where there is none at the URL of a file or folder, or it takes no connection
    within SECONDS."""
    protocol = url.partition("://")[0] if "://" in url else ""
    if protocol in PORTS:
        why = unreachable(url)
    elif protocol in ("s3", "s3a") and (endpoint := s3_endpoint()):
        url, why = f"{url} at {endpoint}", unreachable(endpoint)
    elif protocol in SERVERS and not (protocol in ("s3", "s3a") and configured_elsewhere()):
        why = unreachable(SERVERS[protocol], resolve_only=True)
    else:
        why = ""
    if why:
        raise InputError(f"{url}: {why}; see to the name, the network or its proxy (HTTPS_PROXY)")


def s3_endpoint() -> str:
    """The URL that requests to S3 go to, where one is set; else empty."""
    configured = conf.get("s3", {})
    named = configured.get("endpoint_url") or configured.get("client_kwargs", {}).get("endpoint_url")
    return str(named or next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), ""))


def configured_elsewhere() -> bool:
    """Whether the configuration of AWS may name another endpoint, which only its client can read."""
    try:
        return "endpoint_url" in Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser().read_text(errors="replace")
    except OSError:
        return False


def unreachable(url: str, *, resolve_only: bool = False) -> str:
    """Why nothing can be asked at a http URL, in words; empty where something can, or where a proxy stands between. `resolve_only`:
    that its name is known is enough."""
    parts = urlsplit(url)
    proxied = {parts.scheme, "all"} & getproxies().keys()
    if parts.hostname is None or (proxied and not proxy_bypass(parts.hostname)):
        return ""
    host, port = parts.hostname, parts.port or PORTS.get(parts.scheme, 443)
    said: list[str] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            if not resolve_only and found:
                socket.create_connection((host, port), SECONDS).close()
            said.append("")
        except OSError as error:
            said.append(f"{host}:{port} cannot be reached ({described(error)})")

    thread = threading.Thread(target=ask, name="reach", daemon=True)   # a resolver has a patience of its own
    thread.start()
    thread.join(SECONDS)
    return said[0] if said else f"{host}:{port} does not answer within {SECONDS:.0f} s"
