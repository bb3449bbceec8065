"""The answers of `run`, `label`, `status` and `path`: what a run did, how far it is, and where its outputs are."""

from typing import Literal

from pydantic import Field

from schemas.answers.base import Answer, Failed, Gaps, Ignored, IgnoredIn, Kept, Read, Rejected


class FormerExports(Answer):
    """Exports of former recipes and thresholds, which nothing names any more; `gc` removes them."""

    exports: int
    """how many"""
    bytes: int
    """of all their files"""


class RunResult(Answer):
    """What a finished run did with its samples."""

    root: str
    """output root, as it was given"""
    seconds: float
    """of this call; some where an earlier one had done it all"""
    read: Read
    kept: Kept
    rejected: Rejected
    failed: Failed
    gaps: Gaps
    quarantined: tuple[str, ...]
    """ids of the input shards that were given up"""
    retry: str
    """how shards in quarantine are tried again, in words; empty where there are none"""
    ignored: Ignored
    ignored_in: IgnoredIn
    warnings: tuple[str, ...]
    """what may not be as it was meant, e.g. more classes than the samples are worth, and what to do"""
    nothing_kept: str
    """why nothing was kept and what to do, in words; empty where something was"""
    shards: dict[str, dict[str, int]]
    """samples by verdict (kept, rejected:RULE, failed:CODE), for each input shard"""
    published: str
    """the folder of the exported shards, as an absolute path or URL"""
    former_exports: FormerExports
    """what this root still holds of others"""


class Place(Answer):
    """Where one of the published outputs of a root is."""

    root: str
    """output root, as it was given"""
    what: str
    """the output that was asked for"""
    path: str
    """absolute path or URL; it stays what it is while another run publishes something else"""


RunState = Literal["running", "running or killed", "finished", "unfinished", "stopped"]


class RunHolder(Answer):
    """The process that holds a root."""

    host: str
    """name of its machine; empty where its lock does not say"""
    pid: int
    """process id there; 0 where its lock does not say"""
    since: str
    """when it began, UTC, ISO 8601"""


class BalancedExport(Answer):
    """What an export that is balanced over the classes made of the kept samples."""

    output_count: int
    """samples exported, repeats counted"""
    left_out: int
    """kept samples that are not exported"""
    repeats: int
    """samples exported beyond the first copy of each"""


class QuarantinedShard(Answer):
    """An input shard that was given up."""

    shard_id: str
    """the input shard"""
    error: str
    """why, in words"""


class PassProgress(Answer):
    """How far a pass is."""

    done: int
    """shards that are done"""
    of: int | None
    """shards in all; null while that is not known"""


class ColumnSet(Answer):
    """A folder of columns in a root."""

    name: str
    """NAME@FINGERPRINT"""
    current: bool
    """whether the root's last recipe reads it; false: of another recipe, model or input list"""
    shards: int
    """input shards that have it"""
    bytes: int
    """of all its files"""


class PassMeans(Answer):
    """What a pass computes with."""

    device: str
    """cpu or cuda"""
    precision: str
    """arithmetic of the model"""
    threads: int
    """computing threads of an actor; 0 where the pass has no choice"""
    actors_per_gpu: int
    """actors that share a GPU"""


class PassTime(Answer):
    """Where the time of a pass went, over the shards that are done."""

    name: str = Field(validation_alias="pass", serialization_alias="pass")
    """name of the pass"""
    at_work: bool
    """whether a run is in it now"""
    thread_seconds: float
    """seconds x computing threads, summed over the shards"""
    shares: dict[str, float]
    """of thread_seconds by activity, 0..1, largest first"""
    beside: dict[str, float]
    """seconds that overlap with them, by what was measured: reading, its CPU time, the GPU's"""
    gpu_busy: float | None
    """share of the time that a GPU was busy, 0..1; null where that was not measured"""
    means: PassMeans
    """what it computed with"""
    advice: str
    """what holds the pass up and what to change, in one sentence; may be empty"""


class Status(Answer):
    """How far a run is, its account so far, and where its time goes."""

    root: str
    """output root, as it was given"""
    recipe: str
    """name of its recipe"""
    state: RunState
    """running or killed: its process is on another machine and cannot be asked; stopped: its process has ended before its end"""
    holder: RunHolder | None
    """the process that holds the root while a run may be at work in it"""
    read: Read
    kept: Kept | None
    """samples that no rule rejects; null before there are verdicts"""
    rejected: Rejected
    failed: Failed
    gaps: Gaps
    ignored: Ignored
    ignored_in: IgnoredIn
    balance: BalancedExport | None
    """null where the export takes every kept sample once, or is not done"""
    quarantined: tuple[QuarantinedShard, ...]
    """input shards that were given up"""
    retry: str
    """how they are tried again, in words; empty where there are none"""
    nothing_kept: str
    """why nothing was kept and what to do, in words; empty where something was, and before there are verdicts"""
    passes: dict[str, PassProgress]
    """by name, in the order in which they run"""
    columns: tuple[ColumnSet, ...]
    """those of the last recipe in the order of its passes, then the others"""
    outputs: dict[str, str | dict[str, str] | None]
    """where the root has what, relative to it: `columns` by stage, `others` by recipe key; null what the recipe does not ask for"""
    former_exports: FormerExports
    """what this root still holds of former recipes and thresholds"""
    time: tuple[PassTime, ...]
    """by pass, in the order in which they ran"""
