"""One mutant after another through discovery, reading, stages, commit and account. Runs in a process of its own, which may die."""

import faulthandler
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.api.engines import wish
from pipeline.columns import Columns
from pipeline.errors import ShardmillError
from pipeline.input.discovery import Shard, discover
from pipeline.input.reader import fetch, read
from pipeline.input.samples import READING, uid_of
from pipeline.models.machine import local_route
from pipeline.passes.annotate import Annotate
from pipeline.plan import Plan
from pipeline.recipe.recipe import load
from pipeline.recipe.rules import columns_read
from pipeline.recipe.settled import Settled
from pipeline.select.ledger import balanced
from pipeline.select.verdicts import counts, verdicts
from pipeline.stage import Stage
from pipeline.store.store import Store
from pipeline.store.tables import read_columns, read_facts
from pipeline.work import Facts
from tests.fuzz.mutations import Mutant, mutant
from tests.fuzz.oracle import faults

MAX_MEMORY = 2_500_000
"""kB that the process may ever have used; the models and WordNet are some 900,000 of them."""
TWICE, WITH_MODEL = 4, 50
"""One mutant in so many is done twice, one in so many goes through the model as well."""


@cache
def plan() -> Plan:
    recipe = load("sample", ())
    return Plan.of(Store("memory://fuzz"), recipe, (), Settled(local_route(wish(recipe))))


class Stages:
    """The opened stages, with and without the model; they outlive the roots that they write to."""

    def __init__(self, folder: Path) -> None:
        self._stack, self._root = ExitStack(), folder / "root"
        self._open: dict[bool, Callable[[Shard], Facts]] = {}

    def columns(self, model: bool) -> Columns:
        names = ["samples", *(stage.contract.name for stage in self._chosen(model))]
        return Columns(Store(str(self._root)), {name: f"columns/{name}@1" for name in names})

    def _chosen(self, model: bool) -> tuple[Stage, ...]:
        return tuple(stage for stage in plan().stages if model or stage.contract.name != "clip")

    def run(self, shard: Shard, model: bool) -> dict[str, Any]:
        if model not in self._open:
            work = Annotate(self.columns(model), self._chosen(model), READING)
            run = self._stack.enter_context(work.open())
            self._open[model] = lambda shard: run(work.of([shard])[0])
        shutil.rmtree(self._root, ignore_errors=True)
        return self._open[model](shard)

    def hashes(self) -> dict[str, str]:
        files = (path for path in sorted(self._root.rglob("*")) if path.is_file())
        return {path.name + path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def examined(made: Mutant, stages: Stages, folder: Path) -> dict[str, Any]:
    """{"faults": [...], "rows": n, "gaps": n} or {"refused": why}; `faults` is empty when every promise holds."""
    inputs = folder / "in"
    shutil.rmtree(inputs, ignore_errors=True)
    inputs.mkdir()
    (inputs / made.file).write_bytes(made.content)
    if made.side is not None and not made.file.endswith("parquet"):
        (inputs / made.side[0]).write_bytes(made.side[1])
    try:
        [shard] = discover([str(inputs / made.file)])
    except ShardmillError as error:
        return {"refused": str(error), "faults": []}
    model = made.seed % WITH_MODEL == WITH_MODEL - 1
    facts = stages.run(shard, model)
    found, rows = committed(shard, stages.columns(model), facts)
    found += faults(made, rows, facts["gaps"], facts["ignored"])
    if made.seed % TWICE == 0:
        before = stages.hashes()
        stages.run(shard, model)
        found += ["the same mutant gives other columns the second time"] if stages.hashes() != before else []
    found += [f"{memory()} kB of memory"] if memory() > MAX_MEMORY else []
    return {"faults": found, "rows": len(rows), "gaps": len(facts["gaps"])}


def committed(shard: Shard, columns: Columns, facts: dict[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Rule 1 and the balance; returns what is wrong and the rows as they were stored."""
    found = []
    read_now = [row for batch in read(shard) for row in batch.to_pylist()]
    tables = {name: read_columns(columns.store, folder, shard.shard_id) for name, folder in columns.folders.items()}
    uids = [uid_of(row["image"], _raw(row)) for row in read_now]
    found += [f"stage {name} has other rows than the reader" for name, table in tables.items()
              if table.column("uid").to_pylist() != uids]
    good = tables["samples"].filter(tables["samples"].column("samples_error").is_null())
    fetched = [uid_of(image, _raw(row)) for (image, _), row in zip(fetch(shard, good), good.to_pylist(), strict=True)]
    found += ["what is fetched is not what was read"] if fetched != good.column("uid").to_pylist() else []
    joined = tables["samples"]
    for table in tables.values():
        for name in table.column_names:
            joined = joined if name in joined.column_names else joined.append_column(name, table.column(name))
    given = counts(verdicts(joined, rules(frozenset(joined.column_names)), {}))
    stored = read_facts(columns.store, f"{columns.folders['samples']}/{shard.shard_id}.parquet")
    ledger = balanced({shard.shard_id: facts["rows"]}, {shard.shard_id: given}, (stored["gaps"], stored["ignored"]), ())
    if ledger.read != len(read_now) or ledger.read != ledger.kept + sum(ledger.rejected.values()) + sum(ledger.failed.values()):
        found.append("the account does not balance")
    return found, tables["samples"].to_pylist()


@cache
def rules(there: frozenset[str]) -> dict[str, Any]:
    """The sample recipe's rules over columns that are there, thresholds of the run aside."""
    given = {name: rule for name, rule in plan().recipe.filters.items() if rule.null_quantile is None}
    return {name: rule for name, rule in given.items() if set().union(*columns_read({name: rule}).values()) <= there}


def _raw(row: dict[str, Any]) -> bytes | None:
    if row["caption_raw"] is not None:
        return bytes(row["caption_raw"])
    return None if row["caption"] is None else str(row["caption"]).encode()


def main() -> None:
    faulthandler.enable()
    first, last = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        stages = Stages(Path(name))
        while first < last and memory() <= MAX_MEMORY:
            made = mutant(first)
            print(json.dumps({"seed": first, "file": made.file, "kinds": made.kinds}), flush=True)
            try:
                outcome = examined(made, stages, Path(name))
            except Exception as error:   # noqa: BLE001  whatever escapes is what is looked for
                outcome = {"faults": [f"{type(error).__name__}: {error}"[:500]]}
            print(json.dumps(outcome), flush=True)
            first += 1
    if first < last:   # a peak does not go away: the next mutant gets a new process in this one's place
        os.execv(sys.executable, [sys.executable, "-m", "tests.fuzz.child", str(first), str(last)])


def memory() -> int:
    """kB that this process has used at most."""
    # Not getrusage, which also counts what the process that started this one had.
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
