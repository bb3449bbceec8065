"""One tower at work on a device: inputs go there, are computed and come back while the next ones are already on their way."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.models.device.lanes import Slot, Start, no_wait
from pipeline.models.route import Route

log = logging.getLogger(__name__)

SLOTS = 4
"""Batches at once, of each tower: one is computed, one copied, and two are filled or fetched."""
WARM_UPS = 3

Call = Callable[[Tensor], Tensor]


def slots(example: Tensor, dimension: int, route: Route, count: int = SLOTS) -> list[Slot]:
    """Buffers for inputs like the example [rows, ...]; those for a GPU are pinned, so that copies need no processor."""
    pinned = route.device == "cuda"
    return [
        Slot(torch.zeros(example.shape, dtype=example.dtype, pin_memory=pinned),
             torch.zeros(len(example), dimension, pin_memory=pinned))
        for _ in range(count)
    ]


def engine(call: Call, example: Tensor, route: Route) -> Start:
    """What computes a slot by `call`, which takes inputs like the example and gives float32 [rows, dimension]."""
    return CudaEngine(call, example).start if route.device == "cuda" else lambda slot: computed_at_once(call, slot)


def computed_at_once(call: Call, slot: Slot) -> Callable[[], None]:
    """Computes a slot at once, in this thread; there is nothing to wait for."""
    with torch.inference_mode():
        slot.outputs.copy_(call(slot.inputs))
    return no_wait


def new_stream() -> torch.cuda.Stream:
    """A CUDA stream of the current device."""
    return torch.cuda.Stream()   # type: ignore[no-untyped-call]


def new_event() -> torch.cuda.Event:
    """A CUDA event whose time can be read, and whose wait blocks the thread instead of spinning."""
    return torch.cuda.Event(enable_timing=True, blocking=True)   # type: ignore[no-untyped-call]


class CudaEngine:
    """Copies on one stream, the tower on another, as one CUDA graph: a replay is one launch instead of hundreds."""

    def __init__(self, call: Call, example: Tensor) -> None:
        self._call = call
        self._copies, self._work = new_stream(), new_stream()
        self._inputs = example.to("cuda")
        self._arrivals: dict[int, Tensor] = {}
        self._graph: torch.cuda.CUDAGraph | None = None
        with torch.inference_mode(), torch.cuda.stream(self._work):
            for _ in range(WARM_UPS):
                expected = call(self._inputs)
            self._work.synchronize()
            self._outputs = expected
            self._capture(expected)

    def _capture(self, expected: Tensor) -> None:
        """Keeps the graph if it gives the bits that the calls one by one give."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._work):
                outputs = self._call(self._inputs)
            graph.replay()
            self._work.synchronize()
        except RuntimeError as error:   # a model that asks the host something on its way
            log.warning("this tower cannot be captured as a CUDA graph: %s", str(error).splitlines()[0])
            return
        if torch.equal(outputs, expected):
            self._graph, self._outputs = graph, outputs

    def start(self, slot: Slot) -> Callable[[], None]:
        """Enqueues everything; the slot must stay as it is until the wait that comes back is over."""
        arrival = self._arrivals.get(id(slot))
        if arrival is None:
            arrival = self._arrivals[id(slot)] = torch.empty_like(self._inputs)
            torch.cuda.synchronize()
        began, ended, copied, finished = (new_event() for _ in range(4))
        with torch.inference_mode(), torch.cuda.stream(self._copies):
            arrival.copy_(slot.inputs, non_blocking=True)
            copied.record()
        with torch.inference_mode(), torch.cuda.stream(self._work):
            self._work.wait_event(copied)
            began.record()
            self._inputs.copy_(arrival)
            if self._graph is not None:
                self._graph.replay()
            else:
                self._outputs = self._call(self._inputs)
            slot.outputs.copy_(self._outputs, non_blocking=True)
            ended.record()
            finished.record()

        def wait() -> None:
            finished.synchronize()
            slot.seconds = began.elapsed_time(ended) / 1000

        return wait
