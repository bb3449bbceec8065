"""The JSON object of an exported sample: the original one unchanged, plus our keys, as every strict reader takes it
(`metadata.strict`)."""

from collections.abc import Mapping, Sequence

from pipeline.export.samples import Sample
from pipeline.input.metadata import carried_object, dumped, strict


def sample_json(
    sample: Sample, label_names: Mapping[int, str], added: Sequence[str] = (), with_empty: bool = False
) -> bytes:
    """The original object unchanged plus our keys, with the `added` columns among them; an original key that one of ours would
    overwrite moves to `source`. Of an original that is no object what can be read is `source`.

    Of ours, what is null or an empty list is left out, unless `with_empty`: it has no type, and a reader that infers one from the
    first samples stops at the first that has a value."""
    original = carried_object(sample.json)
    row = sample.row
    labels = row["labels"] or []
    exported = {
        "uid": row["uid"],
        "clip_similarity": round(float(row["clip_similarity"]), 6),
        "image_sha256": row["sha256"],
        "entities": [
            {"id": e["id"], "name": e["name"], "z": round(float(e["z"]), 4)} for e in row["entities"]
        ],
        "labels": labels,
        "label_weights": [round(float(w), 4) for w in row["label_weights"] or []],
        "label_names": [label_names[i] for i in labels],
        "label_levels": row["label_levels"] or [],
        **{name: strict(row[name]) for name in added},
    }
    moved = {key: original.pop(key) for key in list(original) if key in exported}
    if moved:
        held = original.get("source", {})
        mergeable = isinstance(held, dict) and not held.keys() & moved.keys()
        original["source"] = {**(held if mergeable else {"source": held}), **moved}
    if not with_empty:
        exported = {key: value for key, value in exported.items() if value is not None and value != []}
    return dumped({**original, **exported})
