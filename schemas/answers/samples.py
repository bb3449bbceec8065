"""The answers about samples: `verify` and `gc` for the files of a root, `explain` for one sample, `samples` for some, `simulate`
for other rules."""

from typing import Any

from pydantic import Field

from schemas.answers.base import Answer, Failed, Gaps, Ignored, IgnoredIn, Kept, Read, Rejected


class Damaged(Answer):
    """A root whose samples were not counted: its run is not finished, or its files are not as they were written."""

    faults: tuple[str, ...]
    """every fault in words; never empty"""


class Verified(Answer):
    """A root whose samples were counted anew from its files."""

    faults: tuple[str, ...]
    """every fault in words; empty where every input sample is accounted for"""
    read: Read
    kept: Kept
    rejected: Rejected
    failed: Failed
    gaps: Gaps
    quarantined: tuple[str, ...]
    """ids of the input shards that were given up"""
    ignored: Ignored
    ignored_in: IgnoredIn
    accounted: int
    """samples that have a verdict"""
    shards: int
    """input shards that could be read"""
    compared: int | None
    """samples of the output that were compared with the inputs; null without --deep"""


Verification = Verified | Damaged


class UnusedFolder(Answer):
    """Files directly in one folder that nothing in the root names."""

    folder: str
    """relative to the root"""
    reason: str
    """why nothing names them"""
    files: int
    """how many"""
    bytes: int
    """of these files"""


class Collected(Answer):
    """What nothing in a root names any more."""

    root: str
    """output root, as a URL"""
    removed: bool
    """false: it was listed only"""
    folders: tuple[UnusedFolder, ...]
    """what there was, by folder"""
    links: tuple[str, ...]
    """links where outputs would be: neither followed nor removed"""
    files: int
    """of all folders"""
    bytes: int
    """of these files"""
    uploads: int | None = None
    """unfinished uploads that were aborted; missing where it was listed only"""


class RuleCheck(Answer):
    """One rule's view of one sample."""

    rule: str
    """name of the rule in the recipe"""
    column: str
    """the column that it reads"""
    value: Any
    """what the sample has there; null: nothing"""
    bound: str
    """what the rule wants, in words"""
    passes: bool
    """whether it keeps the sample"""


class SampleLabel(Answer):
    """A class of a sample."""

    class_id: int
    """stable id of the class"""
    name: str | None
    """its name; null before the classes have names"""
    weight: float
    """0..1; those of a sample sum to 1"""


class NamedSample(Answer):
    """A sample by every name that it has: each command takes its uid, its source_uid, SHARD:ROW and its key."""

    uid: str
    """content identity, 32 hex digits"""
    source_uid: str | None
    """uid that the input brought; null without one"""
    shard_id: str
    """input shard"""
    row: int
    """row of the sample there"""
    key: str
    """name of the sample there"""
    url: str
    """where that shard is read"""
    verdict: str
    """kept, rejected:RULE or failed:CODE"""


class Explanation(NamedSample):
    """One sample: its columns, what each rule saw, and the verdict."""

    rules: tuple[RuleCheck, ...]
    """in the recipe's order"""
    columns: dict[str, dict[str, Any]]
    """values by stage and column, with the meanings and units of the column files; binary ones as the first hex digits"""
    labels: tuple[SampleLabel, ...] | None = None
    """nearest classes, best first, none where the sample is not labelled; missing where the root has no labels"""


class ListedSample(NamedSample):
    """One sample in one line."""

    caption: str | None
    """raw caption; null without one"""
    class_id: int | None
    """nearest class; null where the sample is not labelled"""
    class_name: str | None
    """name of that class"""
    values: dict[str, Any]
    """values by column: the columns that were asked for, else those that the rules read"""


class SampleList(Answer):
    """Some samples of a root, in the order of its inputs."""

    root: str
    """output root, as it was given"""
    matching: int | None
    """samples that were asked for, shown or not; null where that is not counted"""
    samples: tuple[ListedSample, ...]
    """the first of them"""


class Funnel(Answer):
    """Samples by verdict."""

    read: Read
    kept: Kept
    rejected: Rejected
    failed: Failed


class MovedSamples(Answer):
    """Samples whose verdict other rules would change."""

    before: str = Field(validation_alias="from", serialization_alias="from")
    """verdict by the stored rules"""
    after: str = Field(validation_alias="to", serialization_alias="to")
    """verdict by the other ones"""
    samples: int
    """how many"""


class Simulation(Answer):
    """What other rules would keep."""

    old: Funnel
    """by the stored rules"""
    new: Funnel
    """by the other ones"""
    moved: tuple[MovedSamples, ...]
    """samples whose verdict changes, by what it was and what it becomes"""
    uncompared: int = 0
    """samples that the other rules would let in and that semantic duplicates were not looked for among: they count as kept"""
