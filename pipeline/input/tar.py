"""Tar archives from the open web: one pass over the members, with byte offsets, that goes on after damage.

The only user of tarfile and webdataset. tarfile knows every dialect of headers, but stops at the first fault and takes
some four times as long; so the walk is ours, plain headers are parsed here, and tarfile parses the unusual ones.
"""

import re
import tarfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import IO, NamedTuple

from pipeline.input.aside.ignored import IgnoredMembers
from pipeline.input.members import Gap, Member, RewoundBlocks, add_gap, decode_name, pax_records, pax_size, split_name
from schemas.reasons import GapKind, IgnoredKind

BLOCK = 512
ZEROS = bytes(BLOCK)
END_MARK = 2
"""Blocks of zeros that end an archive."""
RECORD = 20
"""Blocks; most writers fill the last record with zeros."""
MANY_ZEROS = bytes(32 * BLOCK)
MAX_EXTENSION = 1 << 20
"""Bytes of a PAX or GNU long-name header; a longer one is damage or an attack."""
MAX_NAME = 4096
"""Characters, as many as a file system's path may have."""
MAX_HELD = 128 << 20
"""Bytes of a member that are looked through for headers of other members."""
MAX_REWINDS = 100
"""Lying sizes that are made good in one archive: each may cost a look at MAX_HELD bytes."""
MAGIC, MAGIC_AT = b"ustar", 257
"""What GNU and POSIX headers have, and where. Older headers are only found where they should be."""

CHECKSUM = re.compile(rb"[ \0]*([0-7]{1,7})[ \0]*")
OCTAL = re.compile(rb"[ \0]*([0-7]{1,11})[ \0]*")
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
NO_DATA = {
    tarfile.LNKTYPE: IgnoredKind.HARD_LINK, tarfile.SYMTYPE: IgnoredKind.SYMBOLIC_LINK, tarfile.CHRTYPE: IgnoredKind.DEVICE,
    tarfile.BLKTYPE: IgnoredKind.DEVICE, tarfile.DIRTYPE: IgnoredKind.FOLDER, tarfile.FIFOTYPE: IgnoredKind.FIFO,
}
LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE)


class Header(NamedTuple):
    """What the walk needs of a member's header: name, bytes of content, tarfile's type."""

    name: str
    size: int
    type: bytes


HeaderBlock = tuple[Header | None, bytes]   # a header and its block
NOTHING: HeaderBlock = (None, b"")


class TarMembers:
    """Iterates once over the members whose extension has a limit in `limits` (bytes).

    Afterwards `gaps` names what could not be read, `members` counts every entry and `ignored` those not handed out, by
    reason. `size`: bytes of the archive where known; without it a header that claims too much may hide what follows it.
    """

    def __init__(self, blocks: RewoundBlocks, limits: Mapping[str, int], size: int | None = None) -> None:
        self._blocks, self._limits, self._size = blocks, limits, size
        self.gaps: list[Gap] = []
        self.members = 0
        self.ignored = IgnoredMembers()
        self._begin = 0
        """Where the archive begins: a file may hold several, one behind the other."""
        self._zeros = self._rewinds = 0
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
                self._pass_zeros(start)
                continue
            header = parse_header(block)
            if header is None:
                following = self._search(block)
                self._name_damage(start, following)
                if following is None:
                    return
                header, block = following
            elif self._zeros:
                self._joined(start)
            self._zeros = 0
            while header is not None:
                header, block = yield from self._entry(header, block)

    def _entry(self, header: Header, block: bytes) -> Generator[Member, None, HeaderBlock]:
        """Hands out one member, if it is one of a sample; returns the header found behind a lying size."""
        if header.type in PAX or header.type in LONG:
            return self._extension(header)
        self.members += 1
        pax, self._pax = self._pax, {}
        name = pax.get("GNU.sparse.name") or pax.get("path") or header.name
        if header.type in NO_DATA or (header.type == tarfile.AREGTYPE and name.endswith("/")):
            self.ignored.note(NO_DATA.get(header.type, IgnoredKind.FOLDER), name)
            return NOTHING
        if header.type == tarfile.GNUTYPE_SPARSE:
            self._skip_sparse_map(block)
        key, extension = split_name(name)
        limit = self._limits.get(extension, 0) if len(name) <= MAX_NAME else 0
        sparse = header.type == tarfile.GNUTYPE_SPARSE or any(record.startswith("GNU.sparse.") for record in pax)
        size = header.size if "size" not in pax else pax_size(pax["size"], header.size)
        offset = self._blocks.offset
        content, behind = self._content(name, size, -1 if sparse else limit)
        if limit:
            yield Member(key, extension, name, offset, size, content)
        elif len(name) > MAX_NAME:
            self.ignored.note(IgnoredKind.LONG_NAME, name)
        else:
            self.ignored.note_unread(name, extension, self._limits)
        return behind

    def _content(self, name: str, size: int, limit: int) -> tuple[bytes | None, HeaderBlock]:
        """The bytes of a member (None where they are cut or above the limit), and the header found behind a lying size."""
        blocks, start = self._blocks, self._blocks.offset
        if self._size is not None and start + size > self._size:
            # Either the archive is cut inside this member, or its size is a lie and others follow.
            following = self._search()
            kind = GapKind.TRUNCATED if following is None else GapKind.CORRUPT_HEADER
            self._gap(kind, start, f"{name[:MAX_NAME]!r} claims {size} bytes, the file has {self._size - start} more")
            self._closed = following is None
            return None, following or NOTHING
        padded = size + -size % BLOCK
        content = blocks.take(padded) if size <= MAX_HELD else b""
        read = len(content) if size <= MAX_HELD else blocks.skip(padded)
        inside = find_header(content)
        if inside is not None and self._is_lie(name, size, content, inside):
            return None, NOTHING
        if read < size:
            self._gap(GapKind.TRUNCATED, start, f"{name[:MAX_NAME]!r} has {read} of {size} bytes{self._why()}")
            self._closed = True
            return None, NOTHING
        return content[:size] if size <= min(limit, MAX_HELD) else None, NOTHING

    def _is_lie(self, name: str, size: int, content: bytes, inside: int) -> bool:
        """Names a member that holds the header of another. Where no header follows it, its size is a lie (or bytes of it are
        gone): reading goes on with the header inside. Otherwise the archive says that these bytes are its own: they stay."""
        start = self._blocks.offset - len(content)
        following = self._blocks.take(BLOCK)
        lie = parse_header(following) is None and (following != ZEROS or inside % BLOCK > 0) and self._rewinds < MAX_REWINDS
        self._rewinds += lie
        self._blocks.give_back(content[inside:] + following if lie else following)
        if not lie and (inside % BLOCK or (inside == 0 and split_name(name)[1].endswith("tar"))):
            return False   # not where tar would put it, or an archive in the archive
        doubt = "the header of another is among them" if lie else "among them what looks like the header of another"
        self._gap(GapKind.CORRUPT_HEADER, start + inside, f"{name[:MAX_NAME]!r} claims {size} bytes, {doubt}")
        return lie

    def _extension(self, header: Header) -> HeaderBlock:
        """Keeps what a PAX or GNU header says of the next member."""
        start = self._blocks.offset
        content, behind = self._content("extended header", header.size, MAX_EXTENSION)
        if content is None and header.size > MAX_EXTENSION and not self._closed and behind is NOTHING:
            self._gap(GapKind.CORRUPT_HEADER, start, f"extended header of {header.size} bytes")
        if content is None or header.type == tarfile.XGLTYPE:
            return behind
        if header.type in LONG:
            if header.type == tarfile.GNUTYPE_LONGNAME:
                self._pax["path"] = decode_name(content.split(b"\0", 1)[0])
            return behind
        records = pax_records(content)
        if records is None:
            self._gap(GapKind.CORRUPT_HEADER, start, "extended header whose records are malformed")
        self._pax.update(records or {})
        return behind

    def _skip_sparse_map(self, block: bytes) -> None:
        continued = block[482]
        while continued:
            block = self._blocks.take(BLOCK)
            continued = block[504] if len(block) == BLOCK else 0

    def _pass_zeros(self, start: int) -> None:
        """Counts a block of zeros, and many at once where there are many (a compressed archive may hold gigabytes of them)."""
        if self._pax:
            self._pax = {}
            self._gap(GapKind.CORRUPT_HEADER, start, "an extended header without its member")
        self._zeros += 1
        while self._zeros > RECORD:
            piece = self._blocks.take(len(MANY_ZEROS))
            if piece != MANY_ZEROS:
                self._blocks.give_back(piece)
                return
            self._zeros += len(MANY_ZEROS) // BLOCK

    def _joined(self, start: int) -> None:
        """Zeros before a header: the end of one archive and the beginning of the next, or a hole where members were."""
        filled = END_MARK < self._zeros < END_MARK + RECORD and (start - self._begin) % (RECORD * BLOCK) == 0
        if self._zeros == END_MARK or filled:
            self.ignored.note(IgnoredKind.END_MARK)
            self._begin = start
        else:
            length = self._zeros * BLOCK
            self._gap(GapKind.CORRUPT_HEADER, start - length, f"{length} zero bytes between members")

    def _search(self, block: bytes = b"") -> HeaderBlock | None:
        """Passes over bytes (`block`: those before) up to the next header, on a block's boundary or not."""
        self._pax = {}
        while following := self._blocks.take(BLOCK):
            window = block + following
            at = find_header(window)
            if at is not None:
                self._blocks.give_back(window[at + BLOCK :])
                block = window[at : at + BLOCK]
                return parse_header(block), block
            header = parse_header(following)
            if header is not None:
                return header, following
            block = following
        return None

    def _name_damage(self, start: int, following: HeaderBlock | None) -> None:
        length = self._blocks.offset - start
        if following is not None:
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
            kind, description = (GapKind.CORRUPT_HEADER, "no tar") if self._zeros else (GapKind.TRUNCATED, "a part of a header")
            self._gap(kind, start, f"the last {len(rest)} bytes are {description}{self._why()}")
        elif self._zeros < END_MARK or self._blocks.damage is not None:
            self._gap(GapKind.TRUNCATED, start, f"no end-of-archive mark{self._why()}")
        elif self._zeros >= END_MARK + RECORD:
            length = self._zeros * BLOCK
            detail = f"{length} zero bytes at the end, more than an end-of-archive mark has: samples may have been there"
            self._gap(GapKind.TRUNCATED, start - length, detail)

    def _gap(self, kind: GapKind, offset: int, detail: str) -> None:
        add_gap(self.gaps, Gap(kind, offset, detail))

    def _why(self) -> str:
        return f"; the compressed stream is damaged: {self._blocks.damage}" if self._blocks.damage is not None else ""


def find_header(content: bytes) -> int | None:
    """The position of the first GNU or POSIX header in these bytes, on a block's boundary or not; None where there is none."""
    at = content.find(MAGIC, MAGIC_AT)
    while at >= 0:
        if parse_header(content[at - MAGIC_AT : at - MAGIC_AT + BLOCK]) is not None:
            return at - MAGIC_AT
        at = content.find(MAGIC, at + 1)
    return None


def parse_header(block: bytes) -> Header | None:
    """The header in these 512 bytes, or None if they are none or fewer. Plain files are parsed here, the rest by tarfile."""
    stored = CHECKSUM.fullmatch(block, 148, 156)
    if stored is None or len(block) < BLOCK:
        return None
    size = OCTAL.fullmatch(block, 124, 136)
    plain = int(stored[1], 8) == sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if plain and size is not None and block[156:157] in PLAIN:
        raw = block[:100].split(b"\0", 1)[0]
        if block[345] and block[257:263] == b"ustar\0":
            raw = block[345:500].split(b"\0", 1)[0] + b"/" + raw
        return Header(decode_name(raw), int(size[1], 8), block[156:157])
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    name = decode_name(info.name.encode("utf-8", "surrogateescape"))
    return Header(name, info.size, info.type) if info.size >= 0 else None


def write_tar(file: IO[bytes], samples: Iterable[tuple[str, str, bytes, bytes | None, bytes | None]]) -> list[int]:
    """Writes (key, image extension, image, caption, JSON object) as WebDataset samples, no member for None; returns where in the
    file each begins, in bytes. The same samples give the same bytes: members of a sample sorted by extension, no time, fixed owner.
    A key has no dot."""
    from webdataset.writer import TarWriter  # takes 1.5 s, so only a worker that writes pays for it

    offsets = []
    with TarWriter(file, user="shardmill", group="shardmill", mode=0o444, mtime=0, encoder=False, compress=False) as writer:
        for key, extension, image, caption, original in samples:
            offsets.append(writer.tarstream.offset)
            members = {"__key__": key, extension: image, "txt": caption, "json": original}
            writer.write({name: content for name, content in members.items() if content is not None})
    return offsets
