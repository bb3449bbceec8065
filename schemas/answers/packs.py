"""The answer of `pack`: what loose images became."""

from schemas.answers.base import Answer


class LeftOut(Answer):
    """What was not packed for one reason."""

    count: int
    """files or rows"""
    meaning: str
    """the reason in words"""
    lost: bool
    """whether each of them is a sample that should have been there; false: a file that is no sample by itself"""
    examples: tuple[str, ...]
    """the first ones: paths, or table, line and path"""


class Packed(Answer):
    """The shards that a pack has made, by this call and earlier ones, and what is not in them."""

    output: str
    """folder of the shards, as a URL"""
    shards: int
    """tars in it"""
    written: int
    """of these by this call; the others were there"""
    samples: int
    """in all shards; read in the input: samples + those of `left_out` that are lost"""
    bytes: int
    """of their images, captions and metadata"""
    without_caption: int
    """samples without a text of their own; their metadata may hold one"""
    not_utf8: int
    """samples whose caption is not valid UTF-8; it is packed as it is"""
    left_out: dict[str, LeftOut]
    """by reason code, most first"""
    hint: str
    """what to do about what is missing, in one sentence; may be empty"""

    @property
    def incomplete(self) -> bool:
        """Whether samples are missing, or there are none."""
        return not self.samples or any(one.lost for one in self.left_out.values())
