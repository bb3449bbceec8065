"""The process that holds an opened work and runs items. It imports little, for every worker pays for it at its start."""

import faulthandler
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import ray

from pipeline.distributed import ray_cluster as cluster
from pipeline.distributed.worker import WATCH
from pipeline.work import Facts, Place, Work, beats, rows_in_hand

if TYPE_CHECKING:
    from pipeline.distributed.agreement import Terms

DUMP_AFTER = 0.9
"""The part of the patience after which a process that gets nowhere writes where it is to its log, before it is ended."""


class ShardActor:
    """Holds one opened work in its own process."""

    def __init__(self, stall: float, device: str = "cuda") -> None:
        """`device`: torch's name of the one that is searched on where it has a GPU of its own."""
        has_one = bool(ray.get_runtime_context().get_accelerator_ids()["GPU"])
        if not has_one:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""   # Ray hides those of others only by default
        self._device = device if has_one else None
        self._searches_on: str | None = None
        self._stack = ExitStack()
        self._stall = stall
        self._lock = threading.Lock()
        self._running = False
        self._last_beats = 0

    def node_id(self) -> str:
        """Ray's id of the node that it runs on; the answer shows that the process is there."""
        return cluster.own_node()

    def answer(self, question: Callable[[Any], Any], about: Any) -> Any:
        """What a run asks of its machine before there is work. What was loaded for it stays for the works."""
        return question(about)

    def open(self, work: Work[Any], terms: Sequence[Any]) -> None:
        """Closes the work before and opens this one. `terms`: a reference to those of the run, if there are any; only a work that
        asks the model looks at them, for they bring torch. Raises RouteError where this node does not keep them."""
        self._stack.close()
        for ref in terms if work.place == Place.MODEL else ():
            agreed: Terms = ray.get(ref)
            if cluster.own_node() not in agreed.providers:
                agreed.check(agreed.route)
        self._search_on(self._device if work.place == Place.GPU else None)
        self._run = self._stack.enter_context(work.open())

    def run(self, item: Any) -> Facts:
        """What the opened work makes of an item; while it runs, an alarm is set that says where a hung process is."""
        self._arm(running=True)
        try:
            return self._run(item)
        finally:
            self._arm(running=False)

    def _search_on(self, device: str | None) -> None:
        if device != self._searches_on:
            from pipeline.search.kernels import use_device  # brings FAISS, which most works do without

            use_device(device)
            self._searches_on = device

    @ray.method(concurrency_group=WATCH)
    def beats(self) -> tuple[int, int]:
        """How often this process got somewhere, and how many rows of its item it has done. No answer: something holds Python, or
        the process is stopped."""
        count = beats()
        if count != self._last_beats:
            self._last_beats = count
            self._arm(running=self._running)
        return count, rows_in_hand() if self._running else 0

    def _arm(self, *, running: bool) -> None:
        """Sets the alarm anew while an item runs. It needs no Python: it also speaks when C code never comes back."""
        with self._lock:
            self._running = running
            if running:
                faulthandler.dump_traceback_later(self._stall * DUMP_AFTER)
            else:
                faulthandler.cancel_dump_traceback_later()
