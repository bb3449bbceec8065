"""What loose inputs consist of: candidates for samples, and what is left out with the reason. Names and keys for both."""

import re
from typing import NamedTuple

from pipeline.input.samples import IMAGE_EXTENSIONS

SAME = {"jpe": "jpg", "jfif": "jpg"}
"""Other extensions of the same formats."""
SURROGATES = re.compile("[\ud800-\udfff]")

REASONS = {
    "no_image": "captions or metadata without an image of their name",
    "further_image": "images of a name that has one already",
    "further_caption": "captions of a name that has one already",
    "other_file": "files that are neither image nor caption nor metadata",
    "hidden": "names that begin with a dot",
    "no_path": "rows that name no image",
    "bad_row": "rows that cannot be read",
    "url": "rows that name an image by URL: download those with img2dataset",
    "not_an_image": "files that neither by name nor by their first bytes are images",
    "outside_root": "files outside of the folder, by name or by a link: --root FOLDER says where files may be",
    "no_such_file": "files that are not there",
    "not_allowed": "files that may not be read",
    "not_a_file": "folders, pipes or devices instead of a file",
    "too_large": "images above 128 MiB, captions or metadata above 16 MiB",
}
"""Why something is not packed, in words."""
LOST = frozenset(REASONS) - {"no_image", "further_image", "further_caption", "other_file", "hidden"}
"""Reasons for which a sample is missing that should have been there."""


class Candidate(NamedTuple):
    """A sample to be packed."""

    key: str
    named: str
    """What people call it: its path, or the table, line and path."""
    image: str
    """Path, as `Below.read` takes it."""
    text: str | None = None
    """Path of the caption."""
    json: str | None = None
    """Path of the metadata object."""
    caption: bytes | None = None
    """The caption itself, of a row."""
    row: bytes | None = None
    """The metadata object itself, of a row."""


class LeftOut(NamedTuple):
    """Something that is not packed."""

    reason: str
    """One of REASONS."""
    named: str


Item = Candidate | LeftOut


def shown(name: str) -> str:
    """A name as text that any terminal and file may have: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def key_of(path: str) -> str:
    """The key for a path without its extension: other paths have other keys. Dots, which would end it, and what cannot be printed
    become %XX; folders stay."""
    key = "".join(c if c.isprintable() and c not in ".%" else _escaped(c) for c in path)
    first = key.split("/", 1)[0]
    return f"%5F{key[1:]}" if first.startswith("__") and first.endswith("__") else key   # webdataset passes over such members


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def extension_of(name: str) -> str:
    """The lower-case extension of a file name, by one name for each format; empty without one."""
    _, dot, extension = re.split(r"[/\\]", name)[-1].rpartition(".")
    return SAME.get(extension.lower(), extension.lower()) if dot else ""


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return extension_of(name) in IMAGE_EXTENSIONS
