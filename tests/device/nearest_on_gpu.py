"""Nearest centres and a pass of k-means on a GPU: first that the bits are the CPU's, then how fast they come.

Run on a machine that has one: `python -m tests.device.nearest_on_gpu`. `measure(device="cpu", tiny=True)` goes through all of
it anywhere. A part that fails says so in its own entry and leaves the others alone.
"""

import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import faiss
import numpy as np
import torch

from pipeline.models.matrices.device_centres import GROUP, PRODUCT_BYTES, DeviceMatrix, add_in_full
from pipeline.models.matrices.device_ranking import ranked
from pipeline.models.matrices.device_rows import DeviceRows
from pipeline.reduce.kmeans.device import Accelerator
from pipeline.reduce.kmeans.owner import Owner
from pipeline.reduce.kmeans.partition import ArrayBlock, Partition, RowSample, exact
from pipeline.search.device_centres import DeviceCentres
from pipeline.search.kernels import FlatCentres, GpuCentres, kernel, use_device
from pipeline.search.nearest import assigned, assigned_near, nearest
from tests.reduce.hard_rows import CASES

ROUNDS = 3
LABELS = 8
KEPT = 3 << 30
ALL = RowSample(0)


def measure(device: str = "cuda", *, tiny: bool = False) -> dict[str, Any]:
    """Everything, JSON-able."""
    found: dict[str, Any] = {"device": device, "torch": torch.__version__}
    n = 500 if tiny else 20_000
    for d in (24,) if tiny else (96, 512, 768):
        for case in CASES:
            _part(found, f"same bits, {case}, d = {d}", partial(same, device, case, n, d, 200 if tiny else 4096))
    sizes = [(3000, 24, 300), (2000, 40, 500)] if tiny else [(1_000_000, 512, 16_384), (500_000, 768, 65_536)]
    for size, noise in zip(sizes, (1, 6), strict=True):
        name = "{:,} x {} x {:,}".format(*size)
        kind = "rows near their centre" if noise == 1 else "rows near none"
        _part(found, f"iteration, {kind}, {name}", partial(iteration, device, *size, noise))
        _part(found, f"float32 search in torch (stands in for faiss-gpu's flat, is not it), top-1, {name}",
              partial(stand_in, device, *size, 1))
    size = (1000, 40, 500) if tiny else (262_144, 768, 65_536)
    name = "{:,} x {} x {:,}".format(*size)
    _part(found, f"top-8, {name}", lambda: labels(device, *size))
    _part(found, f"float32 search in torch (stands in for faiss-gpu's flat, is not it), top-8, {name}",
          lambda: stand_in(device, *size, LABELS))
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0:
        _part(found, f"faiss-gpu flat, top-8, {name}", lambda: faiss_flat(device, *size))
    _part(found, "kernel of a process that was given the device", lambda: {"kernel": given(device)})
    if device != "cpu":
        found["gpu"] = torch.cuda.get_device_name()
        found["most memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def _part(found: dict[str, Any], name: str, work: Callable[[], dict[str, Any]]) -> None:
    started = time.monotonic()
    try:
        found[name] = work()
    except Exception:   # noqa: BLE001 (one part must not take the others with it)
        found[name] = {"failed": traceback.format_exc()}
    found[name]["took, s"] = round(time.monotonic() - started, 2)
    print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def same(device: str, case: str, n: int, d: int, k: int) -> dict[str, Any]:
    """Fewer rows where many tie: those take the CPU long."""
    x, centres = CASES[case](n if case == "random" else n // 5, d, k)
    few = x[: max(50, n // 50)]
    flat, there = kernel()(centres), DeviceCentres(centres, device)
    expected, found = nearest(few, flat, LABELS), nearest(few, there, LABELS)
    lists = nearest(centres[: k // 8], flat, 16)[0]
    lists = np.concatenate([lists] * 8)[:k]
    previous = np.random.default_rng(3).integers(0, len(lists), len(few)).astype(np.int32)
    stored = x.astype(np.float16)
    here, away = Partition([ArrayBlock(stored)]), Partition([ArrayBlock(stored)], accelerator=Accelerator(device, KEPT))
    wanted = here.assign(exact(flat), k, ALL)
    passes = []
    assert here.assignment is not None
    for changed in (len(x), 0):
        got = away.assign(exact(there), k, ALL)
        assert away.assignment is not None
        passes.append({
            "assignment": bool(np.array_equal(here.assignment, away.assignment)), "changed": got[1:] == (changed, len(x)),
            "counts": bool(np.array_equal(got[0].counts, wanted[0].counts)),
            "sums": bool(np.array_equal(got[0].vectors, wanted[0].vectors)),
            "reciprocals": bool(np.array_equal(here.reciprocal, away.reciprocal)),
        })
    return {
        "ids": bool(np.array_equal(found[0], expected[0])), "values": bool(np.array_equal(found[1], expected[1])),
        "assigned": bool(np.array_equal(assigned(few, there), assigned(few, flat))),
        "near": bool(np.array_equal(assigned_near(few, there, lists, previous), assigned_near(few, flat, lists, previous))),
        "passes": passes, "product off by at most, of what is allowed": off(there.matrix, few),
    }


def off(matrix: DeviceMatrix, few: np.ndarray) -> float:
    """How near the half-precision products come to their bound."""
    x = torch.tensor(few[:1000], device=matrix.device)
    rough = matrix.half_rows(x)
    products = matrix.products(rough.half, 0)[:, : len(matrix)].double()
    true = x.double() @ matrix.vectors[: products.shape[1]].double().T
    factor = (rough.half.double().norm(dim=1) / x.double().norm(dim=1)).log2().round().exp2()
    true *= factor[:, None] * matrix.scale
    return float((2 * (products - true).abs().amax(1) / rough.margin_for(products.abs().amax(1)).double()).max())


def planted(n: int, d: int, k: int, device: str, noise: float = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows f16[n, d] around centres f32[k, d], at a cosine of about 0.7 to their own, or 0.16 with a noise of 6."""
    generator = torch.Generator(device=device).manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn((k, d), generator=generator, device=device))
    rows = torch.empty((n, d), dtype=torch.float16, device=device)
    for at in range(0, n, 65_536):
        some = rows[at : at + 65_536]
        own = centres[torch.randint(0, k, (len(some),), generator=generator, device=device)]
        own += torch.randn(own.shape, generator=generator, device=device) * (noise / d**0.5)
        some.copy_(torch.nn.functional.normalize(own))
    return rows, centres


def seconds(device: str, work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Median of a few, after one more."""
    taken = []
    for _ in range(rounds + 1):
        started = clock(device)
        work()
        taken.append(clock(device) - started)
    return statistics.median(taken[1:])


def clock(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def iteration(device: str, n: int, d: int, k: int, noise: float) -> dict[str, Any]:
    """An exact pass as an actor makes it, centres new each time; and its steps by themselves."""
    rows, placed = planted(n, d, k, device, noise)
    stored, centres = rows.cpu().numpy(), placed.cpu().numpy()
    del rows, placed
    one = Partition([ArrayBlock(stored)], accelerator=Accelerator(device, KEPT))
    started = clock(device)
    sums = one.assign(exact(DeviceCentres(centres, device)), k, ALL)[0]
    first = clock(device) - started
    found: dict[str, Any] = {"first pass, rows sent and measured, s": first}
    found["pass, s"] = seconds(device, lambda: one.assign(exact(DeviceCentres(centres, device)), k, ALL))
    sent = Partition([ArrayBlock(stored)], accelerator=Accelerator(device, 0))
    found["pass, rows sent again, s"] = seconds(device, lambda: sent.assign(exact(DeviceCentres(centres, device)), k, ALL), 1)
    owner = Owner(0, k)
    owner.begin(0, centres)
    started = time.perf_counter()
    owner.add(0, 0, sums)
    owner.counted(1)
    owner.updated(np.empty(0, np.int64), None)
    found["owner's part, one CPU thread, s"] = time.perf_counter() - started
    found |= steps(device, stored, centres, sums.counts)
    found["TFLOP/s of the pass"] = 2 * n * d * k / found["pass, s"] / 1e12
    return found


def steps(device: str, stored: np.ndarray, centres: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """Of a pass, on one window of rows, for all rows."""
    accelerator = Accelerator(device, 0)
    one = Partition([ArrayBlock(stored)], accelerator=accelerator)
    windows = accelerator.windows(one, ALL)
    rows = next(windows)[1]
    del windows
    assert isinstance(rows, DeviceRows)
    times, matrix, x = len(stored) / len(rows), DeviceMatrix.of(centres, device), rows.x
    found = {"making centres ready, s": seconds(device, lambda: DeviceMatrix.of(centres, device))}
    ids = matrix.assigned(x).long()
    sums = accelerator.sums(len(centres), x.shape[1])
    found["assign, s"] = times * seconds(device, lambda: matrix.assigned(x))
    found["add up, s"] = times * seconds(device, lambda: sums.held.add(x, ids))
    found["sums to the CPU, s"] = seconds(device, sums.added)
    halves = [(part, rough) for part, rough in matrix.blocks(x)]
    found["rounding rows, s"] = times * seconds(device, lambda: [None for _ in matrix.blocks(x)])
    found["leaders, s"] = times * seconds(device, lambda: [matrix.leaders(rough.half) for _, rough in halves])
    found["half-precision product alone (the ceiling), s"] = times * seconds(device, lambda: [
        torch.mm(rough.half, tile.T) if device != "cpu" else rough.half.float() @ tile.float().T
        for _, rough in halves for tile in matrix.tiles])
    some = matrix.products(halves[0][1].half, 0)
    parts, shape = len(stored) / len(some) * len(matrix.tiles), (len(some), -1, GROUP)
    found["group maxima, s"] = parts * seconds(device, lambda: some.view(len(some), GROUP, -1).amax(1))
    found["group maxima of neighbours instead, s"] = parts * seconds(device, lambda: some.view(shape).amax(2))
    most = some.view(len(some), GROUP, -1).amax(1)
    found["8 groups of all, s"] = parts * seconds(device, lambda: most.topk(min(8, most.shape[1]), dim=1, sorted=False))
    close = sum(float((first - second <= rough.margin_for(first)).sum())
                for _, rough in halves for _, first, second in [matrix.leaders(rough.half)])
    found["share of rows that are measured"] = close / len(x)
    near = torch.randint(0, len(centres), (len(centres), min(48, len(centres))), device=device)
    found["near pass, 48 neighbours, s"] = times * seconds(device, lambda: matrix.near(x, near, ids))
    return found


def labels(device: str, n: int, d: int, k: int) -> dict[str, Any]:
    """The top-8 as labelling asks for it: rows from the CPU, ids and values back."""
    rows, placed = planted(n, d, k, device)
    ready = DeviceCentres(placed.cpu().numpy(), device)
    x = torch.nn.functional.normalize(rows.float())
    found: dict[str, Any] = {"rows on the device, s": seconds(device, lambda: ready.matrix.nearest(x, LABELS))}
    host = x.cpu().numpy()
    found["rows from the CPU and answers back, s"] = seconds(device, lambda: nearest(host, ready, LABELS), 1)
    halves = [rough for _, rough in ready.matrix.blocks(x[:65_536])]
    times = n / min(n, 65_536)
    ids = torch.randint(0, k, (min(n, 65_536), LABELS), device=device)
    every = torch.ones(ids.shape, dtype=torch.bool, device=device)
    reach = torch.ones(len(ids), device=device)
    found["ranking 8 of each row, s"] = times * seconds(
        device, lambda: ranked(x[: len(ids)], ready.matrix.vectors, ids, every, reach, LABELS))
    found["proposing, s"] = times * seconds(device, lambda: [ready.matrix.candidates(rough.half, LABELS + 8) for rough in halves])
    found["TFLOP/s"] = 2 * n * d * k / found["rows on the device, s"] / 1e12
    some = np.random.default_rng(0).integers(0, n, 20 if device == "cpu" else 500)
    expected, got = nearest(host[some], FlatCentres(ready.vectors), LABELS), nearest(host[some], ready, LABELS)
    found["same bits on 500 rows"] = bool(np.array_equal(expected[0], got[0]) and np.array_equal(expected[1], got[1]))
    return found


def stand_in(device: str, n: int, d: int, k: int, m: int) -> dict[str, Any]:
    """float32 products without TF32, a tile at a time, and torch's selection: what a flat search in float32 has to do."""
    rows, centres = planted(n, d, k, device)
    add_in_full(centres.device)
    step = max(1, PRODUCT_BYTES // (4 * k))
    some = min(n, 8 * step)   # of the rows, for all of them: it is slow

    def search() -> None:
        for at in range(0, some, step):
            products = rows[at : min(at + step, some)].float() @ centres.T
            if m == 1:
                products.max(1)
            else:
                products.topk(m, dim=1)

    taken = n / some * seconds(device, search, 1)
    return {"s": taken, "TFLOP/s": 2 * n * d * k / taken / 1e12, "rows measured": some}


def faiss_flat(device: str, n: int, d: int, k: int) -> dict[str, Any]:
    rows, placed = planted(n, d, k, device)
    ready, x = GpuCentres(placed.cpu().numpy()), rows.float().cpu().numpy()
    return {"s": seconds(device, lambda: ready.candidates(x, LABELS), 1)}


def given(device: str) -> str:
    try:
        return f"{use_device(device)}: {kernel()}"
    finally:
        use_device(None)


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:2]), indent=1))
