"""`python -m tests.benchmarks [--only NAME] [--quick] [--json FILE]`: measures this machine and prints one table.

Run it on a machine that does nothing else; it takes half an hour on 2 cores, and ten minutes more the first time, for embeddings
that are kept in the folder for temporary files. Exit code 1: a bound is not met.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from pipeline.distributed.connection.connection import connected
from pipeline.models.process import prepare_process
from pipeline.models.spec import RANDOM, ModelSpec
from tests.benchmarks import (
    changed_stage,
    clustering,
    corrupt,
    end_to_end,
    indexes,
    looking,
    many_shards,
    model_step,
    near_duplicates,
    nearest_centres,
    serving,
    store_requests,
    tiny_shards,
    where_time_goes,
)
from tests.benchmarks.figures import ROUNDS, Figure, isa, machine, table, write_json

VIT = "ViT-B-32"
VIT_OVERRIDES = (f"model.name={VIT}", f"model.pretrained={RANDOM}", "filters={}")


def benchmarks(quick: bool) -> dict[str, tuple[str, Callable[[], list[Figure]]]]:
    """Name -> (title, measurement)."""
    rounds = 1 if quick else ROUNDS
    size = end_to_end.Size(2, 128, 64) if quick else end_to_end.Size(10, 2_070, 414)
    vit_size = end_to_end.Size(2, 32, 16) if quick else end_to_end.Size(4, 128, 32)
    corrupt_size = end_to_end.Size(2, 128, 64) if quick else end_to_end.Size(6, 1_656, 414)
    rows = 64 if quick else 800
    return {
        "towers": ("Model step, bundled model, one thread", lambda: model_step.towers(ModelSpec(), rows, isa(1.6, 1.3), rounds)),
        "towers-vit": (
            f"Model step, {VIT} with random weights, one thread",
            lambda: model_step.towers(ModelSpec(VIT, RANDOM), 16 if quick else 128, isa(1.6, 1.3), rounds),
        ),
        "decode": (
            "Decode + preprocess, the sample's pictures, one thread",
            lambda: model_step.decoding(model_step.sample_pictures(rows), 2.0, rounds),
        ),
        "decode-photos": (
            "Decode + preprocess, photographs of 500 x 375, one thread",
            lambda: model_step.decoding(model_step.photos(16 if quick else 256), 2.0, rounds),
        ),
        "matcher": ("Captions, one thread", lambda: where_time_goes.matcher(rounds)),
        "names": ("Names that spaCy finds, bundled sample, one thread", lambda: where_time_goes.names(rounds)),
        "profile": (
            "Where the time goes, one process, one thread", lambda: where_time_goes.profile(128 if quick else 2_070, rounds),
        ),
        "end-to-end": ("End to end, bundled model, 2 actors", lambda: with_ray(size, (), end_to_end.Bounds(0.80, 2.0), rounds)),
        "end-to-end-vit": (
            f"End to end, {VIT} with random weights, 2 actors",
            lambda: with_ray(vit_size, VIT_OVERRIDES, end_to_end.Bounds(0.95), rounds),
        ),
        "many-shards": (
            "The driver, shards of empty work, 2 actors", lambda: many_shards.measure(2_000 if quick else 100_000),
        ),
        "tiny-shards": ("A run over shards of one sample, one process", lambda: tiny_shards.measure(200 if quick else 4_000)),
        "corrupt": (
            "Annotate with 1 % corrupt samples, bundled model, 2 actors",
            lambda: on_ray(lambda: corrupt.measure(corrupt_size, 2 if quick else 4)),
        ),
        "near-duplicates": (
            "Near duplicates, planted among blends of the sample's pictures, one thread",
            lambda: near_duplicates.measure(200_000 if quick else 10_000_000),
        ),
        "changed-stage": ("Another setting of one stage, bundled sample", lambda: changed_stage.measure(1 if quick else rounds)),
        "store-requests": ("Requests to an S3 store, bundled sample, one process", store_requests.measure),
        "nearest": (
            "Nearest centres, all threads",
            lambda: nearest_centres.measure(*((2_048, 256, 2_000) if quick else (65_536, 4_096, 65_536)), rounds),
        ),
        "index": (
            "An inverted file of vectors of 512 values, planted, one thread",
            lambda: indexes.measure(20_000 if quick else 1_000_000),
        ),
        "looking": (
            "A root looked at without an index, and its map, one thread",
            lambda: looking.measure(*((20_000, 2_000) if quick else (1_000_000, 100_000))),
        ),
        "serving": (
            "The service beside the bare FAISS call, all threads",
            lambda: serving.measure(*((20_000, 1.0) if quick else (1_000_000, 20.0))),
        ),
        "clustering": ("Spherical k-means, 2 threads", lambda: [
            *clustering.measure(quick, rounds), *on_ray(lambda: clustering.on_actors(quick, rounds)),
        ]),
    }


def with_ray(size: end_to_end.Size, overrides: tuple[str, ...], bounds: end_to_end.Bounds, rounds: int) -> list[Figure]:
    return on_ray(lambda: end_to_end.measure(size, overrides, bounds, rounds))


def on_ray(measurement: Callable[[], list[Figure]]) -> list[Figure]:
    with connected(None, end_to_end.WORKERS):
        return measurement()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    known = benchmarks(quick=True)
    parser.add_argument("--only", action="append", choices=list(known), help="one of the benchmarks; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: shows that it runs, measures nothing")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    prepare_process()
    about, groups = machine(), {}
    for name, (title, measurement) in benchmarks(chosen.quick).items():
        if chosen.only is None or name in chosen.only:
            print(f"{name} ...", file=sys.stderr, flush=True)
            groups[title] = measurement()
    print(table(groups, about))
    if chosen.json is not None:
        write_json(chosen.json, groups, about)
    missed = any(figure.met is False for figures in groups.values() for figure in figures)
    return int(missed and not chosen.quick)


if __name__ == "__main__":
    sys.exit(main())
