"""Parts that are measured one after another: one that fails is told of, and the others go on."""

import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Part = Callable[[], Any]


def measured(parts: Mapping[str, Part], file: Path, about: Mapping[str, Any], seconds: float) -> bool:
    """Runs the parts, keeps the file up to date, prints each; True when none failed. What does not fit into `seconds` is left out
    by name."""
    found: dict[str, Any] = {"about": dict(about)}
    began, whole = time.monotonic(), True
    for name, part in parts.items():
        start = time.monotonic()
        if start - began > seconds:
            found[name] = {"left out": f"{seconds:g} s are over"}
            continue
        try:
            result = part()
        except Exception:  # noqa: BLE001 (any fault of one part must not cost the others' figures)
            result, whole = {"failed": traceback.format_exc()}, False
        found[name] = {"seconds": round(time.monotonic() - start, 1), "result": result}
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"== {name} ({time.monotonic() - start:.0f} s, at {time.monotonic() - began:.0f})", file=sys.stderr)
        print(json.dumps(result, indent=1).replace("\\n", "\n")[:3500], flush=True)
    return whole
