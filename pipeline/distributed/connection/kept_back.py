"""What foreign code prints, by Python or past it, is kept back while something is tried."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

OUTPUTS = (1, 2)


@contextmanager
def kept_back() -> Iterator[None]:
    """Whatever is written to standard output and standard error meanwhile comes to standard error at the end of the block, and
    nowhere if that raised: the error says what matters."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    saved = {number: os.dup(number) for number in OUTPUTS}
    with tempfile.TemporaryFile() as file:
        for number in OUTPUTS:
            os.dup2(file.fileno(), number)
        try:
            yield
        finally:
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)
        file.seek(0)
        said = file.read()
        if said:
            os.write(2, said)
