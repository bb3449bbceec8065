"""What may happen to a shard. Every choice comes from the generator that is given, so a seed names one mutant for good."""

import gzip
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pyarrow as pa

from tests.fuzz.originals import BLOCK, FORMATS, Member, Sample, chosen, members_of, parquet_of, regions, starts, tar_of
from tests.samples import SAMPLE


@dataclass
class Mutant:
    """A mutated shard, and what an oracle needs to know of how it came about."""

    seed: int
    file: str
    samples: list[Sample]
    content: bytes = b""
    archive: bytes | None = None
    """The mutated tar inside; None where the packed bytes or a parquet file were mutated."""
    kinds: list[str] = field(default_factory=list)
    side: tuple[str, bytes] | None = None
    regions: dict[str, list[bytes]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    """Keys whose members a mutation renamed or put under another header."""
    groups: list[tuple[int, bytes, list[Sample]]] = field(default_factory=list)
    """parquet whose footer is whole: where each row group begins, its bytes, its samples."""
    only_contents: bool = False
    """No header and no byte outside of contents was touched: every key must be there."""


def mutant(seed: int) -> Mutant:
    rng = Random(seed)
    samples = chosen(rng)
    form = rng.choice(["tar"] * 5 + ["tar.gz", "tar.zst"] + ["parquet"] * 2)
    made = Mutant(seed, f"m.{form}", samples)
    if form == "parquet":
        _parquet(made, rng)
    else:
        _tar(made, form, rng)
    return made


def _tar(made: Mutant, form: str, rng: Random) -> None:
    members, dialect = members_of(made.samples), rng.choice(FORMATS)
    made.regions = regions(tar_of(members, dialect))
    contents, order, packed = rng.random() < 0.4, rng.random() < 0.2, form != "tar" and rng.random() < 0.5
    for _ in range(rng.randint(1, 3) if contents else 0):
        members = _applied(CONTENTS, made, members, rng)
    for _ in range(rng.randint(1, 2) if order else 0):
        members = _applied(ORDERS, made, members, rng)
    archive = tar_of(members, dialect)
    made.only_contents = contents and not order
    for _ in range(0 if packed or made.only_contents else rng.randint(0 if order else 1, 3)):
        archive = _applied(BYTES, made, archive, rng)
    if rng.random() < 0.3:
        made.side = _side(made, rng)
    made.archive, made.content = archive, _packed(archive, form, rng)
    if packed and not made.only_contents:
        made.archive = None
        made.content = _applied(STREAM, made, made.content, rng)


def _applied(choices: dict[str, Any], made: Mutant, subject: Any, rng: Random) -> Any:
    kind = rng.choice(list(choices))
    made.kinds.append(kind)
    return choices[kind](subject, made, rng) if subject else subject


def _packed(archive: bytes, form: str, rng: Random) -> bytes:
    if form == "tar.gz":
        return gzip.compress(archive, rng.choice([0, 1, 6]), mtime=0)
    return bytes(pa.compress(archive, "zstd", asbytes=True)) if form == "tar.zst" else archive


def _parquet(made: Mutant, rng: Random) -> None:
    content, groups, end = parquet_of(made.samples, rng)
    if rng.random() < 0.7:
        head = _applied(SAME_LENGTH, made, content[:end], rng)
        made.groups = [(start, content[start:stop], some) for start, stop, some in groups]
        made.content = head + content[end:]
    else:
        made.kinds.append("footer")
        made.content = _applied(BYTES | SAME_LENGTH, made, content, rng) if rng.random() < 0.3 else (
            content[:end] + _applied(SAME_LENGTH, made, content[end:], rng))


def _side(made: Mutant, rng: Random) -> tuple[str, bytes]:
    made.kinds.append("side")
    count = len(made.samples)
    stats = json.dumps({"successes": rng.choice([count, count + 3, 0, -1, 2**70, "many", None, 1.5])}).encode()
    sidecar = rng.choice(sorted(SAMPLE.glob("*.parquet"))).read_bytes()
    return rng.choice([
        ("m_stats.json", stats), ("m_stats.json", _flip(stats, made, rng)), ("m_stats.json", b"[" * 100_000),
        ("m.parquet", sidecar), ("m.parquet", _noise(sidecar, made, rng)),
    ])


# Contents of members


def _image(members: list[Member], made: Mutant, rng: Random) -> list[Member]:
    """Damage inside an encoded picture: flips, noise, cuts, repeats; a claim of another size; another file's bytes."""
    at = rng.choice([i for i, member in enumerate(members) if member.name.endswith(".jpg")])
    image = members[at].content
    for _ in range(rng.randint(1, 4)):
        how = rng.choice([_flip, _noise, _zeros, _cut, _delete, _insert, _duplicate, _claim, _other])
        image = how(image, made, rng) if image else image
    return _with(members, at, image)


def _claim(image: bytes, made: Mutant, rng: Random) -> bytes:
    """Another width and height in the frame header."""
    at = image.find(b"\xff\xc0")
    size = b"".join(rng.choice([0, 1, 17, 30_000, 65_535]).to_bytes(2, "big") for _ in range(2))
    return image if at < 0 else image[: at + 5] + size + image[at + 9 :]


def _other(image: bytes, made: Mutant, rng: Random) -> bytes:
    heads = [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\xff\xff\xffWEBPVP8X", b"<svg>", b"II*\0", b"%PDF", b"\0" * 20]
    return rng.choice(heads) + image[rng.choice([0, 12, len(image)]) :]


def _caption(members: list[Member], made: Mutant, rng: Random) -> list[Member]:
    at = rng.choice([i for i, member in enumerate(members) if member.name.endswith(".txt")])
    text = members[at].content
    odd = [b"", b"\0" * 9, rng.randbytes(300), b" \n\t", "\u202e\ufeff\u200b😀".encode() * 50, text[:400] * 5_000, b"\xed\xa0\x80",
           b"<script>alert(1)</script>", text[: len(text) // 2], text + b"\xff"]
    return _with(members, at, rng.choice(odd))


def _json(members: list[Member], made: Mutant, rng: Random) -> list[Member]:
    at = rng.choice([i for i, member in enumerate(members) if member.name.endswith(".json")])
    text = members[at].content
    odd = [b"", b"null", b"[]", b"{" * 50_000, b'{"uid": "\\ud800", "original_width": 1e400, "original_height": NaN}',
           b'{"original_width": ' + b"9" * 5_000 + b"}", _flip(text or b"?", made, rng), text[:-1], b"\xef\xbb\xbf" + text,
           b'{"caption": "\\udfff", "original_width": -1, "original_height": true}', b'{"uid": "' + b"u" * 70_000 + b'"}']
    return _with(members, at, rng.choice(odd))


def _with(members: list[Member], at: int, content: bytes) -> list[Member]:
    return [*members[:at], replace(members[at], content=content), *members[at + 1 :]]


# Names and order of members


def _reorder(members: list[Member], made: Mutant, rng: Random) -> list[Member]:
    orders: list[Callable[[], list[Member]]] = [
        lambda: rng.sample(members, len(members)), lambda: members[::-1],
        lambda: sorted(members, key=lambda m: m.name.rpartition(".")[2])]
    return rng.choice(orders)()


def _rename(members: list[Member], made: Mutant, rng: Random) -> list[Member]:
    at = rng.randrange(len(members))
    other = rng.choice(members).name
    names = ["../" + other, "/etc/" + other, other, other.upper(), "x" * 90 + ".jpg", ".jpg", "a..jpg", "b", "c.d.txt",
             "__m__/a.jpg", "new\nline.txt", "\u202e.txt", "\udcff.jpg", "n" * 300 + ".txt"]
    made.touched |= {members[at].name.rpartition(".")[0]}
    return [*members[:at], replace(members[at], name=rng.choice(names)), *members[at + 1 :]]


def _pax(members: list[Member], made: Mutant, rng: Random) -> list[Member]:
    at = rng.randrange(len(members))
    records = [{"path": rng.choice(members).name}, {"path": "a\0b.txt"}, {"size": "99999999999"}, {"size": "7"}, {"size": "-1"},
               {"size": "x"}, {"GNU.sparse.name": "s.jpg"}, {"GNU.sparse.size": "5"}, {"comment": "c" * 5_000},
               {"hdrcharset": "BINARY"}, {"linkpath": "/"}]
    made.touched |= {members[at].name.rpartition(".")[0]}
    return [*members[:at], replace(members[at], records=rng.choice(records)), *members[at + 1 :]]


def _special(members: list[Member], made: Mutant, rng: Random) -> list[Member]:
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
    link = Member(rng.choice(members).name, b"", type=rng.choice(kinds))
    at = rng.randrange(len(members) + 1)
    made.touched |= {link.name.rpartition(".")[0]}
    return [*members[:at], link, *members[at:]]


# Bytes


def _span(content: bytes, rng: Random) -> tuple[int, int]:
    """A place and a length; half of them on blocks."""
    at, length = rng.randrange(len(content)), rng.choice([1, 2, 16, 100, BLOCK, 5_000, 20_000])
    if rng.random() < 0.5:
        at, length = at // BLOCK * BLOCK, -(-length // BLOCK) * BLOCK
    return at, min(length, len(content) - at)


def _flip(content: bytes, made: Mutant, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 8, 100])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _noise(content: bytes, made: Mutant, rng: Random) -> bytes:
    at, length = _span(content, rng)
    return content[:at] + rng.randbytes(length) + content[at + length :]


def _zeros(content: bytes, made: Mutant, rng: Random) -> bytes:
    at, length = _span(content, rng)
    return content[:at] + bytes(length) + content[at + length :]


def _cut(content: bytes, made: Mutant, rng: Random) -> bytes:
    return content[: _span(content, rng)[0]]


def _delete(content: bytes, made: Mutant, rng: Random) -> bytes:
    at, length = _span(content, rng)
    return content[:at] + content[at + length :]


def _insert(content: bytes, made: Mutant, rng: Random) -> bytes:
    at, length = _span(content, rng)
    return content[:at] + rng.choice([rng.randbytes(length), bytes(length), b"ustar\0" * length]) + content[at:]


def _duplicate(content: bytes, made: Mutant, rng: Random) -> bytes:
    at, length = _span(content, rng)
    return content[: at + length] + content[at:]


def _swap(content: bytes, made: Mutant, rng: Random) -> bytes:
    a, b = sorted(rng.randrange(len(content) // BLOCK + 1) * BLOCK for _ in range(2))
    length = min(rng.choice([1, 2, 30]) * BLOCK, b - a)
    return content[:a] + content[b : b + length] + content[a + length : b] + content[a : a + length] + content[b + length :]


def _header(content: bytes, made: Mutant, rng: Random) -> bytes:
    """One field of a member's header, with a checksum that fits."""
    try:
        places = starts(content)
    except (tarfile.TarError, ValueError, OverflowError):   # all of them come out of tarfile
        return content
    if not places:
        return content
    number = rng.randrange(len(places))
    head = bytearray(content[places[number] : places[number] + BLOCK])
    at, values = rng.choice([
        (124, [b"%011o\0" % rng.randrange(60_000), b"%011o\0" % rng.randrange(60_000), b"77777777777\0", b"\xff" * 12,
               b"\x80" + b"\0" * 3 + b"\xff" * 8, b"-1\0" + bytes(9), bytes(12)]),
        (156, [b"L", b"K", b"x", b"g", b"S", b"D", b"V", b"1", b"2", b"3", b"5", b"6", b"7", b"\0", b"?"]),
        (0, [b"a.jpg\0", b"\0", b"\xff.txt\0", b"../../x.json\0"]),
        (345, [b"/etc\0", b"\xfe" * 155]), (257, [b"ustar  \0", bytes(8)]),
        (482, [b"\1"]),
    ])
    value = rng.choice(values)
    head[at : at + len(value)] = value
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + sum(head[156:]) + 256)
    made.touched |= owners(made, content, places[number : number + 2])
    return content[: places[number]] + bytes(head) + content[places[number] + BLOCK :]


def owners(made: Mutant, content: bytes, places: list[int]) -> set[str]:
    """The keys of the members that begin there: a header's kind can change the next member's name."""
    found = set()
    for place in places:
        found |= {key for key, some in made.regions.items() for one in some if content.startswith(one[:BLOCK], place)}
    return found


Change = Callable[[bytes, Mutant, Random], bytes]
CONTENTS = {"image": _image, "caption": _caption, "json": _json}
ORDERS = {"reorder": _reorder, "rename": _rename, "pax": _pax, "special": _special}
SAME_LENGTH: dict[str, Change] = {"flip": _flip, "noise": _noise, "zeros": _zeros, "swap": _swap}
STREAM: dict[str, Change] = {
    "stream flip": _flip, "stream noise": _noise, "stream cut": _cut, "stream insert": _insert, "stream delete": _delete,
}
BYTES: dict[str, Change] = {
    **SAME_LENGTH, "cut": _cut, "delete": _delete, "insert": _insert, "duplicate": _duplicate, "header": _header,
}
