"""Shards that were given up, by name: `quarantine/`."""

from collections.abc import Sequence
from typing import Any

from pipeline.input.discovery import Shard
from pipeline.store.store import Store
from pipeline.work import Outcome

ANNOTATE, EXPORT = "annotate", "export"
"""Passes that read input shards and give them up."""


def quarantine(store: Store, shard: Shard, outcome: Outcome[Any], during: str = ANNOTATE) -> None:
    """Writes down that a shard was given up, in which pass, with its version, its last error and its number of attempts."""
    store.write_json(f"quarantine/{shard.shard_id}.json", {
        "shard_id": shard.shard_id, "url": shard.url, "version": shard.version,
        "error": outcome.error, "attempts": outcome.attempts, "pass": during,
    })


def release(store: Store, shard_id: str) -> None:
    """Takes a shard out of quarantine."""
    store.remove(f"quarantine/{shard_id}.json")


def given_up_during(store: Store, shard_id: str) -> str:
    """The pass in which a shard that is in quarantine was given up."""
    return str(store.read_json(f"quarantine/{shard_id}.json").get("pass", ANNOTATE))


def how_to_retry(count: int) -> str:
    """What to do about so many shards in quarantine; empty where there are none."""
    if not count:
        return ""
    shards = "1 shard is" if count == 1 else f"{count:,} shards are"
    return f"{shards} in quarantine and not in the output: the same `run` with --retry-quarantined tries them again"


def quarantined(store: Store, shards: Sequence[Shard]) -> dict[str, str]:
    """The error of each shard that was given up, by shard_id. A file that has changed since is not among them: it is tried
    again."""
    versions = {shard.shard_id: shard.version for shard in shards}
    errors = {}
    for name in store.names("quarantine"):
        entry = store.read_json(f"quarantine/{name}")
        if versions.get(entry["shard_id"]) == entry["version"]:
            errors[entry["shard_id"]] = str(entry["error"])
    return errors
