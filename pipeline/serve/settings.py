"""What a service may do, and where it listens."""

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import InputError

LEAST_TOKEN = 16
"""Characters of a token at least."""


@dataclass(frozen=True)
class Settings:
    """Limits and switches of a service. The defaults are those of a service for one person, on the machine's own loopback."""

    token: str | None = None
    """what `Authorization: Bearer …` must say; None: everybody may ask"""
    open_to_all: bool = False
    """whoever reaches the address may ask, without a token and from other machines too"""
    local_names_alone: bool = True
    """without a token: refuse requests for another host name than this machine's own, to which a web page of somebody else's could
    have sent a browser (DNS rebinding)"""
    origins: tuple[str, ...] = ()
    """origins whose pages may read answers (CORS); none by default"""
    image_hosts: tuple[str, ...] = ()
    """hosts that pictures may be fetched from (`image_url`); none: it is refused"""

    picture_pixels: int = 25_000_000
    """of a picture in a request, by its header"""
    body_bytes: int = 16 << 20
    """of a request"""
    picture_bytes: int = 12 << 20
    """of a picture in a request, decoded from base64 or fetched"""
    most_hits: int = 1_000
    """`k`, `num_images` and samples of a page at most"""
    most_ids: int = 10_000
    """`num_result_ids` of clip-retrieval's API, whose rows past num_images carry an id and a similarity alone"""
    seconds: float = 30.0
    """that a request may take"""
    fetch_seconds: float = 5.0
    """that fetching a picture may take"""
    requests_at_once: int = 64
    """in work or waiting; more are told to come again"""
    threads: int = 4
    """that read files, decode pictures and compute"""
    scans: int = 2
    """requests at a time that may pass over a run's columns"""
    batch_seconds: float = 0.002
    """that a query waits for others to be asked together with it"""
    batch_queries: int = 64
    """of a batch at most"""
    watch_seconds: float = 2.0
    """between two looks for a new publication of each root"""
    uids_held: int = 5_000_000
    """samples of a root whose uids are held sorted in memory, at 16 bytes each; in a larger root a uid that no answer has named yet
    is looked for in the columns"""
    encoder: bool = True
    """whether texts and pictures can be asked for: their model takes some 700 MB with torch"""
    route: str = ""
    """numeric route by which queries are embedded; empty: the root's own where it can be had here, else this machine's"""
    safety_column: str | None = None
    """column of the roots by which `use_safety_model` of clip-retrieval's API leaves samples out; None: the first of
    wire.SAFETY_COLUMNS that a root has"""
    wire_images: bool = True
    """whether answers of `/knn-service` bring the pictures along, as base64"""


def read_token(path: str) -> str:
    """The token in a file. Raises InputError, which names the file, for one that cannot be read, is too short, or that others may
    read."""
    try:
        mode = os.stat(path).st_mode
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--token-file {path} cannot be read ({error})") from None
    if mode & 0o077:
        raise InputError(f"--token-file {path} can be read by others: chmod 600 it")
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"--token-file {path}: a token is {LEAST_TOKEN} or more letters, digits and signs without spaces, e.g. of "
                         "`openssl rand -hex 32`")
    return token


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches a service that listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, port: int, settings: Settings) -> None:
    """Raises InputError for a port that is none, and for an address that other machines reach without a token."""
    if not 0 <= port <= 65_535:
        raise InputError(f"--port {port}: a port is a number from 0 (any that is free) to 65535")
    if not is_loopback(host) and settings.token is None and not settings.open_to_all:
        raise InputError(f"--host {host} is reached by other machines: give --token-file FILE, or --no-token if everybody who "
                         "reaches it may see these roots")
