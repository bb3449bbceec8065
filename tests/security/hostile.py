"""Inputs as an attacker would make them, around real pictures of the sample: every name, caption and object is hostile."""

import io
import json
import os
import pickle
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.tables import KNOWLEDGE_BASE

SCRIPTS = (
    "<script>document.title='owned'</script>", "\"><img src=x onerror=\"document.title='owned'\">",
    "</style></title><script>1</script>", "</script><svg/onload=alert(1)>", "'); background: url(http://evil.example/a.png)",
    "{{ 7 * 7 }}{% for %}", "--><base href=//evil>",
)
CONTROLS = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\b\u202eevil\u2066\u200f\ufeff"
DEPTHS = (10, 64, *range(840, 1000, 4))
"""Nested JSON around the depth at which the parser gives up."""
EVENTS = {
    "pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn",
    "socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname",
}
"""What the interpreter reports (PEP 578) of code in pickles, of programs that are started, and of the network."""


class Payload:
    """Unpickled, it leaves a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str | bytes | os.PathLike[str] | os.PathLike[bytes]], int], tuple[str]]:
        return os.system, (f"touch {self.canary}",)


def names(sandbox: Path) -> list[str]:
    """Names that would leave the folder, start a command or break a file system, were they ever paths."""
    canary = sandbox / "canary"
    return [
        "../escaped", "../../../../escaped", f"{sandbox}/absolute", "a/../../../../../up", "~/.ssh/authorized_keys", "C:\\evil",
        "nul\0name", "long" * 1000, f"$(touch {canary})", f"`touch {canary}`", f"|touch {canary}", f"pipe:touch {canary}", "-rf",
        "::pipe:true", "columns/../run", "%2e%2e%2fescaped", CONTROLS, *(script.replace(".", "") for script in SCRIPTS),
    ]   # a key ends at the first dot


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_tar(path: Path, sandbox: Path, pictures: list[bytes]) -> int:
    """Samples of hostile names and captions, some with objects nested up to the parser's limit, and pickles beside them."""
    keys = [*names(sandbox), *(f"depth{depth}" for depth in DEPTHS)]
    payload = pickle.dumps(Payload(sandbox / "canary"))
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for number, (key, picture) in enumerate(zip(keys, pictures, strict=False)):
            add(archive, f"{key}.jpg", picture)
            add(archive, f"{key}.txt", f"a red flag {SCRIPTS[number % len(SCRIPTS)]} {CONTROLS} of a dog {number}".encode())
            depth = number - len(names(sandbox))
            nested = b'{"a":' * DEPTHS[depth] + b"1" + b"}" * DEPTHS[depth] if depth >= 0 else hostile_object()
            add(archive, f"{key}.json", nested)
            for extension in ("pyd", "pickle", "pkl", "pth", "pt", "npy", "cls", "ten"):
                if number < 3:
                    add(archive, f"{key}.{extension}", payload)
    return len(keys) - 1   # the name with the NUL ends there, so it has no extension


def hostile_object() -> bytes:
    found = {"__class__": "os.system", "py/reduce": [1], "url": "pipe:true", "uid": SCRIPTS[0], "labels": CONTROLS}
    return json.dumps(found).encode()


def write_parquet(path: Path, sandbox: Path, pictures: list[bytes]) -> None:
    """An image column whose extension types are unpickled by careless readers."""
    payload = pickle.dumps(Payload(sandbox / "canary"))
    kinds = ("arrow.py_extension_type", "ray.data.arrow_pickled_object", "ray.data.arrow_tensor", "ray.data.arrow_tensor_v2")
    fields = [pa.field("jpg", pa.binary()), pa.field("caption", pa.string())]
    fields += [
        pa.field(f"x{number}", pa.binary(), metadata={"ARROW:extension:name": kind, "ARROW:extension:metadata": payload})
        for number, kind in enumerate(kinds)
    ]
    captions = [f"a blue flag {SCRIPTS[0]} {number}" for number in range(len(pictures))]
    columns = [pa.array(pictures), pa.array(captions), *([pa.array([payload] * len(pictures))] * len(kinds))]
    schema = pa.schema(fields, metadata={"pandas": payload, "huggingface": payload})
    pq.write_table(pa.table(columns, schema=schema), path)


def write_knowledge_base(path: Path) -> None:
    """Entities that captions do mention, under names that are markup."""
    words = {"dog": SCRIPTS[0], "flag": SCRIPTS[1], "red flag": SCRIPTS[3]}
    rows = [
        {"id": f"n{number:08d}", "lemmas": [name, word], "sense_rank": [1, 1], "sense_count": [9, 9], "gloss": SCRIPTS[2],
         "hypernyms": [], "domain": "noun.artifact", "is_instance": False}
        for number, (word, name) in enumerate(words.items())
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=KNOWLEDGE_BASE), path)


def files(folder: Path, aside: Path) -> dict[str, bytes | str]:
    """Everything below a folder by relative path, what is below `aside` excepted."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_relative_to(aside):
            found[path.relative_to(folder).as_posix()] = path.read_bytes() if path.is_file() else "folder"
    return found


seen: list[str] | None = None


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if seen is not None and event in EVENTS:
        seen.append(f"{event} {arguments!r:.200}")


@contextmanager
def watched() -> Iterator[list[str]]:
    """What this process does meanwhile that starts a program, asks the network or resolves a name in a pickle."""
    global seen
    if not _hooked:
        sys.addaudithook(_hook)   # for ever: Python has no way to take one back
        _hooked.append(True)
    found: list[str] = []
    seen = found
    try:
        yield found
    finally:
        seen = None


_hooked: list[bool] = []
