"""What quality.json says of the classes, as the report shows it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.report.data import LIMITS, Confusable


def facts(quality: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value, the plainest first; nothing for a run without classes."""
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
        found = quality["agreement"]
        yield f"against {quality['reference_column']}", (
            f"AMI {found['ami']:.3f} (by chance {found['ami_by_chance']:.3f}), purity {found['purity']:.3f} (by chance "
            f"{found['purity_by_chance']:.3f}), {found['values']:,} values of {found['rows']:,} samples")
    yield "label search", _search(quality["search"])
    yield "label weights", _weights(quality["weights"])


def _stability(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "not measured"
    if found["ari"] is None:
        return f"not measured: {found['reason']}"
    return f"two fits of {found['rows']:,} samples from other seeds agree by an adjusted Rand index of {found['ari']:.3f}"


def _search(found: Mapping[str, Any]) -> str:
    if found["probes"] is None:
        return "exact"
    return f"{found['probes']} of {found['lists']:,} lists; recall {found['recall']:.4f} on {found['sample']:,} samples"


def _weights(found: Mapping[str, Any]) -> str:
    temperature = f"softmax of the cosines at temperature {found['temperature']}"
    if found.get("nll") is None:
        return temperature + (f", the default: {found['reason']}" if found.get("reason") else ", as the recipe says")
    return (f"{temperature}, calibrated: a weight is off by {found['calibration_error']:.3f} on average as the chance that the "
            f"most similar sample is nearest to that class ({found['calibration_error_default']:.3f} at 0.1)")


def confusable(quality: Mapping[str, Any], names: Mapping[int, str]) -> Sequence[Confusable]:
    """The pairs of classes most easily taken for each other; `names` by class id."""
    pairs = quality["confusable"]["pairs"] if quality.get("classes") else []
    found = []
    for pair in pairs[: LIMITS["confusable"]]:
        one, other = (names.get(id, f"class {id}") for id in pair["classes"])
        found.append(Confusable(one, other, pair["share"], pair["cosine"]))
    return found
