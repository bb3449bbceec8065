"""What several answers share: how they become JSON, and the account of the samples of a run."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from schemas.reasons import GapKind


class Answer(BaseModel):
    """Part of an answer: attributes for Python, `as_json()` for everybody else.

    A field without a default stands in every JSON, null where the value is not known. A field with a default is None in Python and
    missing from the JSON where the question did not ask for it.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True,
        validate_by_name=True, validate_by_alias=True, serialize_by_alias=True,   # `pass` and `from` are no names in Python
        ser_json_inf_nan="null", ser_json_bytes="hex",
    )

    def as_json(self) -> dict[str, Any]:
        """The values that `--json` prints, as dict, list, str, int, float, bool and None."""
        return self.model_dump(mode="json", exclude_unset=True, fallback=str)


Read = Annotated[int, Field(description="samples read from the input shards: kept + rejected + failed")]
Kept = Annotated[int, Field(description="samples that no rule rejects")]
Rejected = Annotated[dict[str, int], Field(description="samples by the first rule that rejects them, most first")]
Failed = Annotated[dict[str, int], Field(description="samples that could not be processed, by reason code, most first")]
Ignored = Annotated[dict[str, int], Field(description="archive members that belong to no sample, by reason; not among `read`")]


class IgnoredInShard(Answer):
    """Members of one input shard that belong to no sample, for one reason."""

    shard_id: str
    """the input shard"""
    reason: str
    """why they are ignored"""
    count: int
    """members"""
    examples: tuple[str, ...]
    """names of the first few, as the archive has them"""


IgnoredIn = Annotated[
    tuple[IgnoredInShard, ...],
    Field(description="the ignored members by shard and reason, with examples; none of shards that an earlier version has read"),
]


class Gap(Answer):
    """A part of an input shard that nobody can read."""

    shard_id: str
    """the input shard"""
    kind: GapKind
    """what is wrong there"""
    offset: int
    """bytes from the start of the shard, decompressed where it is compressed; the row for parquet"""
    detail: str
    """the same for people"""
    samples: int | None
    """samples that are missing; null where that is not known"""


Gaps = Annotated[tuple[Gap, ...], Field(description="parts of input shards that nobody can read")]
