"""What the command line prints for people. Everything that comes from data is cleaned of control characters."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.curation import Result

COLUMN = 34


def clean(value: Any) -> str:
    """Text of the open web, safe for a terminal: no escape sequences, one line."""
    return "".join(c if c.isprintable() else " " for c in str(value))


def as_json(found: Any) -> str:
    """JSON in which every character that no terminal should get (C1, marks of direction) is escaped."""
    text = json.dumps(found, indent=2, ensure_ascii=False, default=str)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def line(name: str, value: Any = "", note: str = "") -> None:
    print(f"  {clean(name):<{COLUMN}} {clean(value):>12}  {clean(note)}".rstrip())


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def account(found: Mapping[str, Any]) -> None:
    read = found["read"]
    line("read", f"{read:,}")
    if found.get("kept") is not None:
        line("kept", f"{found['kept']:,}", share(found["kept"], read))
    for kind in ("rejected", "failed"):
        for reason, count in found[kind].items():
            line(f"{kind}:{reason}", f"{count:,}", share(count, read))
    for reason, count in found.get("ignored", {}).items():
        line(f"ignored:{reason}", f"{count:,}", "archive members that belong to no sample")
    for gap in found.get("gaps", []):
        missing = "" if gap.get("samples") is None else gap["samples"]
        line(f"gap:{gap['kind']}", missing, f"{gap['shard_id']}: {gap.get('detail', '')}")
    for entry in found.get("quarantined", []):
        line("quarantined", "", entry if isinstance(entry, str) else f"{entry['shard_id']}: {entry['error']}")


def result(done: Result, output: str, seconds: float) -> None:
    print(f"shardmill: {'finished before' if done.finished_before else 'finished'} in {seconds:,.1f} s")
    account(done.ledger.as_dict())
    export = done.plan.root.read_json(f"{done.plan.export}/meta.json")
    print(f"  {export['output_count']:,} samples in {export['output_shard_count']:,} shards: {output}/shards")
    print(f"  report: {output}/report.html")


def status(found: Mapping[str, Any]) -> None:
    print(f"{clean(found['root'])}: {found['state']} (recipe {clean(found['recipe'])})")
    if found["holder"] is not None:
        line("held by", found["holder"]["pid"] or "?", f"process on {found['holder']['host']}, since {found['holder']['since']}")
    account(found)
    for name, count in found["passes"].items():
        line(f"pass {name}", f"{count['done']:,} of {'?' if count['of'] is None else format(count['of'], ',')}", "shards")
    for columns in found["columns"]:
        note = megabytes(columns["bytes"]) + ("" if columns["current"] else ", of another recipe or model")
        line(f"columns {columns['name']}", f"{columns['shards']:,}", f"shards, {note}")
    if not all(columns["current"] for columns in found["columns"]):
        print(f"  shardmill gc {clean(found['root'])} --dry-run lists what this recipe does not need")


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def gc(found: Mapping[str, Any]) -> None:
    for entry in found["folders"]:
        line(entry["folder"], f"{entry['files']:,}", f"files, {megabytes(entry['bytes'])}, {entry['reason']}")
    for path in found["links"]:
        line(path, "", "a link: neither followed nor removed")
    if found.get("uploads"):
        line("unfinished uploads", f"{found['uploads']:,}", "aborted")
    done = "removed" if found["removed"] else "would be removed"
    print(f"gc: {found['files']:,} files, {megabytes(found['bytes'])} {done}")


def verify(found: Mapping[str, Any]) -> None:
    for fault in found["faults"]:
        print(f"FAULT {clean(fault)}")
    if "read" in found:
        account(found)
        line("accounted for", f"{found['accounted']:,}", share(found["accounted"], found["read"]) + " of the readable samples"
             + (f", {len(found['gaps'])} named gaps" if found["gaps"] else ""))
        if found["compared"] is not None:
            line("compared with the inputs", f"{found['compared']:,}", "samples of the output")
    print("verify: " + (f"{len(found['faults'])} faults" if found["faults"] else "ok"))


def explanation(found: list[dict[str, Any]]) -> None:
    for sample in found:
        print(f"{sample['uid']}  {clean(sample['url'])} row {sample['row']}: {sample['verdict']}")
        for check in sample["rules"]:
            mark = "pass  " if check["passes"] else "REJECT"
            says = f"{check['column']} = {clean(check['value'])}, wants {clean(check['bound'])}"
            print(f"  {mark} {check['rule']:<{COLUMN}} {says}")
        for stage, columns in sample["columns"].items():
            print(f"  {stage}")
            for name, value in columns.items():
                print(f"    {name:<{COLUMN}} {clean(value)}")
        if "labels" in sample:
            print("  labels " + ", ".join(f"{label['class_id']} ({label['weight']:.2f})" for label in sample["labels"]))


def simulation(found: Mapping[str, Any]) -> None:
    old, new = found["old"], found["new"]
    print(f"  {'':<{COLUMN}} {'now':>12} {'then':>12}")
    rows = [("kept", old["kept"], new["kept"])]
    for kind in ("rejected", "failed"):
        names = dict.fromkeys([*old[kind], *new[kind]])
        rows += [(f"{kind}:{name}", old[kind].get(name, 0), new[kind].get(name, 0)) for name in names]
    for name, before, after in rows:
        print(f"  {clean(name):<{COLUMN}} {before:>12,} {after:>12,}")


def plan(found: Mapping[str, Any]) -> None:
    for name in ("recipe", "model", "route", "shards", "input", "samples", "rate", "start", "time", "columns", "export"):
        print(f"  {name:<10} {clean(found['text'][name])}")
    for condition in found["conditions"]:
        print(f"  not checked here: {clean(condition)}")


def classes(found: list[dict[str, Any]]) -> None:
    for row in found:
        entities = ", ".join(f"{e['name']} ×{e['lift']:.1f}" for e in row["entities"][:4])
        line(f"{row['class_id']:>6} {row['name']}", f"{row['size']:,}", entities)
