"""Pairs per second of the annotate pass with one GPU, beside a bare loop over tensors in its memory and what its cores decode.

The workers are processes of this machine that each run the pass over one shard after another, as Ray's actors do; Ray itself is
not in the figure, so that it can be taken where Ray is not installed.
"""

import multiprocessing
import os
import tarfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.input.discovery import Shard, discover
from pipeline.models.machine import local_route
from pipeline.models.process import prepare_process
from pipeline.models.route import RouteWish, parse
from pipeline.models.spec import RANDOM, ModelSpec
from pipeline.models.towers import open_towers
from pipeline.passes.annotate import Annotate
from pipeline.plan import Plan
from pipeline.recipe.recipe import load
from pipeline.recipe.settled import Settled
from pipeline.store.store import Store
from tests.benchmarks.replicas import Members, decoded, readable
from tests.device.gpu import rate, watched
from tests.models.zoo import encoded, picture

SIDE, QUALITY = 512, 95


@dataclass(frozen=True)
class Size:
    workers: int
    shards: int
    rows: int
    distinct: int = 64
    """pictures"""


def pictures(seeds: Iterable[int]) -> list[bytes]:
    return [encoded(picture(SIDE, SIDE, seed), "JPEG", quality=QUALITY) for seed in seeds]


def write_shards(folder: Path, size: Size) -> None:
    """Tars of `rows` pairs with pictures of 512 pixels; one file under as many names as there are shards."""
    (folder / "shards").mkdir(parents=True)
    with multiprocessing.get_context("spawn").Pool(size.workers) as pool:
        parts = pool.map(pictures, np.array_split(np.arange(size.distinct), size.workers))
    images = [data for part in parts for data in part]
    captions = [caption for _, caption in readable()]
    samples: list[Members] = [
        {"jpg": images[row % len(images)], "txt": captions[row % len(captions)].encode()} for row in range(size.rows)
    ]
    first = folder / "first.tar"
    with tarfile.open(first, "w") as archive:
        import io

        for row, members in enumerate(samples):
            for extension, content in members.items():
                info = tarfile.TarInfo(f"{row:06d}.{extension}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    for number in range(size.shards + size.workers):
        os.link(first, folder / "shards" / f"{number:05d}.tar")


def work_of(root: Path, shards: Sequence[Shard], model: str, route: str, overrides: Sequence[str] = ()) -> Annotate:
    settings = ["filters={}", f"model.name={model}", *([] if model.startswith("bundled") else [f"model.pretrained={RANDOM}"])]
    recipe = load("sample", [*settings, *overrides])
    plan = Plan.of(Store(str(root)), recipe, shards, Settled(route))
    return Annotate(plan.columns, plan.stages, plan.recipe.reading)


def worker(work: Annotate, warm: Shard, jobs: Any, barrier: Any, told: Any) -> None:
    with work.open() as run:
        run(work.of([warm])[0])
        barrier.wait()
        rows, began, cpu = 0, time.time(), time.process_time()
        while (shard := jobs.get()) is not None:
            rows += run(work.of([shard])[0])["rows"]
        told.put((rows, began, time.time(), time.process_time() - cpu))


def passed(work: Annotate, shards: Sequence[Shard], workers: int) -> dict[str, Any]:
    """The pass over the shards by so many processes; the first ones are for warming up."""
    context = multiprocessing.get_context("spawn")
    jobs, told, barrier = context.Queue(), context.Queue(), context.Barrier(workers)
    warm, rest = shards[:workers], shards[workers:]
    for shard in [*rest, *[None] * workers]:
        jobs.put(shard)
    crew = [context.Process(target=worker, args=(work, first, jobs, barrier, told)) for first in warm]
    opened = time.time()
    for process in crew:
        process.start()
    found = []
    with watched() as busy:
        first = told.get()
        found.append(first)
        found += [told.get() for _ in crew[1:]]
    for process in crew:
        process.join()
    rows, seconds = sum(f[0] for f in found), max(f[2] for f in found) - min(f[1] for f in found)
    steady = [sample for sample in busy.samples if sample is not None][-int(10 * seconds):]
    return {
        "pairs_per_s": rows / seconds, "seconds": seconds, "rows": rows, "start_s": min(f[1] for f in found) - opened,
        "gpu_busy_percent": sum(steady) / len(steady) if steady else None,
        "processor_ms_per_pair": 1000 * sum(f[3] for f in found) / rows,
        "processors_busy": sum(f[3] for f in found) / seconds,
    }


def bare(model: str, route: str, seconds: float = 4.0) -> dict[str, Any]:
    """Both towers over normalised tensors in the device's memory, batch after batch, in one process that does nothing else."""
    from pipeline.models.towers import arithmetic

    prepare_process()
    where = parse(route)
    towers = open_towers(ModelSpec(model, None if model.startswith("bundled") else RANDOM), where, where.micro_batch)
    pixels = torch.randn(where.micro_batch, 3, *towers.transform.size, device=where.device)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    tokens = towers.tokenizer(["a photo of a dog"] * where.micro_batch).to(where.device)
    with torch.inference_mode(), arithmetic(where), watched() as busy:
        def both() -> None:
            towers.image(pixels)
            towers.text(tokens)

        found = rate(both, where.micro_batch, seconds)
        images = rate(lambda: towers.image(pixels), where.micro_batch, seconds / 2)
    return {"pairs_per_s": found, "images_per_s": images, "gpu_busy_percent": busy.percent}


def bare_pure(model: str, micro_batch: int = 256, seconds: float = 4.0) -> dict[str, Any]:
    """The same with open_clip's own model in pure bf16, weights and all: the fastest that it offers."""
    import open_clip

    net = open_clip.create_model(model, precision="pure_bf16", device="cuda").eval()
    size = net.visual.image_size[0] if isinstance(net.visual.image_size, tuple) else net.visual.image_size
    pixels = torch.randn(micro_batch, 3, size, size, device="cuda", dtype=torch.bfloat16)
    tokens = open_clip.get_tokenizer(model)(["a photo of a dog"] * micro_batch).to("cuda")
    with torch.inference_mode():
        def both() -> None:
            net.encode_image(pixels, normalize=True)
            net.encode_text(tokens, normalize=True)

        return {"pairs_per_s": rate(both, micro_batch, seconds),
                "images_per_s": rate(lambda: net.encode_image(pixels, normalize=True), micro_batch, seconds / 2)}


def decode_all(data: list[bytes], seconds: float, size: int) -> float:
    from pipeline.models.preprocess import Preprocess

    prepare_process()
    transform = Preprocess((size, size), "shortest", "bicubic", 0, (0.5,) * 3, (0.5,) * 3)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for one in data:
            transform([decoded(one).pixels])
        count += len(data)
    return count / (time.perf_counter() - began)


def decoding(workers: int, seconds: float = 4.0, size: int = 224) -> dict[str, float]:
    """Pictures that the processor's cores decode and resize when they do nothing else."""
    data = pictures(range(8))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.starmap(decode_all, [(data, 0.5, size)] * workers)
        found = pool.starmap(decode_all, [(data, seconds, size)] * workers)
        one = pool.starmap(decode_all, [(data, seconds / 2, size)])
    return {"images_per_s": sum(found), "one_core_alone": one[0], "cores": workers}


def beside(folder: Path, model: str, device: str, size: Size, workers: Sequence[int], precision: str = "bf16") -> dict[str, Any]:
    route = local_route(RouteWish(precision, device))  # type: ignore[arg-type]
    found: dict[str, Any] = {"route": route, "bare": bare(model, route, 4.0 if device == "cuda" else 0.5)}
    if device == "cuda" and not model.startswith("bundled"):
        found["bare, pure bf16"] = bare_pure(model)
    torch.cuda.empty_cache()
    shards = discover([str(folder / "shards")])
    for count in workers:
        root = folder / f"root-{model.replace(':', '_')}-{precision}-{count}"
        found[f"annotate, {count} workers"] = passed(work_of(root, shards, model, route), shards[: size.shards + count], count)
    best = max(found[f"annotate, {count} workers"]["pairs_per_s"] for count in workers)
    found["ratio to the bare loop"] = best / found["bare"]["pairs_per_s"]
    return found
