"""Sizes and durations in words, for prose; the only owner of humanize. Cells of tables and axes have shorter forms of their own."""

import humanize


def size(count: float) -> str:
    """A number of bytes in powers of 1000, to a tenth of the unit: 12 Bytes, 1.5 MB, 102.4 GB."""
    return humanize.naturalsize(count, format="%.1f")


def duration(seconds: float) -> str:
    """Seconds in words, to the second below two minutes, to the minute above: 90 seconds, 15 minutes, 2 hours and 30 minutes."""
    if seconds < 120:
        return f"{seconds:,.0f} second{'' if round(seconds) == 1 else 's'}"
    return humanize.precisedelta(60 * round(seconds / 60), minimum_unit="minutes", format="%d")
