"""Reason codes: why a sample could not be processed, or why part of a shard could not be read.

They are data: verdicts read `failed:<code>`, the ledger counts them, reports show them. A code is never renamed.
"""

from enum import StrEnum


class SampleFault(StrEnum):
    """A sample whose parts are not all there (column `samples_error`)."""

    MISSING_IMAGE = "missing_image"
    MISSING_CAPTION = "missing_caption"
    DUPLICATE_KEY = "duplicate_key"
    BAD_JSON = "bad_json"
    CAPTION_UNDECODABLE = "caption_undecodable"
    """Its bytes are neither UTF-8 nor what the recipe falls back on."""
    UNREADABLE_MEMBER = "unreadable_member"
    NOT_ADJACENT = "members_not_adjacent"
    """The rest of it came too far before."""


class ImageFault(StrEnum):
    """An image that cannot be turned into pixels (column `image_error`)."""

    EMPTY = "image_empty"
    NOT_AN_IMAGE = "image_not_an_image"
    FORMAT_NOT_ALLOWED = "image_format_not_allowed"
    TOO_MANY_PIXELS = "image_too_many_pixels"
    TRUNCATED = "image_truncated"
    UNDECODABLE = "image_undecodable"
    TOO_COMPLEX = "image_too_complex"
    """More scans, segments or chunks than a picture needs: a bomb that its number of pixels does not show."""
    DECODER_CRASHED = "image_decoder_crashed"
    DECODER_HUNG = "image_decoder_hung"


class ClipFault(StrEnum):
    """A sample that the model could not embed (column `clip_error`)."""

    NOT_FINITE = "embedding_not_finite"


class GapKind(StrEnum):
    """A part of a shard that holds samples nobody can read; reported by name, never silently skipped."""

    TRUNCATED = "truncated"
    NOT_AN_ARCHIVE = "not_an_archive"
    CORRUPT_HEADER = "corrupt_header"
    CORRUPT_DATA = "corrupt_data"
    NOT_ADJACENT = "members_not_adjacent"
    """Samples whose members are too far apart to be put together in one pass."""
    MISSING_VS_SIDECAR = "missing_vs_sidecar"
    UNREADABLE_SIDECAR = "unreadable_sidecar"
    """Whether samples are missing cannot be told."""
    UNSUPPORTED_COMPRESSION = "unsupported_compression"
    UNREADABLE = "unreadable"
    """A file that may hold images, in columns that are not read."""


class IgnoredKind(StrEnum):
    """A member of an archive that belongs to no sample; counted, with examples."""

    DOTS = "dots in the name"
    OTHER_EXTENSION = "other extension"
    NO_EXTENSION = "no extension"
    LONG_NAME = "name too long"
    FURTHER_IMAGE = "further image"
    FOLDER = "folder"
    HARD_LINK = "hard link"
    SYMBOLIC_LINK = "symbolic link"
    DEVICE = "device"
    FIFO = "fifo"
    END_MARK = "end mark inside the file"

    @property
    def words(self) -> str:
        """The reason for people: what such a member is, and what to do where it was meant as one of a sample."""
        return IGNORED_IN_WORDS.get(self, "it holds no file")


IGNORED_IN_WORDS = {
    IgnoredKind.DOTS: "the key ends at the first dot of a name (webdataset's rule), and what follows it is no extension that is "
                      "read: pack them again under names whose only dot is before the extension",
    IgnoredKind.OTHER_EXTENSION: "no image, txt or json by the extension of its name",
    IgnoredKind.NO_EXTENSION: "no extension that would say what it is, or a name that begins with a dot",
    IgnoredKind.LONG_NAME: "a name longer than a file system has",
    IgnoredKind.FURTHER_IMAGE: "the sample has an image already, of an extension that comes before",
    IgnoredKind.END_MARK: "two archives one behind the other; both are read",
}
