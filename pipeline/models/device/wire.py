"""What is said over the socket: fixed headers and plain arrays; nothing is unpickled.

    server: HELLO (length, JSON)
    client: REQUEST (lane, rows), the rows' bytes
    server: REPLY (ok, rows, seconds of the device), float32 [rows, dimension]; or REPLY (not ok, length), a message
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

IMAGES, TEXTS = 0, 1
LENGTH = struct.Struct("<I")
REQUEST = struct.Struct("<BI")
REPLY = struct.Struct("<BIf")
OK, NO_MEMORY, FAULT = 0, 1, 2
LONGEST = 1 << 20
"""Bytes of a message in words."""


def receive(connection: socket.socket, into: memoryview) -> None:
    """Fills `into`. Raises ConnectionError where the other side is gone."""
    at = 0
    while at < len(into):
        count = connection.recv_into(into[at:])
        if not count:
            raise ConnectionError("the other side has closed the connection")
        at += count


def received(connection: socket.socket, form: struct.Struct) -> tuple[Any, ...]:
    header = bytearray(form.size)
    receive(connection, memoryview(header))
    return form.unpack(header)


def words(connection: socket.socket, length: int) -> str:
    if length > LONGEST:
        raise ConnectionError(f"a message of {length} bytes")
    text = bytearray(length)
    receive(connection, memoryview(text))
    return text.decode()


def send_hello(connection: socket.socket, about: Mapping[str, Any]) -> None:
    text = json.dumps(about).encode()
    connection.sendall(LENGTH.pack(len(text)) + text)


def hello(connection: socket.socket) -> dict[str, Any]:
    about: dict[str, Any] = json.loads(words(connection, *received(connection, LENGTH)))
    return about
