"""What the command line prints for people. Everything that comes from data is cleaned of control characters."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.bottleneck import LEAST, word
from pipeline.curation import Result

COLUMN = 34
PURPOSE = {"read": "waiting for the reader", "write": "committing", "wait": "for each other", "other": "computing of no stage"}


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
    if found.get("balance"):
        line("exported", f"{found['balance']['output_count']:,}", balanced(found["balance"]))
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


def balanced(drawn: Mapping[str, int]) -> str:
    return f"balanced over the classes: {drawn['left_out']:,} of the kept are left out, {drawn['repeats']:,} are repeats"


def result(done: Result, output: str, seconds: float) -> None:
    print(f"shardmill: {'finished before' if done.finished_before else 'finished'} in {seconds:,.1f} s")
    export = done.plan.root.read_json(f"{done.plan.export}/meta.json")
    account({**done.ledger.as_dict(), "balance": done.plan.balance and export})
    print(f"  {export['output_count']:,} samples in {export['output_shard_count']:,} shards: {output}/shards")
    print(f"  report: {output}/report.html")


def status(found: Mapping[str, Any]) -> None:
    print(f"{clean(found['root'])}: {found['state']} (recipe {clean(found['recipe'])})")
    if found["holder"] is not None:
        line("held by", found["holder"]["pid"] or "?", f"process on {found['holder']['host']}, since {found['holder']['since']}")
    account(found)
    for name, count in found["passes"].items():
        line(f"pass {name}", f"{count['done']:,} of {'?' if count['of'] is None else format(count['of'], ',')}", "shards")
    time_spent(found["time"])
    for columns in found["columns"]:
        note = megabytes(columns["bytes"]) + ("" if columns["current"] else ", of another recipe or model")
        line(f"columns {columns['name']}", f"{columns['shards']:,}", f"shards, {note}")
    if not all(columns["current"] for columns in found["columns"]):
        print(f"  shardmill gc {clean(found['root'])} --dry-run lists what this recipe does not need")


def time_spent(found: list[dict[str, Any]]) -> None:
    """Of the pass at work; when none is, of the one that took most."""
    told = [one for one in found if one["at_work"]] or sorted(found, key=lambda one: -one["thread_seconds"])[:1]
    for one in told:
        if not one["shares"]:
            line(f"time {one['pass']}", "", "at work; no shard is done yet")
        for activity, part in one["shares"].items():
            if part >= LEAST:
                line(f"time {one['pass']}: {word(activity)}", f"{100 * part:.1f} %", PURPOSE.get(activity, ""))
        if one["gpu_busy"] is not None:
            line(f"time {one['pass']}: GPU busy", f"{100 * one['gpu_busy']:.1f} %")
        if one["advice"]:
            print(f"  {clean(one['advice'])}")


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
    for name in ("recipe", "model", "route", "precision", "shards", "input", "samples", "rate", "start", "time", "columns",
                 "export", "classes", "work", "memory", "wire", "fit", "refused"):
        if name in found["text"]:
            print(f"  {name:<10} {clean(found['text'][name])}")
    for condition in found["conditions"]:
        print(f"  not checked here: {clean(condition)}")


def classes(found: list[dict[str, Any]]) -> None:
    for row in found:
        entities = ", ".join(f"{e['name']} ×{e['lift']:.1f}" for e in row["entities"][:4])
        line(f"{row['class_id']:>6} {row['name']}", f"{row['size']:,}", entities)


def one_class(found: Mapping[str, Any]) -> None:
    sure = "no entity stands out: the name is only a handle" if not found["named"] else f"confidence {found['confidence']:.2f}"
    print(f"{found['class_id']} {clean(found['name'])} ({sure})")
    line("samples", f"{found['size']:,}")
    if found["mean_similarity"] is not None:
        line("mean similarity to the centroid", f"{found['mean_similarity']:.3f}")
    if found["parent"] is not None:
        line("parent", found["parent"], found["parent_name"])
    for child in found["children"]:
        line("below it", child["class_id"], f"{child['name']} ({child['size']:,})")
    for entity in found["entities"]:
        says = f"{100 * entity['share']:.0f} % of its samples, ×{entity['lift']:.1f}, confidence {entity['confidence']:.2f}"
        line(f"entity {entity['id']}", "", f"{entity['name']}: {says}")
    for pair in found["confusable"]:
        line("easily taken for", pair["class_id"], f"{pair['name']} (cosine {pair['cosine']:.3f})")
    for kind, title in (("exemplars", "nearest"), ("outliers", "farthest")):
        for one in found[kind]:
            line(title, f"{one['similarity']:.3f}", f"{one['shard_id']} row {one['row']}")


def comparison(found: Mapping[str, Any]) -> None:
    line("classes matched", f"{found['matched']:,}")
    line("samples in both", f"{found['common_samples']:,}")
    for name in ("ari", "ami"):
        if found[name] is not None:
            line(f"{name.upper()} over them", f"{found[name]:.3f}", "1: the same classes, 0: no more than chance")
    for row in found["classes"]:
        one, other = (_side(row[id], row[size]) for id, size in (("class_id", "size"), ("other_id", "other_size")))
        measures = [f"{name} {row[name]:.3f}" for name in ("cosine", "overlap") if row[name] is not None]
        line(f"{one:>16} = {other}", "", ", ".join(measures) or "no partner")


def _side(class_id: int | None, size: int | None) -> str:
    return "-" if class_id is None else f"{class_id} ({size:,})"


def suggestion(found: Mapping[str, Any]) -> None:
    advice = found["advice"]
    print(f"  {'k':>8} {'stability':>20} {'by chance':>10} {'evidence':>10} {'by chance':>10}   of {advice['rows']:,} samples")
    for one in advice["judged"]:
        stability = f"{one['stability']:.3f} ± {one['spread']:.3f}"
        print(f"  {one['k']:>8,} {stability:>20} {one['stability_by_chance']:>10.3f} {one['evidence']:>10.3f} "
              f"{one['evidence_by_chance']:>10.3f}")
    print(f"advice: {advice['k'] or 'no number stands out'}" + (f", between {advice['between'][0]} and {advice['between'][1]}"
                                                               if advice["between"] else "") + f". {advice['reason']}")
    if found["estimate"]:
        guess = found["estimate"]
        print(f"estimate from {clean(found['reference_column'])}: {guess['k']} classes, {guess['known']} known and "
              f"{guess['new']} new, of {guess['rows']:,} samples. {clean(guess['reason'])}")
