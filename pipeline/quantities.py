"""Sizes, durations and what others wrote, in words for people; the only owner of humanize. Cells of tables and axes have shorter
forms of their own."""

import humanize


def size(count: float) -> str:
    """A number of bytes in powers of 1000, to a tenth of the unit: 12 Bytes, 1.5 MB, 102.4 GB."""
    return humanize.naturalsize(count, format="%.1f")


def counted(count: int, singular: str, plural: str = "") -> str:
    """A number of things: 1 shard, 2 shards, 1,000 classes."""
    return f"{count:,} {noun(count, singular, plural)}"


def noun(count: int | None, singular: str, plural: str = "") -> str:
    """The noun that goes with a number of things, which may not be known: shard for 1, else shards."""
    return singular if count == 1 else plural or f"{singular}s"


def flops_a_second(rate: float) -> str:
    """Floating-point operations a second, to two digits at least: 277 GFLOP/s, 4.2 GFLOP/s, 310 MFLOP/s."""
    unit, scale = ("GFLOP/s", 1e9) if rate >= 1e9 else ("MFLOP/s", 1e6)
    return f"{rate / scale:,.{0 if rate >= 10 * scale else 1}f} {unit}"


def a_second(rate: float) -> str:
    """How many a second, in figures that are never rounded to nothing: 1,234, 12, 1.9, 0.042."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"


def duration(seconds: float) -> str:
    """Seconds in words, to the second below two minutes, to the minute above: 90 seconds, 15 minutes, 2 hours and 30 minutes."""
    if seconds < 120:
        return f"{seconds:,.0f} second{'' if round(seconds) == 1 else 's'}"
    return humanize.precisedelta(60 * round(seconds / 60), minimum_unit="minutes", format="%d")


def clean(value: object) -> str:
    """The value as text that is safe for a terminal: one line without escape sequences, whatever the open web put there."""
    return "".join(c if c.isprintable() else " " for c in str(value))
