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


def receive_header(connection: socket.socket, form: struct.Struct) -> tuple[Any, ...]:
    """The fields of a header of this form. Raises ConnectionError where the other side is gone."""
    header = bytearray(form.size)
    receive(connection, memoryview(header))
    return form.unpack(header)


def receive_text(connection: socket.socket, length: int) -> str:
    """A message of so many bytes of UTF-8. Raises ConnectionError where it claims more than LONGEST."""
    if length > LONGEST:
        raise ConnectionError(f"a message of {length} bytes")
    text = bytearray(length)
    receive(connection, memoryview(text))
    return text.decode()


def send_hello(connection: socket.socket, about: Mapping[str, Any]) -> None:
    """Sends what the server says of itself (process id, dimension, preprocess config), as JSON behind its length."""
    text = json.dumps(about).encode()
    connection.sendall(LENGTH.pack(len(text)) + text)


def hello(connection: socket.socket) -> dict[str, Any]:
    """Receives what the server says of itself. Raises ConnectionError where the other side is gone."""
    about: dict[str, Any] = json.loads(receive_text(connection, *receive_header(connection, LENGTH)))
    return about
