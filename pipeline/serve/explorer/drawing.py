"""A map in a process of its own: `python -m pipeline.serve.explorer.drawing URL FILE`. It takes up to a minute and some hundred
megabytes, which the service that answers others meanwhile should not spend; and it steps back behind that service.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.errors import ShardmillError
from pipeline.queries.rows.columns import RootColumns
from pipeline.root.existing import open_root, readable
from pipeline.select.stored import stored_ledger
from pipeline.serve.explorer.points import points
from pipeline.serve.explorer.sample_map import sample_map

POLITE = 10
"""Steps of niceness: the service's own threads come first."""


class Drawing:
    """The map of a root while it is drawn."""

    def __init__(self, url: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="shardmill-map-")
        self._file = Path(self._folder.name) / "map.json"
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, url, str(self._file)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True)

    @property
    def seconds(self) -> float:
        """Since it was begun."""
        return time.monotonic() - self._began

    def result(self) -> bytes | None:
        """A SampleMap as JSON, once; None while it is drawn. Raises ShardmillError, with the reason for people, where there can be
        none."""
        if self._process.poll() is None:
            return None
        said = self._process.communicate()[0]
        try:
            if self._process.returncode:
                raise ShardmillError(json.loads(said)["reason"] if said else "the process that draws the map was ended")
            return self._file.read_bytes()
        finally:
            self._folder.cleanup()

    def close(self) -> None:
        """Ends it."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


def main(url: str, file: str) -> int:
    """Draws the map of a root into a file; the reason why it cannot goes to standard output as JSON, with status 1."""
    os.nice(POLITE)
    try:
        plan = readable(open_root(url))
        answer = sample_map(points(RootColumns(plan)), stored_ledger(plan.root, plan.verdicts).read)
    except ShardmillError as error:
        print(json.dumps({"reason": str(error)}))
        return 1
    Path(file).write_text(answer.model_dump_json(exclude_unset=True), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
