"""SECURITY.md and the tests beside this file, and those of the service's requests, say the same."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
SERVICE = HERE.parent / "serve" / "test_bad_requests.py"
"""Where the service is."""
ROW = re.compile(r"^\| (.+) \| `(test_\w+)` \|$", re.MULTILINE)


def test_every_promise_has_its_test_and_every_test_its_promise() -> None:
    promised = [name for _, name in ROW.findall((HERE.parents[1] / "SECURITY.md").read_text(encoding="utf-8"))]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in [*HERE.glob("test_*.py"), SERVICE] if path != Path(__file__)]
    functions = [node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    tests = [name for name in functions if name.startswith("test_")]
    assert len(promised) == len(set(promised)) > 20
    assert sorted(promised) == sorted(tests)
