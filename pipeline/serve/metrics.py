"""Counts and clocks of a service, as Prometheus reads them. The summaries have the names of clip-retrieval's, so that its
dashboards go on working."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

SUMMARIES = {
    "full_knn_request_time": "Time spent processing a knn request",
    "download_time": "Time spent downloading a picture",
    "text_clip_inference_time": "Time spent doing a text clip inference",
    "image_clip_inference_time": "Time spent doing an image clip inference",
    "metadata_get_time": "Time spent retrieving metadata",
    "knn_index_time": "Time spent doing a knn on the index",
    "deduplication_time": "Time spent removing near duplicates of an answer",
    "safety_time": "Time spent leaving out unsafe samples",
    "image_prepro_time": "Time spent preparing a picture",
    "text_prepro_time": "Time spent preparing a text",
}
"""Seconds."""
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Metrics:
    """Those of one application; nothing is shared with another one in the same process."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)
    """by route and status"""
    seconds: Histogram = field(init=False)
    """by route"""
    in_work: Gauge = field(init=False)
    batches: Histogram = field(init=False)
    """queries of a batch, by what they ask"""
    publications: Counter = field(init=False)
    """taken over from a root, by root"""
    summaries: dict[str, Summary] = field(init=False)

    def __post_init__(self) -> None:
        kept = object.__setattr__
        kept(self, "requests", Counter("shardmill_requests", "Requests", ["route", "status"], registry=self.registry))
        kept(self, "seconds", Histogram(
            "shardmill_request_seconds", "Seconds of a request", ["route"], registry=self.registry, buckets=BUCKETS))
        kept(self, "in_work", Gauge("shardmill_requests_in_work", "Requests in work", registry=self.registry))
        kept(self, "batches", Histogram(
            "shardmill_batch_queries", "Queries answered together", ["of"], registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64)))
        kept(self, "publications", Counter(
            "shardmill_publications", "Publications of a root taken over while serving", ["root"], registry=self.registry))
        kept(self, "summaries", {name: Summary(name, said, registry=self.registry) for name, said in SUMMARIES.items()})

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Adds the seconds of its block to one of SUMMARIES."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.summaries[name].observe(time.monotonic() - began)

    def text(self) -> bytes:
        """What Prometheus reads."""
        return bytes(generate_latest(self.registry))

    def summary(self) -> str:
        """The summaries as a table for people: name, count, mean seconds."""
        rows = [("name", "calls", "average (s)")]
        for name, summary in self.summaries.items():
            values = {sample.name: sample.value for family in summary.collect() for sample in family.samples}
            count = values[f"{name}_count"]
            rows.append((name, f"{count:.0f}", f"{values[f'{name}_sum'] / count:.4f}" if count else "-"))
        return "".join(f"{name:<28} {calls:>10} {mean:>12}\n" for name, calls, mean in rows)
