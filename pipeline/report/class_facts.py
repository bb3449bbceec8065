"""What quality.json says of the classes, as the report shows it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.report.data import LIMITS, Confusable


def class_facts(quality: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of each fact in quality.json, the plainest first; nothing for a run without classes."""
    if not quality.get("classes"):
        return
    sizes, within, between = quality["sizes"], quality["within"], quality["between"]
    yield "sizes", (f"{sizes['min']:,} to {sizes['max']:,} samples, median {sizes['quantiles']['0.5']:,.0f}; imbalance "
                    f"{sizes['imbalance']:.2f} (1: all alike)")
    yield "within", f"mean cosine of a sample to its centre {within['mean']:.3f}"
    if between["mean"] is not None:
        yield "between", f"mean cosine of a centre to the nearest other {between['mean']:.3f}"
    yield "stability", _stability(quality["stability"])
    if quality["agreement"] is not None:
        agreement = quality["agreement"]
        yield f"against {quality['reference_column']}", (
            f"AMI {agreement['ami']:.3f} (by chance {agreement['ami_by_chance']:.3f}), purity {agreement['purity']:.3f} (by chance "
            f"{agreement['purity_by_chance']:.3f}), {agreement['values']:,} values of {agreement['rows']:,} samples")
    yield "label search", _search(quality["search"])
    yield "label weights", _weights(quality["weights"])


def _stability(stability: Mapping[str, Any] | None) -> str:
    if stability is None:
        return "not measured"
    if stability["ari"] is None:
        return f"not measured: {stability['reason']}"
    return f"two fits of {stability['rows']:,} samples from other seeds agree by an adjusted Rand index of {stability['ari']:.3f}"


def _search(search: Mapping[str, Any]) -> str:
    if search["probes"] is None:
        return "exact"
    return f"{search['probes']} of {search['lists']:,} lists; recall {search['recall']:.4f} on {search['sample']:,} samples"


def _weights(weights: Mapping[str, Any]) -> str:
    temperature = f"softmax of the cosines at temperature {weights['temperature']}"
    if weights.get("nll") is None:
        return temperature + (f", the default: {weights['reason']}" if weights.get("reason") else ", as the recipe says")
    return (f"{temperature}, calibrated: a weight is off by {weights['calibration_error']:.3f} on average as the chance that the "
            f"most similar sample is nearest to that class ({weights['calibration_error_default']:.3f} at 0.1)")


def confusable(quality: Mapping[str, Any], names: Mapping[int, str]) -> Sequence[Confusable]:
    """The pairs of classes most easily taken for each other; `names` by class id."""
    pairs = quality["confusable"]["pairs"] if quality.get("classes") else []
    rows = []
    for pair in pairs[: LIMITS["confusable"]]:
        name, other = (names.get(id, f"class {id}") for id in pair["classes"])
        rows.append(Confusable(name, other, pair["share"], pair["cosine"]))
    return rows
