"""Tar archives from the open web: one pass over the members, with byte offsets, that goes on after damage.

The only user of tarfile and webdataset. tarfile knows every dialect of headers, but stops at the first fault and takes
some four times as long; so the walk is ours, plain headers are parsed here, and tarfile parses the unusual ones. Names
are data: they are never used as paths.
"""

import re
import tarfile
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any, NamedTuple

from pipeline.io.source import Blocks
from schemas.reasons import GapKind

BLOCK = 512
MAX_PADDING = 22 * BLOCK
"""Zeros that tar itself puts between two archives in one file: the end mark and the rest of a record."""
ZEROS = bytes(BLOCK)
MAX_EXTENSION = 1 << 20
"""Bytes of a PAX or GNU long-name header; a longer one is damage or an attack."""

LENGTH = re.compile(rb"([0-9]{1,8}) ")
CHECKSUM = re.compile(rb"[ \0]*([0-7]{1,7})[ \0]*")
OCTAL = re.compile(rb"[ \0]*([0-7]{1,11})[ \0]*")
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
NO_DATA = {
    tarfile.LNKTYPE: "hard link", tarfile.SYMTYPE: "symbolic link", tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device", tarfile.DIRTYPE: "folder", tarfile.FIFOTYPE: "fifo",
}
LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)


@dataclass(frozen=True)
class Gap:
    """A part of a shard that nobody can read. `samples`: how many are missing, where that is known."""

    kind: GapKind
    offset: int
    """Byte offset; inside the decompressed archive where the shard is compressed, the row for parquet."""
    detail: str
    samples: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Member(NamedTuple):
    """A file of the archive. `content` is None where it cannot be read or is longer than its extension may be."""

    key: str
    extension: str
    name: str
    offset: int
    size: int
    content: bytes | None


class Header(NamedTuple):
    name: str
    size: int
    type: bytes


Found = tuple[Header | None, bytes]
"""A header and its block."""
NOTHING: Found = (None, b"")


def split_name(name: str) -> tuple[str, str]:
    """(key, lower-case extension) as webdataset has it: the key ends at the first dot of the base name, folders stay.

    An empty extension means that the member belongs to no sample.
    """
    slash = name.rfind("/") + 1
    dot = name.find(".", slash)
    if dot <= slash or (name.startswith("__") and name.split("/", 1)[0].endswith("__")):
        return name, ""
    return name[:dot], name[dot + 1 :].lower()


class TarMembers:
    """Iterates once over the members whose extension has a limit in `limits` (bytes).

    Afterwards `gaps` names what could not be read, `members` counts every entry and `ignored` those not handed out, by
    reason. `size`: bytes of the archive where known; without it a header that claims too much hides what follows it.
    """

    def __init__(self, blocks: Blocks, limits: Mapping[str, int], size: int | None = None) -> None:
        self._blocks, self._limits, self._size = blocks, limits, size
        self.gaps: list[Gap] = []
        self.members = 0
        self.ignored: Counter[str] = Counter()
        self._zeros = 0
        self._pax: dict[str, str] = {}
        self._closed = False
        """The end of the file is reached and its gap is named."""

    def __iter__(self) -> Iterator[Member]:
        while True:
            start = self._blocks.offset
            block = self._blocks.take(BLOCK)
            if len(block) < BLOCK:
                self._end(start, block)
                return
            if block == ZEROS:
                self._zeros += 1
                continue
            header = parsed(block)
            if header is None:
                found = self._search()
                self._name_damage(start, found)
                if found is None:
                    return
                header, block = found
            elif self._zeros > MAX_PADDING // BLOCK:
                length = self._zeros * BLOCK
                self._gap(GapKind.CORRUPT_HEADER, start - length, f"{length} zero bytes between members")
            self._zeros = 0
            while header is not None:
                header, block = yield from self._entry(header, block)

    def _entry(self, header: Header, block: bytes) -> Generator[Member, None, Found]:
        """Hands out one member, if it is one of a sample; returns the header found behind a lying size."""
        if header.type in PAX or header.type in LONG:
            return self._extension(header)
        self.members += 1
        pax, self._pax = self._pax, {}
        name = pax.get("GNU.sparse.name") or pax.get("path") or header.name
        if header.type in NO_DATA or (header.type == tarfile.AREGTYPE and name.endswith("/")):
            self.ignored[NO_DATA.get(header.type, "folder")] += 1
            return NOTHING
        if header.type == tarfile.GNUTYPE_SPARSE:
            self._skip_sparse_map(block)
        key, extension = split_name(name)
        limit = self._limits.get(extension, 0)
        sparse = header.type == tarfile.GNUTYPE_SPARSE or any(record.startswith("GNU.sparse.") for record in pax)
        size = header.size if "size" not in pax else _pax_size(pax["size"], header.size)
        offset = self._blocks.offset
        content, behind = self._content(name, size, 0 if sparse else limit)
        if limit:
            yield Member(key, extension, name, offset, size, content)
        else:
            self.ignored["other extension" if extension else "no extension"] += 1
        return behind

    def _content(self, name: str, size: int, limit: int) -> tuple[bytes | None, Found]:
        """The bytes of a member (None where they are cut or above the limit), and the header found behind a lying size."""
        blocks, start = self._blocks, self._blocks.offset
        if self._size is not None and start + size > self._size:
            # Either the archive is cut inside this member, or its size is a lie and others follow.
            found = self._search()
            kind = GapKind.TRUNCATED if found is None else GapKind.CORRUPT_HEADER
            self._gap(kind, start, f"{name!r} claims {size} bytes, the file has {self._size - start} more")
            self._closed = found is None
            return None, found or NOTHING
        content = blocks.take(size) if size <= limit else None
        read = blocks.skip(size) if content is None else len(content)
        if read < size:
            self._gap(GapKind.TRUNCATED, start, f"{name!r} has {read} of {size} bytes{self._why()}")
            self._closed = True
            return None, NOTHING
        blocks.take(-size % BLOCK)
        return content, NOTHING

    def _extension(self, header: Header) -> Found:
        """Keeps what a PAX or GNU header says of the next member."""
        start = self._blocks.offset
        content, behind = self._content("extended header", header.size, MAX_EXTENSION)
        if content is None and header.size > MAX_EXTENSION and not self._closed and behind is NOTHING:
            self._gap(GapKind.CORRUPT_HEADER, start, f"extended header of {header.size} bytes")
        if content is None or header.type == tarfile.XGLTYPE:
            return behind
        if header.type in LONG:
            if header.type == tarfile.GNUTYPE_LONGNAME:
                self._pax["path"] = decoded(content.split(b"\0", 1)[0])
            return behind
        records = pax_records(content)
        if records is None:
            self._gap(GapKind.CORRUPT_HEADER, start, "extended header whose records are malformed")
        self._pax.update(records or {})
        return behind

    def _skip_sparse_map(self, block: bytes) -> None:
        more = block[482]
        while more:
            block = self._blocks.take(BLOCK)
            more = block[504] if len(block) == BLOCK else 0

    def _search(self) -> Found | None:
        """Passes over blocks up to the next one that is a header."""
        self._pax = {}
        while len(block := self._blocks.take(BLOCK)) == BLOCK:
            header = parsed(block)
            if header is not None:
                return header, block
        return None

    def _name_damage(self, start: int, found: Found | None) -> None:
        length = self._blocks.offset - start
        if found is not None:
            self._gap(GapKind.CORRUPT_HEADER, start, f"{length - BLOCK} bytes passed over up to the next header")
        elif start == 0:
            self._gap(GapKind.NOT_AN_ARCHIVE, 0, f"no tar header in {length} bytes{self._why()}")
        elif self._zeros:
            self._gap(GapKind.CORRUPT_HEADER, start, f"{length} bytes after the end of the archive that are no tar")
        else:
            self._gap(GapKind.CORRUPT_HEADER, start, f"no header in the last {length} bytes{self._why()}")

    def _end(self, start: int, rest: bytes) -> None:
        """Names what is wrong with the way the archive ends, unless that is named already."""
        if self._closed:
            return
        if start == 0:
            self._gap(GapKind.NOT_AN_ARCHIVE, 0, f"{len(rest)} bytes are no tar{self._why()}")
        elif rest.strip(b"\0"):
            kind, what = (GapKind.CORRUPT_HEADER, "no tar") if self._zeros else (GapKind.TRUNCATED, "a part of a header")
            self._gap(kind, start, f"the last {len(rest)} bytes are {what}{self._why()}")
        elif self._zeros == 0 or self._blocks.damage is not None:
            self._gap(GapKind.TRUNCATED, start, f"no end-of-archive mark{self._why()}")

    def _gap(self, kind: GapKind, offset: int, detail: str) -> None:
        self.gaps.append(Gap(kind, offset, detail))

    def _why(self) -> str:
        return f"; the compressed stream is damaged: {self._blocks.damage}" if self._blocks.damage is not None else ""


def parsed(block: bytes) -> Header | None:
    """The header in these 512 bytes, or None if they are none. Plain files are parsed here, the rest by tarfile."""
    stored = CHECKSUM.fullmatch(block, 148, 156)
    if stored is None:
        return None
    size = OCTAL.fullmatch(block, 124, 136)
    plain = int(stored[1], 8) == sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if plain and size is not None and block[156:157] in PLAIN:
        raw = block[:100].split(b"\0", 1)[0]
        if block[345] and block[257:263] == b"ustar\0":
            raw = block[345:500].split(b"\0", 1)[0] + b"/" + raw
        return Header(decoded(raw), int(size[1], 8), block[156:157])
    try:
        found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    name = decoded(found.name.encode("utf-8", "surrogateescape"))
    return Header(name, found.size, found.type) if found.size >= 0 else None


def decoded(name: bytes) -> str:
    """A name as text; bytes that are not UTF-8 stay told apart."""
    return name.decode("utf-8", "backslashreplace")


def pax_records(content: bytes) -> dict[str, str] | None:
    """The `length key=value` records of an extended header; None if they are malformed."""
    records: dict[str, str] = {}
    at = 0
    while at < len(content):
        length = LENGTH.match(content, at)
        end = at + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(content):
            return None
        key, _, value = content[length.end() : end - 1].partition(b"=")
        records[decoded(key)] = decoded(value)
        at = end
    return records


def _pax_size(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 20 else otherwise


def write_tar(file: IO[bytes], samples: Iterable[tuple[str, str, bytes, bytes, bytes]]) -> int:
    """Writes (key, image extension, image, caption, JSON object) as WebDataset samples; returns how many.

    The same samples give the same bytes: members of a sample sorted by extension, no time, fixed owner. A key has no dot.
    """
    from webdataset.writer import TarWriter  # takes 1.5 s, so only a worker that writes pays for it

    count = 0
    with TarWriter(file, user="shardmill", group="shardmill", mode=0o444, mtime=0, encoder=False, compress=False) as writer:
        for key, extension, image, caption, original in samples:
            writer.write({"__key__": key, extension: image, "txt": caption, "json": original})
            count += 1
    return count
