"""Shards as the open web has them: every way in which an archive is broken or odd, and what must be said of it."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from tests.damage import clean_pairs
from tests.samples import SAMPLE

Members = list[tuple[str, bytes] | tarfile.TarInfo]
PAIRS = [pair for pair in clean_pairs(SAMPLE).values() if 9_000 < len(pair[0]) < 10_000][:3]
"""Image and caption of the three samples that most broken shards have."""
A, B, C = (image for image, _ in PAIRS)
GOOD = [("a", None), ("b", None), ("c", None)]


@dataclass(frozen=True)
class Broken:
    """One broken file and its outcome: (key, samples_error) of every row, gap kinds, counts of ignored members."""

    file: str
    content: Callable[[], bytes]
    rows: Sequence[tuple[str, str | None]]
    gaps: tuple[str, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)
    side: tuple[str, bytes] | None = None

    def __str__(self) -> str:
        return self.file


def members(*keys: str) -> Members:
    """The three samples under these keys: image, then caption."""
    return [one for key, (image, text) in zip(keys, PAIRS, strict=False) for one in ((f"{key}.jpg", image), (f"{key}.txt", text))]


def tar(*given: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member in given:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            content = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def whole() -> bytes:
    return tar(*members("a", "b", "c"))


def unmarked() -> bytes:
    """Without the end mark."""
    return whole()[: at("c.txt") + 1024]


def longer() -> bytes:
    """With one more member, longer than what is lost before a damaged place of a compressed stream, and no end mark."""
    return tar(*members("a", "b", "c"), ("z.bin", (A + B + C) * 6))[:-10_240]


def at(name: str) -> int:
    """Where the header of a member of `whole()` is."""
    with tarfile.open(fileobj=io.BytesIO(whole())) as archive:
        return archive.getmember(name).offset


def special(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def pax(name: str, **records: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.pax_headers = dict(records)
    return info


def sized(name: str, size: int) -> bytes:
    """`whole()`, with a header for `name` that claims this size."""
    info = tarfile.TarInfo(name)
    info.size = size
    place = at(name)
    return whole()[:place] + info.tobuf(tarfile.GNU_FORMAT) + whole()[place + 512 :]


def old_sparse() -> bytes:
    """A member of GNU's old sparse form, with one more block of its map behind the header."""
    info = tarfile.TarInfo("a.jpg")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:482] = (b"00000000000\0" + b"00000000200\0") * 4
    head[482], head[483:495] = 1, b"00004000000\0"
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + sum(head[156:]) + 256)
    return bytes(head) + bytes(512) + b"d" * 512 + tar(*members("a", "b", "c")[1:])


def damaged(content: bytes, place: float, length: int = 64) -> bytes:
    start = int(place * len(content))
    return content[:start] + b"\xa5" * length + content[start + length :]


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, "zstd", asbytes=True))


def lz4(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "lz4") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def parquet(columns: Mapping[str, object], **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer, compression="none", use_dictionary=False, **options)
    return buffer.getvalue()


TABLE = {"key": list("abc"), "image": [A, B, C], "caption": [text.decode() for _, text in PAIRS]}


def corrupt_page() -> bytes:
    content = bytearray(parquet(TABLE, row_group_size=1))
    chunk = pq.read_metadata(io.BytesIO(content)).row_group(1).column(1)
    content[chunk.data_page_offset : chunk.data_page_offset + 16] = b"\xff" * 16
    return bytes(content)


def far_apart() -> Members:
    keys = [f"{i:02d}" for i in range(70)]
    return [*[(f"{key}.jpg", b"x") for key in keys], *[(f"{key}.txt", b"a caption") for key in keys]]


MARK = "end mark inside the file"
FAR = [(f"{i:02d}", fault) for fault in ("missing_caption", "members_not_adjacent") for i in range(70)]
CUT_B = [("a", None), ("b", "unreadable_member")]
CASES = [
    # Cut
    Broken("cut_at_a_member.tar", lambda: whole()[: at("b.jpg")], [("a", None)], ("truncated",)),
    Broken("cut_between_parts.tar", lambda: whole()[: at("b.txt")], [("a", None), ("b", "missing_caption")], ("truncated",)),
    Broken("cut_in_a_header.tar", lambda: whole()[: at("b.jpg") + 100], [("a", None)], ("truncated",)),
    Broken("cut_in_data.tar", lambda: whole()[: at("b.jpg") + 1500], CUT_B, ("truncated",)),
    Broken("no_end_mark.tar", unmarked, GOOD, ("truncated",)),
    Broken("half_an_end_mark.tar", lambda: unmarked() + bytes(512), GOOD, ("truncated",)),
    Broken("zeros_at_the_end.tar", lambda: whole()[: at("b.jpg")] + bytes(60_000), [("a", None)], ("truncated",)),
    Broken("fewer_than_promised.tar", lambda: tar(*members("a", "b")), GOOD[:2], ("missing_vs_sidecar",),
           side=("fewer_than_promised_stats.json", b'{"successes": 3}')),
    Broken("promises_nothing.tar", lambda: tar(*members("a", "b")), GOOD[:2], ("unreadable_sidecar",),
           side=("promises_nothing.parquet", b"PAR1 no parquet")),
    Broken("a_copy_is_no_other_sample.tar", lambda: tar(*members("a", "b"), *members("a")),
           [("a", None), ("b", None), ("a", "duplicate_key")], ("missing_vs_sidecar",),
           side=("a_copy_is_no_other_sample_stats.json", b'{"successes": 3}')),
    # No archives
    Broken("page.tar", lambda: b"<html>not found</html>" * 50, [], ("not_an_archive",)),
    Broken("empty.tar", bytes, [], ("not_an_archive",)),
    # Order
    Broken("near.tar", lambda: tar(*members("a", "b", "c")[::2], *members("a", "b", "c")[1::2]), GOOD),
    Broken("far.tar", lambda: tar(*far_apart()), FAR, ("members_not_adjacent",)),
    # Keys and names
    Broken("duplicate_keys.tar", lambda: tar(*members("a", "a", "b")), [("a", None), ("a", "duplicate_key"), ("b", None)]),
    Broken("dots.tar", lambda: tar(*members("v1.0/a", "b.c", "c")), [("v1.0/a", None), ("c", None)],
           ignored={"dots in the name": 2}),
    Broken("folders.tar", lambda: tar(special("d", tarfile.DIRTYPE), *members("d/a", "d/e/b", "./c")),
           [("d/a", None), ("d/e/b", None), ("./c", None)], ignored={"folder": 1}),
    Broken("outside.tar", lambda: tar(*members("../../a", "/tmp/b", "c:\\c")),
           [("../../a", None), ("/tmp/b", None), ("c:\\c", None)]),
    Broken("long_names.tar", lambda: tar(*members("f" * 300, "b", "c")), [("f" * 300, None), *GOOD[1:]]),
    Broken("too_long_names.tar", lambda: tar(*members("f" * 5_000, "b", "c")), GOOD[1:], ignored={"name too long": 2}),
    Broken("latin_names.tar", lambda: tar(*members("caf\udce9", "b", "c")), [("caf\\xe9", None), *GOOD[1:]]),
    Broken("nul_names.tar", lambda: tar(pax("p", path="n\0l.txt"), *members("a", "b", "c"), form=tarfile.PAX_FORMAT),
           [("n\0l", "missing_image"), *GOOD]),
    # Kinds of members
    Broken("links.tar", lambda: tar(special("x.jpg", tarfile.SYMTYPE), special("y.jpg", tarfile.LNKTYPE, "a.jpg"),
                                    ("y.txt", b"y"), *members("a", "b", "c")),
           [("y", "missing_image"), *GOOD], ignored={"symbolic link": 1, "hard link": 1}),
    Broken("devices.tar", lambda: tar(*(special(f"{i}.jpg", kind) for i, kind in enumerate(
        (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE))), *members("a", "b", "c")), GOOD, ignored={"device": 2, "fifo": 1}),
    Broken("sparse_gnu.tar", old_sparse, [("a", "unreadable_member"), *GOOD[1:]]),
    Broken("sparse_pax.tar", lambda: tar(pax("s", **{"GNU.sparse.major": "1", "GNU.sparse.name": "s.jpg"}), ("s.txt", b"s"),
                                         *members("a", "b", "c"), form=tarfile.PAX_FORMAT), [("s", "unreadable_member"), *GOOD]),
    Broken("pax.tar", lambda: tar(pax("p", path="ü.txt", comment="c" * 900), *members("a", "b", "c"), form=tarfile.PAX_FORMAT),
           [("ü", "missing_image"), *GOOD]),
    Broken("dangling_name.tar", lambda: whole()[: at("b.jpg")] + tar(("n" * 300, b""))[:1024] + bytes(10_240),
           [("a", None)], ("corrupt_header",)),
    # Compression
    Broken("packed.tar.gz", lambda: gzip.compress(whole()), GOOD),
    Broken("frame.tar.zst", lambda: zstd(whole()), GOOD),
    Broken("frames.tar.zst", lambda: zstd(whole()[:5_000]) + zstd(whole()[5_000:]), GOOD),
    Broken("cut_stream.tar.gz", lambda: gzip.compress(longer(), 0)[:-1], GOOD, ("truncated",), {"other extension": 1}),
    Broken("cut_frame.tar.zst", lambda: zstd(longer()) + zstd(whole())[:99],
           GOOD, ("truncated",), {"other extension": 1}),
    Broken("corrupt_stream.tar.gz", lambda: damaged(gzip.compress(longer(), 0), 0.9),
           GOOD, ("truncated",), {"other extension": 1}),
    Broken("corrupt_frame.tar.zst", lambda: zstd(longer()) + zstd(b"")[:4] + b"\xff" * 99,
           GOOD, ("truncated",), {"other extension": 1}),
    Broken("corrupt_start.tar.gz", lambda: damaged(gzip.compress(whole()), 0.1), [], ("not_an_archive",)),
    Broken("bzip2.tar.bz2", lambda: bz2.compress(whole()), [], ("unsupported_compression",)),
    Broken("xz.tar.xz", lambda: lzma.compress(whole()), [], ("unsupported_compression",)),
    Broken("lz4.tar.lz4", lambda: lz4(whole()), [], ("unsupported_compression",)),
    # Sizes that lie
    Broken("size_too_big.tar", lambda: sized("a.txt", len(B)), [("a", "unreadable_member"), *GOOD[1:]], ("corrupt_header",)),
    Broken("size_takes_a_member.tar", lambda: sized("a.txt", at("b.txt") - at("a.txt") - 512),
           [("a", "caption_undecodable"), ("b", "missing_image"), ("c", None)], ("corrupt_header",)),
    Broken("size_beyond_the_file.tar", lambda: sized("b.jpg", 7 << 30), [("a", None), CUT_B[1], ("c", None)], ("corrupt_header",)),
    Broken("size_of_petabytes.tar", lambda: sized("b.jpg", 1 << 60), [("a", None), CUT_B[1], ("c", None)], ("corrupt_header",)),
    Broken("size_negative.tar", lambda: sized("b.jpg", -5),
           [("a", None), ("b", "missing_image"), ("c", None)], ("corrupt_header",)),
    Broken("size_too_small.tar", lambda: sized("b.jpg", 600), GOOD, ("corrupt_header",)),
    Broken("size_in_pax.tar", lambda: tar(pax("p.txt", size="99999999"), *members("a", "b", "c"), form=tarfile.PAX_FORMAT),
           [("p", "unreadable_member"), *GOOD], ("corrupt_header",)),
    # Captions and parts
    Broken("captions.tar", lambda: tar(("a.jpg", A), ("a.txt", b"x" * (2 << 20)), ("b.jpg", B), ("b.txt", b"caf\xe9 \xff"),
                                       ("c.jpg", C), ("c.txt", b"n\0l"), ("d.jpg", A), ("d.txt", b"")), [*GOOD, ("d", None)]),
    Broken("parts.tar", lambda: tar(("a.jpg", A), ("b.txt", b"b"), ("c.json", b"{"), ("README", b""), ("d.cls", b"1")),
           [("a", "missing_caption"), ("b", "missing_image"), ("c", "missing_image")],
           ignored={"other extension": 1, "no extension": 1}),
    # More or fewer bytes
    Broken("joined.tar", lambda: tar(*members("a")) + whole()[at("b.jpg") :], GOOD, ignored={MARK: 1}),
    Broken("garbage_at_the_end.tar", lambda: whole() + b"junk" * 1_000, GOOD, ("corrupt_header",)),
    Broken("bytes_put_in.tar", lambda: whole()[: at("b.jpg")] + b"junk!" * 7 + whole()[at("b.jpg") :], GOOD, ("corrupt_header",)),
    Broken("bytes_taken_out.tar", lambda: whole()[: at("b.jpg") + 700] + whole()[at("b.jpg") + 800 :],
           [("a", None), ("b", "missing_caption"), ("c", None)], ("corrupt_header",)),
    Broken("hole.tar", lambda: whole()[: at("b.jpg")] + bytes(at("c.jpg") - at("b.jpg")) + whole()[at("c.jpg") :],
           [("a", None), ("c", None)], ("corrupt_header",)),
    # Parquet
    Broken("cut.parquet", lambda: parquet(TABLE)[:9_000], [], ("truncated",)),
    Broken("html.parquet", lambda: b"<html>not found</html>", [], ("not_an_archive",)),
    Broken("corrupt_page.parquet", corrupt_page, [("a", None), ("c", None)], ("corrupt_data",)),
    Broken("no_captions.parquet", lambda: parquet({"key": ["a"], "image": [A]}), [("a", "missing_caption")]),
    Broken("nulls.parquet", lambda: parquet({**TABLE, "image": [A, None, b""]}),
           [("a", None), ("b", "missing_image"), ("c", None)]),
    Broken("one_group.parquet", lambda: parquet({"image": [A] * 66, "caption": ["c"] * 66}),
           [(f"{i:09d}", None) for i in range(66)]),
]
