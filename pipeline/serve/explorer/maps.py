"""The maps of the roots that are served: each drawn at its first request, in the background, then answered from memory."""

import threading
from dataclasses import dataclass, field

from pipeline.errors import ShardmillError
from pipeline.serve.explorer.drawing import Drawing
from pipeline.serve.problems import Refused
from pipeline.serve.roots.opened import OpenedRoot
from schemas.answers.serving import MapInWork


class RunMap:
    """The map of one publication of a root. Safe for many threads; holds the answer once it is drawn, 10 MB at most."""

    def __init__(self, root: OpenedRoot) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._drawing: Drawing | None = None
        self._answer: bytes | Refused | None = None

    def answer(self) -> bytes | MapInWork:
        """A SampleMap as JSON, or how long it has been in work: the first call begins it. Raises Refused, with the reason, where
        this root can have none."""
        with self._lock:
            if self._answer is None:
                self._drawing = self._drawing or Drawing(self._root.store.url)
                try:
                    self._answer = self._drawing.result()
                except ShardmillError as error:
                    self._answer = Refused(404, f"there is no map: {self._root.told(str(error))}", code="no_map")
                if self._answer is None:
                    return MapInWork(seconds=round(self._drawing.seconds, 1))
                self._drawing = None
            if isinstance(self._answer, Refused):
                raise self._answer
            return self._answer

    def close(self) -> None:
        """Ends what is in work."""
        with self._lock:
            if self._drawing is not None:
                self._drawing.close()
                self._drawing = None


@dataclass
class Maps:
    """Of each root the map of its newest publication that was asked for."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _maps: dict[str, tuple[str | None, RunMap]] = field(default_factory=dict)

    def of(self, root: OpenedRoot) -> RunMap:
        """The map of a root; that of its former publication is given up."""
        with self._lock:
            version, held = self._maps.get(root.name, (None, None))
            if held is None or version != root.version:
                if held is not None:
                    held.close()
                held = RunMap(root)
                self._maps[root.name] = root.version, held
            return held

    def close(self) -> None:
        """Ends what is in work."""
        with self._lock:
            for _, held in self._maps.values():
                held.close()
            self._maps.clear()
