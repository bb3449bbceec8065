"""A curation from Python."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.api.opened import Root, open

Path = str | os.PathLike[str]


def curate(
    recipe: Path, inputs: Path | Sequence[Path] | None, output: Path, *,
    overrides: Sequence[str] | Mapping[str, Any] = (), workers: int | None = None, local: bool = False, address: str | None = None,
    threads: int = 1, actors_per_gpu: int | None = None, retry_quarantined: bool = False, stall_timeout: float | None = None,
    stages: Sequence[str] = (), progress: bool = False,
) -> Root:
    """Runs a curation, or continues it, and opens its root: the same call again does only what is missing, and on a finished root
    nothing. The same as `shardmill run`, and the same bytes, wherever and by however many workers.

    `recipe`: a preset's name or a recipe file. `inputs`: a folder, glob, brace pattern or URL, or several; None: the recipe's own.
    `output`: the root, a folder or URL. `overrides`: as --set, ["classes.k=32"] or {"classes.k": 32}.
    `local`: in this process without Ray, with `threads` batches at once; else on the Ray cluster that this process is connected to,
    the one at `address` (or RAY_ADDRESS; "auto": that of this machine), or one of `workers` CPUs that is started for it on this
    machine, by default as many as this process may use.
    `retry_quarantined`: try the shards again that could not be read. `stall_timeout`: seconds without progress after which a shard
    is hung. `stages`: stages of yours, as "package.module:Class" (docs/extending.md). `progress`: show on stderr how far it is.

    A shard that cannot be read is named in the `ledger` of what comes back (`quarantined`) and raises nothing; nor does a run that
    keeps nothing: `status().nothing_kept` says why. Raises RecipeError
    for a wrong recipe or override, InputError for inputs, RootError for an output that is another's or in use, OutputError for one
    that cannot be written. Ctrl-C comes through as KeyboardInterrupt, and so does SIGTERM where the main thread calls: what is done
    is kept. A local run ends with a picture that ends its process, which a worker of Ray's would survive.
    """
    from pipeline.api.engines import Execution
    from pipeline.api.progress import Silent, reporter
    from pipeline.api.run import Request, run_curation

    patterns = [] if inputs is None else [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    request = Request(os.fspath(recipe), [os.fspath(pattern) for pattern in patterns], settings(overrides), list(stages))
    execution = Execution(threads, retry_quarantined, workers, address, stall_timeout, actors_per_gpu, local)
    run_curation(request, os.fspath(output), reporter() if progress else Silent(), execution)
    return open(output)


def settings(overrides: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """`key=value` texts as --set takes them, whose values are YAML; JSON is."""
    if not isinstance(overrides, Mapping):
        return [overrides] if isinstance(overrides, str) else list(overrides)
    return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
