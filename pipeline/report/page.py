"""The report of a run as one HTML page that loads nothing. The only jinja2 import.

What it shows is `report/data.py`. Captions, keys, shard names and error messages come from the open web: every string is
cleaned of control and direction characters and escaped on its way into the page, and the page's policy forbids requests and
any script and style but its own two.
"""

import base64
import hashlib
import io
import re

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from pipeline.quantities import a_second
from pipeline.report.charts import plot
from pipeline.report.data import LIMITS, ReportData

THUMBNAIL_BYTES, LARGE_BYTES = 6144, 12288
LARGE = 224
"""Pixels of the longest side of a picture that is shown larger."""


def large_thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """As `thumbnail`, of LARGE pixels and at most LARGE_BYTES; where these do not do, a plain thumbnail."""
    try:
        return thumbnail(pixels, LARGE, LARGE_BYTES)
    except ValueError:
        return thumbnail(pixels)


def thumbnail(pixels: NDArray[np.uint8], side: int = 112, limit: int = THUMBNAIL_BYTES) -> bytes:
    """A JPEG of pixels, uint8 [rows, columns, 3], whose longest side is at most `side` pixels, at most `limit` bytes long. Raises
    ValueError where that side is too large for so few bytes."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    for quality in (80, 60, 40, 20):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= limit:
            return file.getvalue()
    raise ValueError(f"side {side} is too large for a thumbnail of {limit} bytes")


# Control characters but tab and line ends, direction marks and overrides, lone surrogates, non-characters.
UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
LONGEST = 100_000


def showable(value: object) -> object:
    """Any string that the template prints, without what could end it, reorder its surroundings or not be encoded."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return UNSHOWABLE.sub("\N{REPLACEMENT CHARACTER}", cut(value, LONGEST))
    return value


def cut(text: str, length: int = 160) -> str:
    """At most `length` characters, the last an ellipsis if any are missing."""
    return text if len(text) <= length else text[: length - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def percent(part: float, total: float) -> str:
    """A share in words that never rounds something to nothing nor a part to everything."""
    if not total:
        return "\N{EN DASH}"
    share = 100 * part / total
    if 0 < share < 0.1:
        return "<0.1 %"
    if 99.9 < share < 100:
        return ">99.9 %"
    return f"{share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as 0.42 s, 8.3 s, 4 min 10 s or 2 h 5 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def breakable(name: str) -> Markup:
    """A name that may be broken after its underscores, so that narrow screens need not break inside a word."""
    return Markup("_<wbr>").join(str(showable(name)).split("_"))


def image_url(jpeg: bytes) -> str:
    """A data URL of a JPEG that `thumbnail` made. Raises ValueError for other bytes."""
    if not jpeg.startswith(b"\xff\xd8\xff") or len(jpeg) > LARGE_BYTES:
        raise ValueError(f"{len(jpeg)} bytes that report.thumbnail did not make")
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def status(data: ReportData) -> tuple[str, str]:
    """Whether the run went well: one of good, warn and bad, and a sentence."""
    parts = [
        f"{len(items):,} {noun}{'s' if len(items) > 1 else ''}"
        for items, noun in ((data.quarantined, "quarantined shard"), (data.gaps, "unreadable part")) if items
    ]
    if data.unaccounted:
        return "bad", f"Does not balance: {data.unaccounted:+,} samples are unaccounted for"
    if not data.run.finished:
        return "warn", "Stopped before the end; run the same command again to continue"
    if data.nothing_kept:
        return "warn", f"Finished, but {data.nothing_kept}"
    if parts:
        return "warn", f"Finished with {' and '.join(parts)}"
    if not data.read:
        return "warn", "Finished, but there was no sample to read"
    return "good", "Complete: every sample is accounted for"


def environment(folder: str) -> jinja2.Environment:
    """What templates of a folder of assets are rendered by: every string is escaped, and made showable before."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline", f"assets/{folder}"), autoescape=True, finalize=showable,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )
    env.filters.update(cut=cut, breakable=breakable, duration=duration, image_url=image_url)
    env.filters.update(rate=a_second, count="{:,}".format)
    return env


def own_part(env: jinja2.Environment, name: str) -> tuple[Markup, str]:
    """A style or script of ours as it stands in the page, and the hash by which the page's policy allows it."""
    assert env.loader is not None
    source = env.loader.get_source(env, name)[0]
    return Markup(source), base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def rendered(folder: str, name: str, **values: object) -> str:
    """A page of a folder of assets without a script: NAME.html.jinja with the style NAME.css. Raises ValueError for a picture that
    `thumbnail` did not make."""
    env = environment(folder)
    style, style_hash = own_part(env, f"{name}.css")
    return env.get_template(f"{name}.html.jinja").render(style=style, style_hash=style_hash, **values)


def render(data: ReportData) -> str:
    """The page as HTML. Raises ValueError for a picture that `thumbnail` did not make."""
    env = environment("report")
    env.filters.update(plot=plot)
    (style, style_hash), (script, script_hash) = own_part(env, "report.css"), own_part(env, "report.js")
    remaining, funnel = data.read, []
    for step in data.steps:
        remaining -= step.count
        funnel.append((step, remaining))
    return env.get_template("report.html.jinja").render(
        data=data, run=data.run, limits=LIMITS, percent=percent, style=style, style_hash=style_hash, script=script,
        script_hash=script_hash,
        status=status(data), funnel=funnel,
    )
